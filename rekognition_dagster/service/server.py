"""The running service: HTTP server, worker processes, publisher and upkeep, started and stopped.

``serve`` blocks until SIGTERM or SIGINT. Workers are in ``crew``. Nothing here knows the protocol
or the engine.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

from rekognition_dagster.errors import ConfigurationError, ModelError, RekognitionDagsterError
from rekognition_dagster.service.app import application
from rekognition_dagster.service.connection import KEEP_ALIVE_S, MAX_HEADER_BYTES, BoundedHttp
from rekognition_dagster.service.credentials import Credentials
from rekognition_dagster.service.crew import Crew
from rekognition_dagster.service.folders import prepare_scratch, prepare_store, private_files
from rekognition_dagster.service.jobs import Jobs
from rekognition_dagster.service.listener import Listener, listen, raise_open_files
from rekognition_dagster.service.notifications import Publisher
from rekognition_dagster.service.objects import load_s3_client
from rekognition_dagster.service.probes import health_of
from rekognition_dagster.service.results import Results
from rekognition_dagster.service.settings import Settings, is_loopback
from rekognition_dagster.service.store import JobStore
from rekognition_dagster.service.tls import Certificate

log = logging.getLogger(__name__)

_UPKEEP_S = 60.0
_JOIN_S = 20.0
_DATABASE_S = 4.0
"""Seconds that a request waits for the database; a Start has 10 s in all, half of them for S3."""


def serve_until_told(settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the service until SIGTERM or SIGINT, then let jobs under way finish for ``drain_s``.

    Args:
        settings: The service's settings.
        on_ready: Called with the URL once the port is bound, and a detector that was chosen is
            loaded.

    Raises:
        ConfigurationError: The port, the store, the place of results or the TLS files do not work.
        ModelError: The detector does not work.
        RuntimeError: A part of the service that it cannot do without has ended.
    """
    with private_files():
        _serve(settings, on_ready)


def _serve(settings: Settings, on_ready: Callable[[str], None] | None) -> None:
    prepare_store(settings)
    credentials = None if settings.anonymous else Credentials(settings.credentials)
    store = JobStore(settings.database_url, job_life_s=settings.job_life_s, wait_s=_DATABASE_S)
    files = raise_open_files()
    listener = listen(settings.host, settings.port, min(settings.connections_at_once, files // 2))
    results = Results(settings.results_url)
    _check_writable(settings, results)
    load_s3_client()
    stop = threading.Event()
    health = health_of(settings, store, results)
    for part in health.probes:
        health.probe(part)
    crew = Crew(settings, store, health, stop)
    app = application(Jobs(store, results, settings, health), credentials, crew.ready)
    certificate = Certificate.of(settings)
    server = uvicorn.Server(_http(app, listener, certificate, files))
    ended: list[BaseException] = []

    def end(error: BaseException | None = None) -> None:
        if error is not None:
            ended.append(error)
        server.should_exit = True

    crew.on_failure = end
    publisher = Publisher(store, life_s=settings.job_life_s, poll_s=settings.poll_s)
    threads = [
        _vital("publisher", lambda: publisher.run(stop), end),
        _vital("upkeep", lambda: _upkeep(store, results, stop), end),
        _vital("crew", crew.keep_up, end),
        *([_vital("tls", lambda: certificate.watch(stop), end)] if certificate else []),
        *(_vital(part, functools.partial(health.watch, part, stop), end) for part in health.probes),
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
            if not crew.failure and not ended:
                log.info("serving Rekognition Video", extra={"url": url})
                if on_ready is not None:
                    on_ready(url)
                server.run([listener])
    finally:
        crew.drain()
        stop.set()
        for thread in threads:  # one that waits for the network must not keep the process
            thread.join(_JOIN_S)
        store.close()
        listener.close()
    if crew.failure:
        raise ModelError(crew.failure)
    if ended:
        raise RuntimeError("the service cannot go on without what has ended") from ended[0]


def _vital(
    name: str, work: Callable[[], None], end: Callable[[BaseException], None]
) -> threading.Thread:
    """A thread that the service cannot do without: if it fails, the process ends.

    A supervisor then starts a new one, which a service that only seems to run does not get.
    """

    def run() -> None:
        try:
            work()
        except BaseException as error:
            log.critical("the service ends: %s has failed", name, exc_info=error)
            end(error)

    return threading.Thread(target=run, name=name, daemon=True)


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
        tempfile.TemporaryFile(dir=prepare_scratch(settings)).close()
    except OSError as error:
        raise ConfigurationError(
            f"videos under analysis cannot be written to {settings.scratch_folder}: "
            f"{error.strerror}. Choose another --store"
        ) from error


def _http(
    app: Starlette, listener: Listener, certificate: Certificate | None, files: int
) -> uvicorn.Config:
    """uvicorn's configuration."""
    config = uvicorn.Config(
        app,
        http=type("Http", (BoundedHttp,), {"trust": listener.trust}),
        loop="asyncio",  # which takes connections from the listener
        backlog=min(2048, files // 4),  # so many are accepted at once
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=10,
    )
    config.load()
    config.ssl = certificate and certificate.context
    return config


@contextlib.contextmanager
def _signals(crew: Crew) -> Iterator[None]:
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


def _upkeep(store: JobStore, results: Results, stop: threading.Event) -> None:
    """Remove jobs and results whose life is over."""
    while not stop.is_set():
        try:
            remove_expired(store, results, stop)
        except Exception:
            log.exception("expired results were not removed; trying again")
        stop.wait(_UPKEEP_S)


def remove_expired(store: JobStore, results: Results, stop: threading.Event) -> None:
    """Remove all that is expired; what cannot be removed stays, and stops nothing else."""
    last = ""
    while (jobs := store.expired(after=last)) and not stop.is_set():
        for job in jobs:
            last = job.job_id
            try:
                results.delete(job.job_id)
                store.forget(job.job_id)
            except Exception:
                log.exception("expired results were not removed", extra={"job_id": job.job_id})


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
