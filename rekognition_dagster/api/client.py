"""Start jobs and page their results, over a boto3 Rekognition client. No Dagster here.

The endpoint may be AWS or this project's own service; nothing below can tell.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.api.pages import parse_rows_with_arrow
from rekognition_dagster.errors import (
    AccessError,
    ApiError,
    ConfigurationError,
    DelayedError,
    JobExpiredError,
    JobFailedError,
    TransientError,
    UnansweredError,
)
from rekognition_dagster.operations import Operation, snake_case
from rekognition_dagster.videos import Video, idempotency_token

MAX_RESULTS = 1000
"""Rows in a page; the most that the API gives."""

PATIENCE_S = 120.0
"""For how long a page is asked again that is lost or throttled."""

_BACKEND_HEADER = "x-rekognition-dagster-backend"

_DELAY = {
    "LimitExceededException": "The quota of jobs in flight is used up; it is asked again later",
    "ProvisionedThroughputExceededException": "The rate is used up; it is asked again later",
    "ThrottlingException": "The service is throttling; it is asked again later",
    "Throttling": "The service is throttling; it is asked again later",
    "TooManyRequestsException": "The service is throttling; it is asked again later",
}
_RETRY = {"InternalServerError", "InternalFailure", "ServiceUnavailable", "RequestTimeout"}
_WRONG_CREDENTIALS = (
    "Check the AWS credentials, the profile and the region (and that the clock is right)"
)
_RENEW = "Renew the AWS session (for IAM Identity Center: aws sso login)"
_OF_ALL = {
    "UnrecognizedClientException": _WRONG_CREDENTIALS,
    "InvalidClientTokenId": _WRONG_CREDENTIALS,
    "InvalidSignatureException": _WRONG_CREDENTIALS,
    "SignatureDoesNotMatch": _WRONG_CREDENTIALS,
    "IncompleteSignatureException": _WRONG_CREDENTIALS,
    "IncompleteSignature": _WRONG_CREDENTIALS,
    "MissingAuthenticationTokenException": _WRONG_CREDENTIALS,
    "MissingAuthenticationToken": _WRONG_CREDENTIALS,
    "RequestExpired": _WRONG_CREDENTIALS,
    "RequestTimeTooSkewed": _WRONG_CREDENTIALS,
    "OptInRequired": "Subscribe the account to Rekognition in this region",
    "ExpiredTokenException": _RENEW,
    "ExpiredToken": _RENEW,
}
"""Error codes that are about the caller: every other call fails the same way."""
_GIVE_UP = {
    "AccessDeniedException": (
        "Allow rekognition:Start* and Get*, and s3:GetObject on the video, to these credentials. "
        "If the endpoint is AWS itself: it ended StartPersonTracking on 2025-10-31; set "
        "AWS_ENDPOINT_URL_REKOGNITION to a `rekognition-dagster serve`"
    ),
    "IdempotentParameterMismatchException": (
        "The service knows this token for another request; change the deployment's name"
    ),
    "InvalidS3ObjectException": (
        "Check that the object exists in this region and that the service may read it"
    ),
    "VideoTooLargeException": (
        "AWS takes videos up to 10 GB; split it, or analyse it with the local_backfill job"
    ),
    "InvalidParameterException": "Check the operation's parameters",
    "InvalidPaginationTokenException": "Page the results again from the start",
    "UnknownOperationException": "This endpoint does not serve the operation",
}


@dataclass(frozen=True)
class NotificationChannel:
    """Where completions go: an SNS topic, and the role that may publish to it."""

    topic_arn: str
    role_arn: str

    def request(self) -> dict[str, str]:
        """The API's ``NotificationChannel``."""
        return {"SNSTopicArn": self.topic_arn, "RoleArn": self.role_arn}


@dataclass(frozen=True)
class StartedJob:
    """What a Start call gave: the job's id, and the token it was asked with."""

    job_id: str
    token: str


@dataclass(frozen=True)
class Page:
    """One page of results.

    Args:
        rows: API rows, e.g. the ``Persons`` of GetPersonTracking, as an Arrow array.
        metadata: ``VideoMetadata`` in snake_case with ``duration_ms``, ``width`` and ``height``.
        next_token: Where the next page starts; None on the last.
        backend: What did the work, where the endpoint says so; AWS does not.
        software: Its version, likewise.
        warning: What was lost of the video, where the endpoint says so.
    """

    rows: pa.StructArray
    metadata: dict[str, Any]
    next_token: str | None
    backend: str | None = None
    software: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class RekognitionVideo:
    """The client side of Rekognition Video.

    Args:
        client: A boto3 ``rekognition`` client.
        channel: Where completions are published.
        job_tag: Names this deployment on its completions, so that several can share a queue.
        parameters: Members of Start requests by operation name, e.g. ``{"face_detection":
            {"FaceAttributes": "ALL"}}``.
        others: By operation name, for those that go to another endpoint, region or account.
    """

    client: Any
    channel: NotificationChannel | None = None
    job_tag: str | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    others: Mapping[str, RekognitionVideo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parse_rows_with_arrow(self.client)

    def of(self, operation: Operation) -> RekognitionVideo:
        """The API that an operation's jobs run at."""
        return self.others.get(operation.name, self)

    def request(self, operation: Operation) -> dict[str, Any]:
        """The Start request for an operation, without video and token.

        Raises:
            ConfigurationError: A parameter that the operation does not have.
        """
        parameters = dict(self.parameters.get(operation.name, {}))
        if unknown := set(parameters) - set(operation.request_members):
            known = ", ".join(operation.request_members) or "none"
            raise ConfigurationError(
                f"{operation.start_api} has no parameter {', '.join(sorted(unknown))}; "
                f"it has: {known}"
            )
        if self.channel:
            parameters["NotificationChannel"] = self.channel.request()
        if self.job_tag:
            parameters["JobTag"] = self.job_tag
        return {**operation.always, **parameters}

    def token(self, operation: Operation, video: Video, attempt: int = 1) -> str:
        """The idempotency token of a Start request."""
        return idempotency_token(operation.name, video, self.request(operation), attempt)

    def start(self, operation: Operation, video: Video, *, attempt: int = 1) -> StartedJob:
        """Start a job, or find the one that was started for the same work.

        Raises:
            DelayedError: No quota now; ask again later.
            TransientError: Lost on the way; ask again.
            ApiError: Asking again is no use; the text says what to do.
        """
        if video.is_local:
            raise ApiError(
                video.uri,
                "the API reads videos from S3 only",
                "Analyse files with the local_backfill job",
                code="InvalidS3ObjectException",
            )
        request = self.request(operation)
        token = self.token(operation, video, attempt)
        with _told_apart(operation.start_api, video.uri):
            response = getattr(self.client, operation.start_method)(
                Video={"S3Object": video.s3_object()}, ClientRequestToken=token, **request
            )
        return StartedJob(_told(response, "JobId", operation.start_api, video.uri), token)

    def page(
        self,
        operation: Operation,
        video: Video,
        job_id: str,
        *,
        next_token: str | None = None,
        max_results: int = MAX_RESULTS,
    ) -> Page:
        """One page of a job's results.

        Raises:
            DelayedError: The job still runs, or no rate is left.
            JobFailedError: The job failed; the text has its StatusMessage.
            JobExpiredError: The service does not know the job any more.
            TransientError, ApiError: As for :meth:`start`.
        """
        request: dict[str, Any] = {"JobId": job_id, "MaxResults": max_results}
        if operation.sort_by:
            request["SortBy"] = operation.sort_by
        if next_token:
            request["NextToken"] = next_token
        with _told_apart(operation.get_api, video.uri):
            response = getattr(self.client, operation.get_method)(**request)
        status = _told(response, "JobStatus", operation.get_api, video.uri)
        if status == "IN_PROGRESS":
            raise DelayedError(
                video.uri, f"job {job_id} still runs", "It is asked again later", code=status
            )
        if status == "FAILED":
            message = response.get("StatusMessage") or "the service gave no reason"
            raise JobFailedError(
                video.uri,
                f"job {job_id} failed: {message}",
                "Mend or replace the video, then: rekognition-dagster rerun --failed",
                code=status,
                backend=_backend(response),
            )
        rows = response.get(operation.results, [])
        return Page(
            rows if isinstance(rows, pa.Array) else pa.array(rows, operation.row_type),
            _metadata(response.get("VideoMetadata") or {}),
            response.get("NextToken") or None,
            *_backend(response),
            response.get("StatusMessage"),
        )

    def pages(
        self, operation: Operation, video: Video, job_id: str, *, patience_s: float = PATIENCE_S
    ) -> Iterator[Page]:
        """Every page of a job's results, in order; one page is in memory at a time.

        A page that is lost or throttled is asked again, at growing intervals, until
        ``patience_s`` have passed; the pages before it stay.

        Raises: As for :meth:`page`.
        """
        token: str | None = None
        while True:
            page = self._patiently(operation, video, job_id, token, patience_s)
            yield page
            if page.next_token is None:
                return
            if page.next_token == token:
                raise ApiError(
                    video.uri,
                    f"{operation.get_api} gave the same NextToken twice for job {job_id}",
                    "Ask the endpoint's operator; paging it would never end",
                    code="InvalidPaginationTokenException",
                )
            token = page.next_token

    def _patiently(
        self,
        operation: Operation,
        video: Video,
        job_id: str,
        token: str | None,
        patience_s: float,
    ) -> Page:
        give_up, wait = time.monotonic() + patience_s, 0.5
        while True:
            try:
                return self.page(operation, video, job_id, next_token=token)
            except (DelayedError, TransientError) as error:
                still_runs = error.code == "IN_PROGRESS"
                if still_runs or time.monotonic() + wait > give_up:
                    raise
            time.sleep(wait)
            wait = min(2 * wait, 30.0)


def _told(response: Mapping[str, Any], member: str, api: str, video: str) -> str:
    """A member that every answer has. botocore takes an answer that broke off on its way for one
    without members, and so for a job without rows."""
    if not (value := response.get(member)):
        raise UnansweredError(
            video, f"{api}: the answer broke off", "It is asked again", code="Connection"
        )
    return value


def _backend(response: Mapping[str, Any]) -> tuple[str | None, str | None]:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    backend, _, software = headers.get(_BACKEND_HEADER, "").partition("; ")
    return backend or None, software or None


def _metadata(wire: Mapping[str, Any] | list[Mapping[str, Any]]) -> dict[str, Any]:
    """The video's metadata, of which some operations return a list with one element."""
    wire = wire[0] if isinstance(wire, list) else wire
    names = {"DurationMillis": "duration_ms", "FrameWidth": "width", "FrameHeight": "height"}
    return {names.get(k) or snake_case(k): v for k, v in wire.items()}


@contextmanager
def _told_apart(api: str, video: str) -> Iterator[None]:
    """Turn what botocore raises into retry, delay or give up."""
    try:
        yield
    except ClientError as error:
        raise _from_client_error(error, api, video) from error
    except (boto.ConnectionError, boto.HTTPClientError) as error:
        sent = not isinstance(error, (boto.EndpointConnectionError, boto.ConnectTimeoutError))
        raise (UnansweredError if sent else TransientError)(
            video, f"{api}: {error}", "Check the endpoint and the network", code="Connection"
        ) from error
    except boto.ParamValidationError as error:
        raise ApiError(
            video, f"{api}: {error}", "Rename the object", code="InvalidParameterException"
        ) from error
    except BotoCoreError as error:
        # No credentials, no region, no profile, an expired sign-in: nothing was sent.
        raise AccessError(f"{api}: {str(error).rstrip('.')}. {_WRONG_CREDENTIALS}") from error


def _from_client_error(error: ClientError, api: str, video: str) -> ApiError | AccessError:
    code = error.response.get("Error", {}).get("Code", "Unknown")
    message = error.response.get("Error", {}).get("Message") or "no message"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    reason = f"{api}: {code}: {message}"
    if code in _OF_ALL:
        return AccessError(f"{reason.rstrip('.')}. {_OF_ALL[code]}")
    if code in _DELAY:
        return DelayedError(video, reason, _DELAY[code], code=code)
    if code in _RETRY or (status >= 500 and code not in _GIVE_UP):
        return TransientError(video, reason, "It is asked again", code=code)
    if code == "ResourceNotFoundException":
        return JobExpiredError(
            video,
            reason,
            "Results live 7 days; materialize the job asset again to start it anew",
            code=code,
        )
    return ApiError(video, reason, _GIVE_UP.get(code, ""), code=code)
