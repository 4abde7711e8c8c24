"""The service's settings: one frozen value, from keyword arguments or the environment.

The docstring of :class:`Settings` documents each. Reading them starts nothing.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from rekognition_dagster.engine import SampleFps, parse_sample_fps
from rekognition_dagster.errors import ConfigurationError

DEFAULT_PORT = 8722
GIB = 1024**3
_POSITIVE = (
    *("lease_s", "poll_s", "job_life_s", "max_video_bytes", "max_video_ms", "max_pixels"),
    *("max_frames", "max_job_s", "max_memory_bytes", "stall_s"),
)


def default_store() -> str:
    """The folder of this user's jobs: ``REKOGNITION_DAGSTER_STORE``, else the platform's own."""
    chosen = os.environ.get("REKOGNITION_DAGSTER_STORE")
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

    Args:
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        store: Where jobs are kept: a folder (SQLite in it, results beside it), or an SQLAlchemy
            URL such as ``postgresql://user@host/db?results=s3://bucket/prefix``.
        results: Folder or ``s3://`` prefix for results; by default in the store's folder.
        scratch: Local folder for videos under analysis; by default in the store's folder.
        workers: Worker processes on this host, each with one job at a time. 0 serves the API only.
        detector: The engine's detector spec; none is the embedded default.
        sample_fps: Frames looked at per second of video, or ``auto``; none is every frame.
        ray: Address of the Ray cluster that does the work of the jobs; none is this host.
        analyzer: ``module:function`` that analyses one video, with the engine's signature.
        jobs_in_flight: Jobs in progress at once; above it ``LimitExceededException``.
        job_life_s: Seconds that results and idempotency tokens live after a job's end. For as long
            after Start, a job is tried again while something around it is at fault.
        lease_s: Seconds a worker holds a job without a heartbeat.
        attempts: Attempts that a video may make fail (a crash, a hang, a limit) before its job is
            FAILED.
        poll_s: Seconds between a worker's, and the publisher's, looks at the store.
        drain_s: Seconds that a job under way gets to finish when the service stops.
        credentials: File with the access keys that are accepted; without one, the key in the
            environment is.
        anonymous: Serve without checking who calls; on loopback only.
        region: The region that callers must sign for; none takes any.
        tls_cert: PEM file with the certificate chain; serves HTTPS.
        tls_key: PEM file with its private key.
        start_per_s: Start requests per second of each account and operation; none takes any.
        get_per_s: Get requests likewise. Above either, ``ProvisionedThroughputExceededException``.
        requests_at_once: Requests at work at once; above it ``ThrottlingException``.
        log_format: ``text`` or ``json``.
        max_video_bytes: Size above which Start says ``VideoTooLargeException``.
        max_video_ms: Duration in milliseconds above which a job is FAILED.
        max_pixels: Pixels of a frame above which a job is FAILED; by default the engine's limit,
            ``REKOGNITION_DAGSTER_MAX_PIXELS``.
        max_frames: Frames looked at above which a job is FAILED.
        max_job_s: Seconds that one attempt at a job may take.
        max_memory_bytes: Memory that one worker may use (on Linux); by default an equal share of
            80 % of what the machine or container has.
        stall_s: Seconds without progress after which a worker is killed.
        min_free_bytes: Free space on its disks below which a worker takes up no job.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    store: str = field(default_factory=default_store)
    results: str | None = None
    scratch: str | None = None
    workers: int = 1
    detector: str | None = None
    sample_fps: SampleFps = None
    ray: str | None = None
    analyzer: str = "rekognition_dagster.engine:analyze"
    jobs_in_flight: int = 20
    job_life_s: float = 7 * 24 * 3600.0
    lease_s: float = 30.0
    attempts: int = 3
    poll_s: float = 0.25
    drain_s: float = 25.0
    credentials: str | None = field(
        default_factory=lambda: os.environ.get("REKOGNITION_DAGSTER_CREDENTIALS")
    )
    anonymous: bool = False
    region: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    start_per_s: float | None = None
    get_per_s: float | None = None
    requests_at_once: int = 200
    log_format: str = "text"
    max_video_bytes: int = 10 * GIB
    max_video_ms: int = 6 * 3600 * 1000
    max_pixels: int | None = None
    max_frames: int = 6 * 3600 * 240
    max_job_s: float = 24 * 3600.0
    max_memory_bytes: int | None = None
    stall_s: float = 900.0
    min_free_bytes: int = 256 * 1024**2

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Settings from keyword arguments; None means the default.

        Raises:
            ConfigurationError: An unknown setting, or a value out of its range.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigurationError(
                f"the service has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}"
            )
        try:
            values["sample_fps"] = parse_sample_fps(values.get("sample_fps"))
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        settings = cls(**{k: v for k, v in values.items() if v is not None})
        for name, least in (("port", 0), ("workers", 0), ("jobs_in_flight", 1), ("attempts", 1)):
            if getattr(settings, name) < least:
                raise ConfigurationError(f"the setting {name!r} must be at least {least}")
        if settings.port > 65535:
            raise ConfigurationError("the setting 'port' must be at most 65535")
        for name in _POSITIVE:
            value = getattr(settings, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"the setting {name!r} must be positive")
        if settings.anonymous and not is_loopback(settings.host):
            raise ConfigurationError(
                f"without authentication the service listens on loopback only, not on "
                f"{settings.host}. Name a credentials file, or listen on 127.0.0.1"
            )
        if bool(settings.tls_cert) != bool(settings.tls_key):
            raise ConfigurationError("TLS needs both a certificate file and its key file")
        settings.results_url  # noqa: B018 - a store without a place for results fails at once
        return settings

    @property
    def _folder(self) -> Path | None:
        """The store's own folder, where it is one."""
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

            return sqlite_url(f"{self._folder}/jobs.sqlite")
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
        if self._folder is None:
            raise ConfigurationError(
                "a store in a database needs a place for results that every host reaches: "
                "add ?results=s3://bucket/prefix (or a shared folder) to the store's URL"
            )
        return str(self._folder / "results")

    @property
    def scratch_folder(self) -> Path:
        """Where videos are while they are analysed."""
        if self.scratch:
            return Path(self.scratch).expanduser().absolute()
        if self._folder is not None:
            return self._folder / "scratch"
        import tempfile

        return Path(tempfile.gettempdir()) / "rekognition-dagster"

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
