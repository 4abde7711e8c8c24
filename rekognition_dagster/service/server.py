"""The running service: HTTP server, worker processes, publisher and upkeep, started and stopped.

``serve`` blocks until SIGTERM or SIGINT. Nothing here knows the protocol or the engine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.service.app import application
from rekognition_dagster.service.connection import KEEP_ALIVE_S, MAX_HEADER_BYTES, BoundedHttp
from rekognition_dagster.service.credentials import Credentials
from rekognition_dagster.service.jobs import Jobs
from rekognition_dagster.service.notifications import publish_forever
from rekognition_dagster.service.owners import is_dead_here, owner_name, scratch_prefix
from rekognition_dagster.service.results import Results
from rekognition_dagster.service.settings import Settings, is_loopback
from rekognition_dagster.service.store import JobStore

log = logging.getLogger(__name__)

_UPKEEP_S = 60.0


def serve_until_told(settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the service until SIGTERM or SIGINT, then let jobs under way finish for ``drain_s``.

    Args:
        settings: The service's settings.
        on_ready: Told the URL once the port is bound.

    Raises:
        ConfigurationError: The port or the store cannot be had.
    """
    credentials = None if settings.anonymous else Credentials(settings.credentials)
    store = JobStore(settings.database_url, job_life_s=settings.job_life_s)
    listener = _listen(settings.host, settings.port)
    results = Results(settings.results_url)
    crew = _Crew(settings, store)
    stop = threading.Event()
    app = application(Jobs(store, results, settings), credentials, crew.alive)
    server = uvicorn.Server(_http(settings, app))
    threads = [
        threading.Thread(
            target=publish_forever,
            args=(store, stop),
            kwargs={"poll_s": settings.poll_s, "life_s": settings.job_life_s, "now": time.time},
            name="publisher",
        ),
        threading.Thread(target=_upkeep, args=(store, results, stop), name="upkeep"),
        threading.Thread(target=crew.keep_up, args=(stop,), name="crew"),
    ]
    for thread in threads:
        thread.start()
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if not settings.tls_cert and not is_loopback(settings.host):
        log.warning("listening beyond loopback without TLS: others can read what is sent")
    log.info("serving Rekognition Video", extra={"url": url})
    if on_ready is not None:
        on_ready(url)
    with _signals(crew):
        try:
            server.run([listener])
        finally:
            crew.drain()
            stop.set()
            for thread in threads:
                thread.join()
            store.close()
            listener.close()


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
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"TLS with {settings.tls_cert} and {settings.tls_key} does not work: {error}. Both "
            "must be PEM files, and belong together"
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


@dataclass
class _Crew:
    """The worker processes: kept at their number, and stopped in good order."""

    settings: Settings
    store: JobStore
    _workers: list[subprocess.Popen[str]] = field(default_factory=list)
    _draining: bool = False
    _hurried: bool = False

    def hurry(self) -> None:
        """Let nothing finish any more, if it is draining."""
        self._hurried = self._draining

    def alive(self) -> int:
        return sum(w.poll() is None for w in list(self._workers))

    def keep_up(self, stop: threading.Event) -> None:
        """Start workers, and others in the place of those that died."""
        quick_deaths = 0
        self._clean_after_the_last_time()
        while not stop.is_set() and not self._draining:
            dead = [w for w in self._workers if w.poll() is not None]
            for worker in dead:
                log.error(
                    "worker died; its job is taken up again",
                    extra={"worker": worker.pid, "status": worker.returncode},
                )
                self._workers.remove(worker)
                self._clean_after(worker)
            quick_deaths = quick_deaths + 1 if dead else 0
            if quick_deaths > 3:
                stop.wait(min(2.0 ** (quick_deaths - 3), 30.0))
            while len(self._workers) < self.settings.workers and not self._draining:
                self._workers.append(self._start())
            stop.wait(0.1)

    def drain(self) -> None:
        """Let workers finish the job they are at, for ``drain_s``; then give those jobs back."""
        self._draining = True
        for worker in self._workers:
            worker.terminate()
        self._wait(self.settings.drain_s)
        for worker in self._workers:
            if worker.poll() is None and worker.stdin is not None:
                worker.stdin.close()
        self._wait(5.0)
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
            self._clean_after(worker)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.alive() and time.monotonic() < end and not self._hurried:
            time.sleep(0.02)

    def _start(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "rekognition_dagster.service.worker"],
            stdin=subprocess.PIPE,
            text=True,
        )
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(self.settings.as_dict()) + "\n")
        worker.stdin.flush()
        return worker

    def _clean_after(self, worker: subprocess.Popen[str]) -> None:
        name = owner_name().rpartition(":")[0] + f":{worker.pid}"
        try:
            self.store.release_dead(lambda owner: owner == name)
        except Exception:
            log.exception("the lease of a dead worker was not released; it ends by itself")
        for left in self.settings.scratch_folder.glob(f"{scratch_prefix(worker.pid)}*"):
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
        on_ready: Told the URL once the port is bound.
        **more: Any other field of :class:`~rekognition_dagster.service.settings.Settings`.

    Raises:
        ConfigurationError: A setting is wrong, or the port or store cannot be had.
    """
    serve_until_told(
        Settings.of(host=host, port=port, store=store, workers=workers, detector=detector, **more),
        on_ready,
    )
