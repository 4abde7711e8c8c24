"""The running service: HTTP server, worker processes, publisher and upkeep, started and stopped.

``serve`` blocks until SIGTERM or SIGINT. Nothing here knows the protocol or the engine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette

from rekognition_dagster.errors import ConfigurationError, ModelError, RekognitionDagsterError
from rekognition_dagster.service.app import application
from rekognition_dagster.service.connection import KEEP_ALIVE_S, MAX_HEADER_BYTES, BoundedHttp
from rekognition_dagster.service.credentials import Credentials
from rekognition_dagster.service.jobs import Jobs
from rekognition_dagster.service.notifications import publish_forever
from rekognition_dagster.service.owners import is_dead_here, owner_name, scratch_prefix
from rekognition_dagster.service.results import Results
from rekognition_dagster.service.settings import Settings, is_loopback
from rekognition_dagster.service.store import JobStore
from rekognition_dagster.service.worker import READY

log = logging.getLogger(__name__)

_UPKEEP_S = 60.0


def serve_until_told(settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the service until SIGTERM or SIGINT, then let jobs under way finish for ``drain_s``.

    Args:
        settings: The service's settings.
        on_ready: Called with the URL once the port is bound, and a detector that was chosen is
            loaded.

    Raises:
        ConfigurationError: The port, the store, the place of results or the TLS files do not work.
        ModelError: The detector does not work.
    """
    credentials = None if settings.anonymous else Credentials(settings.credentials)
    store = JobStore(settings.database_url, job_life_s=settings.job_life_s)
    listener = _listen(settings.host, settings.port)
    results = Results(settings.results_url)
    _check_writable(settings, results)
    stop = threading.Event()
    crew = _Crew(settings, store, stop)
    app = application(Jobs(store, results, settings), credentials, crew.ready)
    server = uvicorn.Server(_http(settings, app))
    crew.on_failure = lambda: setattr(server, "should_exit", True)
    threads = [
        threading.Thread(
            target=publish_forever,
            args=(store, stop),
            kwargs={"poll_s": settings.poll_s, "life_s": settings.job_life_s, "now": time.time},
            name="publisher",
        ),
        threading.Thread(target=_upkeep, args=(store, results, stop), name="upkeep"),
        threading.Thread(target=crew.keep_up, name="crew"),
    ]
    for thread in threads:
        thread.start()
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if not settings.tls_cert and not is_loopback(settings.host):
        log.warning("listening beyond loopback without TLS: others can read what is sent")
    try:
        if settings.detector and settings.workers:
            crew.wait_for_a_worker()
        with _signals(crew):
            if not crew.failure:
                log.info("serving Rekognition Video", extra={"url": url})
                if on_ready is not None:
                    on_ready(url)
                server.run([listener])
    finally:
        crew.drain()
        stop.set()
        for thread in threads:
            thread.join()
        store.close()
        listener.close()
    if crew.failure:
        raise ModelError(crew.failure)


def _check_writable(settings: Settings, results: Results) -> None:
    """Write and remove a file where results go, and make the folder for videos under analysis.

    Raises:
        ConfigurationError: That does not work.
    """
    if not settings.workers:
        return
    probe = f".{secrets.token_hex(8)}"
    try:
        results.storage.write(probe, b"")
        results.storage.delete(probe)
    except (OSError, RekognitionDagsterError) as error:
        raise ConfigurationError(
            f"results cannot be written to {settings.results_url}: {error}. Check the address and "
            "its permissions, or choose another with --results"
        ) from error
    try:
        settings.scratch_folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=settings.scratch_folder).close()
    except OSError as error:
        raise ConfigurationError(
            f"videos under analysis cannot be written to {settings.scratch_folder}: "
            f"{error.strerror}. Choose another --store"
        ) from error


def _http(settings: Settings, app: Starlette) -> uvicorn.Config:
    """uvicorn's configuration.

    Raises:
        ConfigurationError: The TLS files cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=10,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        # Without one, OpenSSL would ask for the password of an encrypted key on the terminal.
        ssl_keyfile_password="none",
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"TLS with {settings.tls_cert} and {settings.tls_key} does not work: {error}. Both "
            "must be PEM files, belong together, and the key must have no password"
        ) from error
    return config


@contextlib.contextmanager
def _signals(crew: _Crew) -> Iterator[None]:
    """While the service stops, a further SIGTERM or SIGINT makes it stop at once.

    uvicorn raises the signal that stopped it once more when it is done, which must not end this
    process before its jobs are given back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(s, lambda *_: crew.hurry()) for s in signals]
    try:
        yield
    finally:
        for number, old in zip(signals, before, strict=True):
            signal.signal(number, old)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. "
            "Choose another address with --host or --port"
        ) from error
    return listener


class _Process:
    """A worker process, and what it has reported."""

    def __init__(self, settings: Settings):
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rekognition_dagster.service.worker", str(theirs)],
            stdin=subprocess.PIPE,
            text=True,
            pass_fds=[theirs],
        )
        os.close(theirs)
        assert self.process.stdin is not None
        self.stdin = self.process.stdin
        self.stdin.write(json.dumps(settings.as_dict()) + "\n")
        self.stdin.flush()
        self._report = b""

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def report(self) -> str:
        """Its report, once it is whole; empty before."""
        with contextlib.suppress(BlockingIOError, OSError):
            while not self._report.endswith(b"\n") and (more := os.read(self._pipe, 4096)):
                self._report += more
        return self._report.decode().strip() if self._report.endswith(b"\n") else ""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._pipe)


@dataclass
class _Crew:
    """The worker processes: kept at their number, and stopped in good order.

    Args:
        settings: The service's.
        store: Where the jobs are.
        stop: Set when the service ends.
        on_failure: Called when no worker can start at all; ``failure`` has the reason.
    """

    settings: Settings
    store: JobStore
    stop: threading.Event
    on_failure: Callable[[], None] = lambda: None
    failure: str = ""
    _workers: list[_Process] = field(default_factory=list)
    _has_worked: bool = False
    _draining: bool = False
    _hurried: bool = False

    def hurry(self) -> None:
        """Let nothing finish any more, if it is draining."""
        self._hurried = self._draining

    def alive(self) -> int:
        return sum(w.is_alive for w in list(self._workers))

    def ready(self) -> int:
        """Count the workers that have loaded their detector."""
        return sum(w.is_alive and w.report == READY for w in list(self._workers))

    def wait_for_a_worker(self) -> None:
        """Return once a worker is ready, or none can be."""
        while not (self._has_worked or self.failure or self.stop.is_set()):
            self.stop.wait(0.05)

    def keep_up(self) -> None:
        """Start workers, and others in the place of those that died."""
        quick_deaths = 0
        self._clean_after_the_last_time()
        while not self.stop.is_set() and not self._draining and not self.failure:
            self._has_worked = self._has_worked or self.ready() > 0
            dead = [w for w in self._workers if not w.is_alive]
            for worker in dead:
                self._bury(worker)
            quick_deaths = quick_deaths + 1 if dead else 0
            if quick_deaths > 3:
                self.stop.wait(min(2.0 ** (quick_deaths - 3), 30.0))
            while (
                len(self._workers) < self.settings.workers
                and not self._draining
                and not self.failure
            ):
                self._workers.append(_Process(self.settings))
            self.stop.wait(0.1)

    def _bury(self, worker: _Process) -> None:
        """Log why a worker died, and clean up after it; the first to report a fault ends it all."""
        pid, status = worker.process.pid, worker.process.returncode
        if worker.report not in ("", READY) and not self._has_worked:
            self.failure = worker.report
            self.on_failure()
        elif worker.report not in ("", READY):
            log.error("worker cannot start", extra={"worker": pid, "error": worker.report})
        else:
            log.error(
                "worker died; its job is taken up again", extra={"worker": pid, "status": status}
            )
        self._workers.remove(worker)
        self._clean_after(worker)

    def drain(self) -> None:
        """Let workers finish the job they are at, for ``drain_s``; then give those jobs back."""
        self._draining = True
        for worker in self._workers:
            worker.process.terminate()
        self._wait(self.settings.drain_s)
        for worker in self._workers:
            if worker.is_alive:
                worker.stdin.close()
        self._wait(5.0)
        for worker in self._workers:
            if worker.is_alive:
                worker.process.kill()
                worker.process.wait()
            self._clean_after(worker)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.alive() and time.monotonic() < end and not self._hurried:
            time.sleep(0.02)

    def _clean_after(self, worker: _Process) -> None:
        worker.close()
        pid = worker.process.pid
        name = owner_name().rpartition(":")[0] + f":{pid}"
        try:
            self.store.release_dead(lambda owner: owner == name)
        except Exception:
            log.exception("the lease of a dead worker was not released; it ends by itself")
        for left in self.settings.scratch_folder.glob(f"{scratch_prefix(pid)}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _clean_after_the_last_time(self) -> None:
        """What workers left that were killed together with their service."""
        try:
            self.store.release_dead(is_dead_here)
        except Exception:
            log.exception("leases of dead workers were not released; they end by themselves")
        ours = owner_name().rpartition(":")[0]
        for left in self.settings.scratch_folder.glob(f"{scratch_prefix().split('-')[0]}-*-*"):
            if is_dead_here(f"{ours}:{left.name.split('-')[1]}"):
                shutil.rmtree(left, ignore_errors=True)


def _upkeep(store: JobStore, results: Results, stop: threading.Event) -> None:
    """Remove results whose life is over."""
    while not stop.is_set():
        try:
            for job in store.expired():
                results.delete(job.job_id)
                store.forget(job.job_id)
        except Exception:
            log.exception("expired results were not removed; trying again")
        stop.wait(_UPKEEP_S)


def serve(
    host: str | None = None,
    port: int | None = None,
    store: str | None = None,
    *,
    workers: int | None = None,
    detector: str | None = None,
    on_ready: Callable[[str], None] | None = None,
    **more: Any,
) -> None:
    """Serve the Rekognition Video API until SIGTERM or SIGINT.

    S3 and SNS come from the usual AWS environment.

    Args:
        host: Address to listen on; loopback by default.
        port: TCP port; 0 takes a free one.
        store: Folder or SQLAlchemy URL of the jobs.
        workers: Worker processes.
        detector: The engine's detector spec.
        on_ready: Called with the URL once the port is bound, and a detector that was chosen is
            loaded.
        **more: Any other field of :class:`~rekognition_dagster.service.settings.Settings`.

    Raises:
        ConfigurationError: A setting is wrong, or the port or store does not work.
        ModelError: The detector does not work.
    """
    serve_until_told(
        Settings.of(host=host, port=port, store=store, workers=workers, detector=detector, **more),
        on_ready,
    )
