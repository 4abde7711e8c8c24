"""The HTTP face of the service: one POST for every operation, and the pages for operators.

Protocol in, protocol out: who calls, what for, and how errors look. What an operation does is told
in ``jobs``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rekognition_dagster.service import signing
from rekognition_dagster.service.connection import TRUST
from rekognition_dagster.service.credentials import ANYONE, Credentials
from rekognition_dagster.service.faults import reason_of
from rekognition_dagster.service.jobs import Jobs
from rekognition_dagster.service.limits import Admission, Throughput
from rekognition_dagster.service.metrics import Metrics, alerts_of
from rekognition_dagster.service.operators import Operators
from rekognition_dagster.service.protocol import (
    CONTENT_TYPE,
    TARGET_PREFIX,
    ApiError,
    error_body,
    service_model,
)

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
"""No request of the served operations comes near this size."""
MAX_DISCARDED_BYTES = 16 * 1024 * 1024
"""A request of another operation, which may carry an image, is read up to this size."""
MAX_HEADERS = 100
BODY_TIMEOUT_S = 20.0
_ALERTS_S = 1.0
"""Seconds that the database has for the alerts in ``/ready``."""
_DATABASE_FAULTS = (InterfaceError, OperationalError, PoolTimeoutError)
"""What is wrong with the database rather than with a statement."""
_UNSERVED = "docs/api.md#operations-that-are-not-served"


def application(
    jobs: Jobs, credentials: Credentials | None, workers_ready: Callable[[], int]
) -> Starlette:
    """The ASGI application.

    Args:
        jobs: The calls it serves.
        credentials: Whom it serves; None is anyone.
        workers_ready: How many workers have loaded their detector, for ``/ready``.
    """
    metrics = Metrics(jobs.store, workers_ready, jobs.health)
    settings = jobs.settings
    operators = Operators.of(settings)
    api = _Api(
        jobs,
        credentials,
        Admission(settings.requests_at_once),
        {"Start": Throughput(settings.start_per_s), "Get": Throughput(settings.get_per_s)},
        # A Start waits for S3 and the disk, a Get computes: more threads than processors would make
        # each page slower, and Arrow keeps memory for each thread that it ever ran on.
        {"Start": ThreadPoolExecutor(40), "Get": ThreadPoolExecutor(max(2, os.cpu_count() or 2))},
        metrics.answered,
    )

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def is_operator(request: Request) -> bool:
        address = request.client.host if request.client else ""
        return operators.include(address, request.headers.get("authorization", ""))

    async def alerts() -> list[str]:
        if jobs.health.trouble("database"):
            return []
        found = asyncio.get_running_loop().run_in_executor(None, alerts_of, jobs.store)
        # A database that hangs must not make a probe of the service's readiness hang.
        with contextlib.suppress(SQLAlchemyError, asyncio.TimeoutError):
            return await asyncio.wait_for(found, _ALERTS_S)
        return []

    async def ready(request: Request) -> Response:
        up, troubles = workers_ready(), jobs.health.troubles()
        if troubles:
            status = "; ".join(f"{t.part}: {t.reason}" for t in troubles)
        elif up == 0 and settings.workers:
            status = "no worker has loaded the detector"
        else:
            status = "ok"
        code = 200 if status == "ok" else 503
        if not is_operator(request):
            return JSONResponse({"status": "ok" if code == 200 else "unavailable"}, code)
        return JSONResponse({"status": status, "workers": up, "alerts": await alerts()}, code)

    async def measured(request: Request) -> Response:
        if not is_operator(request):
            return JSONResponse({"status": "for operators only"}, 403)
        return Response(
            await run_in_threadpool(metrics.text), media_type="text/plain; version=0.0.4"
        )

    return Starlette(
        routes=[
            Route("/", api.answer, methods=["POST"]),
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", measured),
        ]
    )


@dataclass(frozen=True)
class _Api:
    jobs: Jobs
    credentials: Credentials | None
    admission: Admission
    throughput: dict[str, Throughput]
    threads: dict[str, ThreadPoolExecutor]
    observe: Callable[[str, str, float], None]

    async def answer(self, request: Request) -> Response:
        """Answer one API request; whatever goes wrong is an error in AWS's form."""
        request_id, began = str(uuid.uuid4()), time.monotonic()
        target = request.headers.get("x-amz-target", "")
        name = target.removeprefix(TARGET_PREFIX) if target.startswith(TARGET_PREFIX) else ""
        code = "OK"
        try:
            content, status = await self._call(request, name), 200
        except ClientDisconnect:
            return Response(status_code=400)
        except ApiError as error:
            code, content, status = error.code, error_body(error, request_id), error.status
        except Exception as failure:
            error = self._failed(failure, request_id, name)
            code, content, status = error.code, error_body(error, request_id), error.status
        served = name if name in self.jobs.calls else "other"
        self.observe(served, code, time.monotonic() - began)
        headers = {"x-amzn-RequestId": request_id, **getattr(content, "headers", {})}
        return Response(content, status, headers, CONTENT_TYPE)

    def _failed(self, failure: Exception, request_id: str, name: str) -> ApiError:
        """Log what went wrong, in one line where the database is at fault, and what is answered."""
        about = {"request_id": request_id, "operation": name}
        if not isinstance(failure, _DATABASE_FAULTS):
            log.error("request failed", extra=about, exc_info=failure)
            return ApiError("InternalServerError", f"Internal error, logged under {request_id}")
        log.warning("database not available", extra={**about, "error": _first_line(failure)})
        self.jobs.health.failed("database", reason_of(failure))
        said = f"The service's database did not work; try again. Logged under {request_id}"
        return ApiError("InternalServerError", said)

    async def _call(self, request: Request, name: str) -> bytes:
        """Check who calls, then do it: a stranger costs little, and holds no place."""
        headers = _headers(request)
        claim = None
        if self.credentials is not None:
            region = self.jobs.settings.region
            claim = signing.claimed(headers, self.credentials, region=region)
        call = self.jobs.calls.get(name)
        if call is None:
            await _body(request, MAX_DISCARDED_BYTES, keep=False)
            raise self._unknown(name)
        body = await _body(request, MAX_BODY_BYTES)
        caller = ANYONE
        if claim is not None:
            path = request.scope["raw_path"].decode("latin-1")
            query = request.scope["query_string"].decode("latin-1")
            signed = signing.SignedRequest(request.method, path, query, headers, body)
            caller = signing.verified(signed, claim)
        request.scope.get("state", {}).get(TRUST, lambda: None)()
        kind = "Start" if name.startswith("Start") else "Get"
        with self.admission.place():
            self.throughput[kind].take(f"{name} by {caller.account}")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.threads[kind], call, caller, body)

    def _unknown(self, name: str) -> ApiError:
        known = name in list(service_model().operation_names)  # type: ignore[call-overload]
        asked = f"{name} is not served here" if known else "That is no operation"
        served = ", ".join(sorted(self.jobs.calls))
        return ApiError(
            "UnknownOperationException", f"{asked}; served are {served}. See {_UNSERVED}"
        )


def _first_line(failure: Exception) -> str:
    """What the database's driver says, without the statement."""
    return str(getattr(failure, "orig", None) or failure).split("\n")[0]


def _headers(request: Request) -> dict[str, str]:
    """A request's headers by lower-case name, several of one name joined by commas.

    Raises:
        ApiError: There are too many.
    """
    raw = request.scope["headers"]
    if len(raw) > MAX_HEADERS:
        raise ApiError("SerializationException", f"a request has at most {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


async def _body(request: Request, most: int, *, keep: bool = True) -> bytes:
    """Read a request's body, of at most so many bytes, in time."""
    body = bytearray()

    async def read() -> None:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise ApiError(
                    "RequestEntityTooLargeException", f"a request has at most {most} bytes"
                )
            if keep:
                body.extend(chunk)

    try:
        await asyncio.wait_for(read(), BODY_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise ApiError(
            "RequestTimeoutException", f"the request did not come in {BODY_TIMEOUT_S:.0f} s"
        ) from None
    return bytes(body)
