"""The HTTP face of the service: one POST for every operation, and the pages for operators.

Protocol in, protocol out. What an operation does is told in ``jobs``.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rekognition_dagster.service.jobs import Jobs
from rekognition_dagster.service.protocol import (
    CONTENT_TYPE,
    TARGET_PREFIX,
    ApiError,
    error_body,
)

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
"""No request of the served operations comes near this size."""

BODY_TIMEOUT_S = 20.0


def application(jobs: Jobs, workers_alive: Callable[[], int]) -> Starlette:
    """The ASGI application.

    Args:
        jobs: The calls it serves.
        workers_alive: How many workers are up, for ``/ready``.
    """
    calls = jobs.calls

    async def api(request: Request) -> Response:
        request_id = str(uuid.uuid4())
        try:
            body = await _body(request)
            target = request.headers.get("x-amz-target", "")
            call = calls.get(target.removeprefix(TARGET_PREFIX))
            if call is None or not target.startswith(TARGET_PREFIX):
                raise ApiError(
                    "UnknownOperationException",
                    f"{target.removeprefix(TARGET_PREFIX) or 'No operation'} is not served here; "
                    f"served are {', '.join(sorted(calls))}",
                )
            content, status = await run_in_threadpool(call, body), 200
        except ApiError as error:
            content, status = error_body(error, request_id), error.status
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            log.exception("request %s failed", request_id)
            error = ApiError("InternalServerError", f"Internal error, logged under {request_id}")
            content, status = error_body(error, request_id), error.status
        return Response(
            content,
            status,
            {"x-amzn-RequestId": request_id},
            CONTENT_TYPE,
        )

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        try:
            await run_in_threadpool(jobs.store.counts)
        except Exception as error:
            log.warning("not ready: %s", error)
            return JSONResponse({"status": "the job store cannot be reached"}, 503)
        up, wanted = workers_alive(), jobs.settings.workers
        return JSONResponse(
            {"status": "ok" if up >= wanted else "workers are starting", "workers": up},
            200 if up >= wanted else 503,
        )

    return Starlette(
        routes=[
            Route("/", api, methods=["POST"]),
            Route("/health", health),
            Route("/ready", ready),
        ]
    )


async def _body(request: Request) -> bytes:
    too_large = ApiError(
        "RequestEntityTooLargeException", f"a request has at most {MAX_BODY_BYTES} bytes"
    )
    if int(request.headers.get("content-length") or 0) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()

    async def read() -> None:
        async for chunk in request.stream():
            body.extend(chunk)
            if len(body) > MAX_BODY_BYTES:
                raise too_large

    try:
        await asyncio.wait_for(read(), BODY_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise ApiError(
            "RequestTimeoutException", f"the request did not come in {BODY_TIMEOUT_S:.0f} s"
        ) from None
    return bytes(body)
