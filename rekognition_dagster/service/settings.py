"""The service's settings: one table, from keyword arguments, the command line or the environment.

Each field of :class:`Settings` carries its description and its range. The command line, the checks
and the table in docs/service.md come from it. Reading settings starts nothing.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from rekognition_dagster.engine import SampleFps, parse_sample_fps
from rekognition_dagster.engine.specs import SPECS
from rekognition_dagster.errors import ConfigurationError

DEFAULT_PORT = 8722
GIB = 1024**3
_PREFIX = "REKOGNITION_DAGSTER_"
_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """One setting, as the command line and the documentation show it.

    Args:
        help: What it means: sentences.
        name: The field of :class:`Settings`.
        type: The value's type; ``object`` for the sampling rate.
        option: The command line's option.
        default: The default; None where it depends on the machine or there is none.
        otherwise: What applies without it, where ``default`` does not say so.
        environment: The variable that sets it, without ``REKOGNITION_DAGSTER_``.
        least: The lowest value.
        most: The highest value.
        above: The value that it must exceed.
        choices: The only values.
        metavar: The value's name in the help.
    """

    help: str
    name: str = ""
    type: type = str
    option: str = ""
    default: Any = None
    otherwise: str | None = None
    environment: str | None = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None

    @property
    def default_text(self) -> str:
        """The default, for people."""
        if self.otherwise is not None:
            return self.otherwise
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        if isinstance(self.default, int):
            return str(self.default) if self.name == "port" else f"{self.default:,}"
        if isinstance(self.default, float):
            return f"{self.default:,g}"
        return str(self.default or "none")

    def check(self, value: Any) -> None:
        """Check a value.

        Raises:
            ConfigurationError: It is out of its range.
        """
        if value is None:
            return
        wrong = None
        if self.choices and value not in self.choices:
            wrong = f"one of {', '.join(self.choices)}"
        elif self.least is not None and not value >= self.least:
            wrong = f"at least {self.least:g}"
        elif self.most is not None and not value <= self.most:
            wrong = f"at most {self.most:g}"
        elif self.above is not None and not value > self.above:
            wrong = f"more than {self.above:g}"
        if wrong:
            raise ConfigurationError(f"the setting {self.name!r} must be {wrong}")


def _setting(default: Any, help: str, **more: Any) -> Any:  # noqa: A002
    metadata = {_KEY: Setting(help, **more)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def default_store() -> str:
    """The folder of this user's jobs: ``REKOGNITION_DAGSTER_STORE``, else the platform's own."""
    chosen = os.environ.get(f"{_PREFIX}STORE")
    if chosen:
        return chosen
    if sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return str(data / "rekognition-dagster" / "service")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    :func:`table` lists the settings, and so do ``rekognition-dagster serve --help`` and
    docs/service.md.
    """

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(DEFAULT_PORT, "TCP port; 0 takes a free one.", least=0, most=65535)
    store: str = _setting(
        default_store,
        "Where jobs are kept: a folder (SQLite in it, results beside it), or an SQLAlchemy URL such"
        " as postgresql+psycopg://user@host/db?results=s3://bucket/prefix.",
        otherwise="a folder in the user's data folder",
        environment="STORE",
        metavar="DIR|URL",
    )
    results: str | None = _setting(
        None,
        "Folder or s3://bucket/prefix for results.",
        otherwise="in the store's folder",
        metavar="DIR|URL",
    )
    scratch: str | None = _setting(
        None,
        "Local folder for videos under analysis. It must belong to the service's user.",
        otherwise="in the store's folder, else in the temporary folder",
        metavar="DIR",
    )
    workers: int = _setting(
        1,
        "Worker processes on this host, each with one job at a time; 0 serves the API only.",
        least=0,
    )
    detector: str | None = _setting(
        None,
        f"What finds people and labels: {SPECS}.",
        otherwise="the embedded detector",
        metavar="SPEC",
    )
    sample_fps: SampleFps = _setting(  # noqa: RUF009 - a field, as the others are
        None,
        "Frames analysed per second of video, or auto: as many as the scene needs.",
        otherwise="every frame",
        metavar="F|auto",
    )
    ray: str | None = _setting(
        None,
        "Address of the Ray cluster that does the jobs' work; its nodes fetch the videos.",
        otherwise="this host",
        metavar="ADDRESS",
    )
    analyzer: str = _setting(
        "rekognition_dagster.engine:analyze",
        "Python function that analyses one video, with the engine's signature.",
        metavar="MODULE:FUNCTION",
    )
    jobs_in_flight: int = _setting(
        20,
        "Jobs of each account in progress at once, over all hosts of a store; above it Start ends"
        " in LimitExceededException.",
        least=1,
    )
    job_life_s: float = _setting(
        7 * 24 * 3600.0,
        "Seconds that results and idempotency tokens live after a job's end. For as long after its"
        " Start, a job is tried again while something around it is at fault.",
        above=0,
    )
    lease_s: float = _setting(
        30.0, "Seconds that a worker holds a job without a heartbeat.", above=0
    )
    attempts: int = _setting(
        3,
        "Attempts that a video may make fail (a crash, a hang, a limit) before its job is FAILED.",
        least=1,
    )
    poll_s: float = _setting(
        0.25, "Seconds between two queries of the store for new jobs or announcements.", above=0
    )
    drain_s: float = _setting(
        25.0, "Seconds that jobs under way get to finish on SIGTERM.", least=0
    )
    credentials: str | None = _setting(
        lambda: os.environ.get(f"{_PREFIX}CREDENTIALS"),
        "File with the access keys that are accepted.",
        otherwise="the environment's own key",
        environment="CREDENTIALS",
        metavar="FILE",
    )
    anonymous: bool = _setting(
        False, "Serve without checking who calls; on loopback only.", option="--no-auth"
    )
    operators: str = _setting(
        "127.0.0.0/8, ::1",
        "Addresses and networks, separated by commas, that may read /metrics and the reasons in"
        " /ready.",
        metavar="NETWORKS",
    )
    operator_token: str | None = _setting(
        None,
        "File with a token; a request with it as 'Authorization: Bearer' reads them from anywhere.",
        metavar="FILE",
    )
    region: str | None = _setting(
        None, "The AWS region that callers must sign for.", otherwise="any"
    )
    tls_cert: str | None = _setting(
        None,
        "PEM file with the certificate chain; serves HTTPS. It is read again when it changes.",
        metavar="FILE",
    )
    tls_key: str | None = _setting(None, "PEM file with its private key.", metavar="FILE")
    start_per_s: float | None = _setting(
        None,
        "Start requests per second of each account and operation; above it"
        " ProvisionedThroughputExceededException.",
        otherwise="no limit",
        above=0,
    )
    get_per_s: float | None = _setting(
        None, "Get requests per second likewise.", otherwise="no limit", above=0
    )
    requests_at_once: int = _setting(
        200, "Requests at work at once; above it ThrottlingException.", least=1
    )
    connections_at_once: int = _setting(
        4096,
        "Open connections; above it the oldest one without a complete request is closed. Half of"
        " the process's limit of open files, where that is less.",
        least=8,
    )
    log_format: str = _setting(
        "text", "text for people, json for collectors.", choices=("text", "json")
    )
    max_video_bytes: int = _setting(
        10 * GIB, "Size of a video above which Start ends in VideoTooLargeException.", above=0
    )
    max_video_ms: int = _setting(
        6 * 3600 * 1000, "Milliseconds of a video above which its job is FAILED.", above=0
    )
    max_pixels: int | None = _setting(
        None,
        "Pixels of a frame above which a job is FAILED.",
        otherwise="64,000,000",
        environment="MAX_PIXELS",
        above=0,
    )
    max_frames: int = _setting(
        6 * 3600 * 240, "Analysed frames of a video above which its job is FAILED.", above=0
    )
    max_job_s: float = _setting(24 * 3600.0, "Seconds that one attempt at a job may take.", above=0)
    max_memory_bytes: int | None = _setting(
        None,
        "Memory that one worker may use, on Linux.",
        otherwise="an equal share of 80 % of the machine's or container's memory",
        above=0,
    )
    stall_s: float = _setting(
        900.0, "Seconds without progress after which a worker is killed.", above=0
    )
    min_free_bytes: int = _setting(
        256 * 1024**2, "Free space on its disks below which a worker takes up no job.", least=0
    )

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Settings from keyword arguments; None means the default.

        Raises:
            ConfigurationError: An unknown setting, or a value out of its range.
        """
        known = {s.name: s for s in table()}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigurationError(
                f"the service has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}"
            )
        try:
            values["sample_fps"] = parse_sample_fps(values.get("sample_fps"))
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        settings = cls(**{k: v for k, v in values.items() if v is not None})
        for name, setting in known.items():
            setting.check(getattr(settings, name))
        if settings.anonymous and not is_loopback(settings.host):
            raise ConfigurationError(
                f"without authentication the service listens on loopback only, not on "
                f"{settings.host}. Name a credentials file, or listen on 127.0.0.1"
            )
        if bool(settings.tls_cert) != bool(settings.tls_key):
            raise ConfigurationError("TLS needs both a certificate file and its key file")
        region = settings.region
        if region is not None and not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-\d+", region):
            raise ConfigurationError(
                f"the setting 'region' is {region!r}; write a region such as eu-central-1"
            )
        settings.results_url  # noqa: B018 - a store without a place for results fails at once
        return settings

    @property
    def folder(self) -> Path | None:
        """The folder of the store's files; None for a database server."""
        if "://" not in self.store or self.store.startswith("file://"):
            return Path(self.store.removeprefix("file://")).expanduser().absolute()
        if self.store.startswith("sqlite"):
            from rekognition_dagster.database import sqlite_path

            return sqlite_path(self.store).expanduser().absolute().parent
        return None

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the store."""
        if "://" not in self.store or self.store.startswith("file://"):
            from rekognition_dagster.database import sqlite_url

            return sqlite_url(f"{self.folder}/jobs.sqlite")
        address, _, query = self.store.partition("?")
        rest = "&".join(p for p in query.split("&") if p and not p.startswith("results="))
        return f"{address}?{rest}" if rest else address

    @property
    def results_url(self) -> str:
        """Where results are: a folder or ``s3://bucket/prefix``.

        Raises:
            ConfigurationError: The store is no folder and names no place for results.
        """
        if self.results:
            return self.results
        in_url = dict(parse_qsl(urlsplit(self.store).query)).get("results")
        if in_url:
            return in_url
        if self.folder is None:
            raise ConfigurationError(
                "a store in a database needs a place for results that every host reaches: "
                "add ?results=s3://bucket/prefix (or a shared folder) to the store's URL"
            )
        return str(self.folder / "results")

    @property
    def scratch_folder(self) -> Path:
        """Where videos are while they are analysed."""
        if self.scratch:
            return Path(self.scratch).expanduser().absolute()
        if self.folder is not None:
            return self.folder / "scratch"
        import tempfile

        return Path(tempfile.gettempdir()) / f"rekognition-dagster-service-{os.getuid()}"

    @property
    def memory_bytes_of_worker(self) -> int:
        """Memory that one worker may use."""
        return self.max_memory_bytes or int(0.8 * _memory_bytes() / max(self.workers, 1))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, to hand to a worker process."""
        return asdict(self)


@functools.cache
def _memory_bytes() -> int:
    """The memory of this machine, or of the container where that has less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no such limit
        return machine
    return min(machine, limit)


@functools.cache
def table() -> tuple[Setting, ...]:
    """Return every setting, in the order of the fields of :class:`Settings`."""
    return tuple(_rows())


def _rows() -> Iterator[Setting]:
    for each in fields(Settings):
        row: Setting = each.metadata[_KEY]
        yield replace(
            row,
            name=each.name,
            option=row.option or f"--{each.name.replace('_', '-')}",
            type=_TYPES.get(str(each.type).removesuffix(" | None"), object),
            default=None if each.default is MISSING else each.default,
        )


_TYPES = {"bool": bool, "float": float, "int": int, "str": str}

ENVIRONMENT = tuple(s.environment for s in table() if s.environment)
"""The settings' variables, without ``REKOGNITION_DAGSTER_``."""
