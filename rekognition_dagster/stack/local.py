"""The local stack: what AWS is to a deployment, on loopback, and the deployment's Dagster.

S3, SNS and SQS are moto's server, a process of its own; Rekognition is this project's service. What
is in S3, SNS and SQS ends with the stack, so a start provisions anew and fills the bucket again
from ``videos/``; jobs, lake and Dagster's home stay in the stack's home.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import socket
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from rekognition_dagster.engine import SampleFps
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake import Lake
from rekognition_dagster.stack import dagster_home
from rekognition_dagster.stack.processes import Process, StackError
from rekognition_dagster.stack.videos import VideoFolder
from rekognition_dagster.videos import Video

if TYPE_CHECKING:
    from rekognition_dagster.orchestration.settings import Settings
    from rekognition_dagster.state import State

REGION = "us-east-1"
DEFAULT_HOME = Path(".rekognition-dagster")
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
_CODE_SERVER = "Dagster's code server"
_START_S = 60.0
_LOCK_S = 20.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LocalStack:
    """S3, SNS, SQS and the service, running while the ``with`` block does.

    Example:
        >>> with LocalStack("home") as stack:  # doctest: +SKIP
        ...     stack.put("lobby.mp4")
        ...     stack.start_daemon()

    Args:
        home: Folder of all that it keeps; made if missing, used by one stack at a time.
        name: The deployment's name, the prefix of topic and queues.
        bucket: The bucket of the videos.
        detector: The service's detector spec; none is the embedded default.
        sample_fps: Frames the service looks at per second of video, or ``auto``; none is every.
        settings: More settings of the pipeline, by environment variable.

    Raises:
        StackError: A process does not start; its log's last lines are in the text.
        ConfigurationError: The home is in use, or cannot be written.
    """

    def __init__(
        self,
        home: str | Path = DEFAULT_HOME,
        *,
        name: str = "rekognition-dagster",
        bucket: str = "videos",
        detector: str | None = None,
        sample_fps: SampleFps = None,
        settings: Mapping[str, str] | None = None,
    ):
        self.home = Path(home).expanduser().absolute()
        self.name, self.bucket = name, bucket
        self._detector, self._sample_fps = detector, sample_fps
        self._settings = dict(settings or {})
        self._endpoints: dict[str, str] = {}
        self._provisioned: dict[str, str] = {}
        self._processes: list[Process] = []
        self._lock: IO[bytes] | None = None
        self.videos = VideoFolder(self.home / "videos")

    # -- what there is ------------------------------------------------------------------------

    @property
    def lake(self) -> Lake:
        """The lake that the pipeline writes."""
        return Lake(self.home / "lake")

    @property
    def catalogue(self) -> Path:
        """The DuckDB file with a view per table."""
        return self.home / "lake.duckdb"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own folder."""
        return self.home / "dagster"

    @property
    def processes(self) -> list[Process]:
        """What has been started, in that order."""
        return list(self._processes)

    def environment(self) -> dict[str, str]:
        """The variables that make any AWS SDK, and the pipeline, use this stack."""
        return {
            **_CREDENTIALS,
            **self._endpoints,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # Nothing of the user's own account may leak in, and loopback needs no proxy.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            **_no_proxy(),
            "REKOGNITION_DAGSTER_CAMERA_PATTERN": os.environ.get(
                "REKOGNITION_DAGSTER_CAMERA_PATTERN", "{any}/{camera}"
            ),
            "REKOGNITION_DAGSTER_SENSOR_INTERVAL": "5",
            "REKOGNITION_DAGSTER_DAYS_QUIET_MINUTES": "0",
            **self._settings,
            "REKOGNITION_DAGSTER_NAME": self.name,
            "REKOGNITION_DAGSTER_BUCKET": self.bucket,
            "REKOGNITION_DAGSTER_LAKE": self.lake.url,
            "REKOGNITION_DAGSTER_CATALOGUE": str(self.catalogue),
            **self._provisioned,
            "DAGSTER_HOME": str(self.dagster_home),
        }

    def endpoint(self, service: str = "") -> str:
        """The URL of a service, e.g. ``rekognition``; of S3, SNS and SQS where none is named."""
        general = self._endpoints["AWS_ENDPOINT_URL"]
        return self._endpoints.get(f"AWS_ENDPOINT_URL_{service.upper()}", general)

    @property
    def environment_file(self) -> Path:
        """A file with :meth:`environment` and the pipeline's other settings, for a shell."""
        return self.home / "environment"

    def _write_environment(self) -> None:
        from rekognition_dagster.orchestration.settings import ENVIRONMENT_PREFIX

        settings = {k: v for k, v in os.environ.items() if k.startswith(ENVIRONMENT_PREFIX)}
        variables = {**settings, **self.environment()}
        text = "".join(f"{k}={shlex.quote(v)}\n" for k, v in sorted(variables.items()))
        self.environment_file.touch(mode=0o600)
        self.environment_file.write_text(text)

    def process_environment(self) -> dict[str, str]:
        """:meth:`environment` in the place of whatever AWS settings this process has."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        return {**kept, **self.environment()}

    def pipeline_settings(self) -> Settings:
        """The pipeline's settings as its processes read them.

        Raises:
            ConfigurationError: One is wrong; the text names its variable.
        """
        from rekognition_dagster.orchestration.settings import Settings

        return Settings.from_env(self.process_environment())

    def pipeline_state(self) -> State:
        """The state that the pipeline's processes keep."""
        from rekognition_dagster.state import open_state
        from rekognition_dagster.state.store import sqlite_url

        url = self.pipeline_settings().state or sqlite_url(self.dagster_home, self.name)
        return open_state(url, self.name)

    def session(self) -> Any:
        """A boto3 session whose clients use this stack, whatever the environment says."""
        return _session(self._endpoints)

    # -- life ---------------------------------------------------------------------------------

    def __enter__(self) -> LocalStack:
        self.pipeline_settings()  # a wrong one fails before anything starts
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._lock = (self.home / ".lock").open("wb")
        except OSError as error:
            raise ConfigurationError(
                f"{self.home} cannot be the stack's home: {error.strerror}. Choose another"
            ) from error
        try:
            _take(self._lock, self.home)
            had_runs = dagster_home.prepare(self.dagster_home)
            self._start_aws()
            self._provision()
            for path, key in self.videos.files():
                self._upload(path, key)
            self._start_service()
            self._write_environment()
            if had_runs:
                self._announce_again()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop what was started, the last first. Can be repeated."""
        while self._processes:
            self._processes.pop().stop()
        if self._lock:
            self._lock.close()
            self._lock = None

    def check(self) -> None:
        """Raise StackError if a process has died."""
        for process in self._processes:
            process.check()

    # -- videos -------------------------------------------------------------------------------

    def put(self, path: str | Path, name: str | None = None) -> Video:
        """Put a video into the bucket, now and at each later start of this home.

        Args:
            path: The file.
            name: The last part of its key; the file's name by default.
        """
        return self._upload(*self.videos.add(Path(path), name))

    def put_new(self) -> list[Video]:
        """Put what was dropped into ``videos/`` since; files still being written wait."""
        return [self._upload(path, key) for path, key in self.videos.settled_since()]

    def _upload(self, path: Path, key: str) -> Video:
        from rekognition_dagster.backfill import locate

        s3 = self.session().client("s3")
        s3.upload_file(str(path), self.bucket, key)
        return locate(Video(self.bucket, key), s3)

    # -- processes ----------------------------------------------------------------------------

    def start_daemon(self) -> Process:
        """Start the Dagster daemon on the pipeline's definitions; sensors and schedules run."""
        return self._start(
            "the Dagster daemon",
            [_script("dagster-daemon"), "run", "-w", str(self._workspace())],
            log="daemon.log",
        )

    def start_webserver(self, port: int = 0) -> str:
        """Start Dagster's web server and wait until it answers; its URL."""
        port = _free_port(port)
        server = self._start(
            "Dagster's web server",
            [
                *(sys.executable, "-m", "dagster_webserver", "-w", str(self._workspace())),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            log="webserver.log",
        )
        url = f"http://127.0.0.1:{port}"
        server.wait_for(lambda: _answers(f"{url}/server_info"), "answered", 2 * _START_S)
        return url

    def _workspace(self) -> Path:
        """A workspace file that names the stack's code server, which the first call starts.

        A daemon that loads the module by itself starts a new code server every minute.
        """
        workspace = self.dagster_home / "workspace.yaml"
        if any(p.name == _CODE_SERVER for p in self._processes):
            return workspace
        port, location = _free_port(), dagster_home.DEFINITIONS
        server = self._start(
            _CODE_SERVER,
            [
                *(_script("dagster"), "api", "grpc", "-h", "127.0.0.1", "-p", str(port)),
                *("-m", location, "--location-name", location),
            ],
            log="code-server.log",
            grace_s=1.0,  # it waits for calls that no daemon makes any more
        )
        server.wait_for(lambda: _listens(port), "listened", _START_S)
        workspace.write_text(dagster_home.workspace(port))
        return workspace

    def _start_aws(self) -> None:
        for attempt in (1, 2, 3):
            port = _free_port()  # another process may take it before moto does: then once more
            moto = self._start(
                "moto's server (S3, SNS, SQS)",
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                log="aws.log",
                grace_s=2.0,
            )
            url = f"http://127.0.0.1:{port}"
            try:
                moto.wait_for(lambda url=url: _answers(f"{url}/moto-api/"), "answered", _START_S)
            except StackError:
                if attempt == 3 or "in use" not in moto.output():
                    raise
                self._processes.remove(moto)
            else:
                self._endpoints["AWS_ENDPOINT_URL"] = url
                return

    def _provision(self) -> None:
        from rekognition_dagster.api import provision

        session = self.session()
        session.client("s3").create_bucket(Bucket=self.bucket)
        self._provisioned = provision(session, self.name).environment()

    @property
    def _service_store(self) -> str:
        return str(self.home / "service")

    def _start_service(self) -> None:
        command = [sys.executable, "-m", "rekognition_dagster.service", "--port", "0"]
        command += ["--store", self._service_store]
        command += ["--detector", self._detector] if self._detector else []
        command += ["--sample-fps", str(self._sample_fps)] if self._sample_fps else []
        service = self._start("the Rekognition service", command, log="service.log")
        url = service.wait_for(lambda: _printed_url(service.output()), "listened", _START_S)
        service.wait_for(lambda: _answers(f"{url}/health"), "answered", _START_S)
        self._endpoints["AWS_ENDPOINT_URL_REKOGNITION"] = url

    def _announce_again(self) -> None:
        from rekognition_dagster.service.settings import Settings
        from rekognition_dagster.service.store import JobStore
        from rekognition_dagster.stack.recovery import announce_again

        settings = self.pipeline_settings()
        assert settings.topic_arn is not None
        store = JobStore(Settings.of(store=self._service_store).database_url)
        sns = self.session().client("sns")
        announce_again(
            self.pipeline_state(), store, sns, settings.topic_arn, settings.operation_list
        )
        store.close()

    def _start(self, name: str, command: list[str], *, log: str, grace_s: float = 5.0) -> Process:
        process = Process(
            name,
            command,
            env=self.process_environment(),
            log=self.home / "logs" / log,
            grace_s=grace_s,
            held=self._lock,
        )
        self._processes.append(process)
        return process


def _session(endpoints: Mapping[str, str]) -> Any:
    import boto3
    import botocore.session
    from botocore.config import Config

    class LoopbackSession(boto3.Session):
        def client(self, service_name: str, *args: Any, **options: Any) -> Any:  # type: ignore[override]
            own = endpoints.get(f"AWS_ENDPOINT_URL_{service_name.upper()}")
            options.setdefault("endpoint_url", own or endpoints["AWS_ENDPOINT_URL"])
            options.setdefault("config", Config(proxies={}))
            return super().client(service_name, *args, **options)

    # No variable and no file names these: a user's AWS_PROFILE is of no concern here.
    ignored = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    return LoopbackSession(
        aws_access_key_id=_CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
        botocore_session=botocore.session.Session(session_vars=ignored),
    )


def _take(lock: IO[bytes], home: Path) -> None:
    """Lock the home. Processes of a starter that was killed hold it for some seconds more."""
    end = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise ConfigurationError(
                    f"{home} is in use by another demo or dev: stop that one, or choose another "
                    "folder with --home"
                ) from None
            time.sleep(0.1)


def _script(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts")) / name)


def _free_port(port: int = 0) -> int:
    """The port, if nothing listens on it; any free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigurationError(
                f"port {port} is not available: {error.strerror}. Choose another with --port; 0 "
                "takes a free one"
            ) from None
        return probe.getsockname()[1]


def _answers(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=2.0) as answer:
            return answer.status == 200
    except OSError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _printed_url(output: str) -> str | None:
    found = re.search(r"^(http://\S+)$", output, re.MULTILINE)
    return found[1] if found else None


def _no_proxy() -> dict[str, str]:
    direct = "127.0.0.1,localhost"
    return {
        name: ",".join(filter(None, (os.environ.get(name), direct)))
        for name in ("NO_PROXY", "no_proxy")
    }
