"""What the API's calls do: Start accepts a job, Get tells of one. No HTTP here, and no analysis."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rekognition_dagster.operations import OPERATIONS, TIMESTAMP, Operation
from rekognition_dagster.service import tokens
from rekognition_dagster.service.credentials import Principal
from rekognition_dagster.service.health import Health
from rekognition_dagster.service.objects import S3FaultError, configured_region, object_size
from rekognition_dagster.service.protocol import (
    BACKEND_HEADER,
    Answer,
    ApiError,
    operation_model,
    request_of,
    response_body,
)
from rekognition_dagster.service.requests import request_hash
from rekognition_dagster.service.results import Results
from rekognition_dagster.service.settings import GIB, Settings
from rekognition_dagster.service.store import (
    SUCCEEDED,
    Job,
    JobStore,
    TokenMismatchError,
    TooManyJobsError,
)
from rekognition_dagster.service.topics import check_topic
from rekognition_dagster.service.writing import TIMESTAMPS, order_of

log = logging.getLogger(__name__)

MAX_RESULTS = 1000
"""Rows on a page at most, and by default (source: the API reference, MaxResults)."""


@dataclass(frozen=True)
class Jobs:
    """The calls that are served, over one store.

    Args:
        store: Where jobs are kept.
        results: Where their results lie.
        settings: The service's settings.
        health: What is at fault around it.
    """

    store: JobStore
    results: Results
    settings: Settings
    health: Health

    @functools.cached_property
    def calls(self) -> Mapping[str, Callable[[Principal, bytes], bytes]]:
        """Every served operation by its API name: caller and request body in, response body out."""
        return {
            **{o.start_api: functools.partial(self.start, o) for o in OPERATIONS.values()},
            **{o.get_api: functools.partial(self.get, o) for o in OPERATIONS.values()},
        }

    def start(self, operation: Operation, caller: Principal, body: bytes) -> bytes:
        """Accept a job, or answer with the one that its ``ClientRequestToken`` stands for.

        Raises:
            ApiError: As the API reference lists them for the Start operations.
        """
        request = request_of(operation.start_api, body)
        reference = _s3_object(request)
        self._check_bucket(caller, reference["Bucket"])
        if topic := request.get("NotificationChannel", {}).get("SNSTopicArn"):
            check_topic(caller, topic, self._region)
        token = request.pop("ClientRequestToken", None)
        hashed = request_hash(operation, request)
        account = caller.account
        try:
            # Before S3 is asked: the object of a job that ran may be gone since.
            job_id = token and self.store.job_of_token(account, operation.name, token, hashed)
            if not job_id:
                self._check_size(reference)
                job_id, new = self.store.add(
                    operation.name,
                    request,
                    account=account,
                    token=token,
                    request_hash=hashed,
                    limit=self.settings.jobs_in_flight,
                )
                about = {"job_id": job_id, "operation": operation.name, "by": caller.name}
                log.info("job accepted" if new else "job asked for again", extra=about)
        except TokenMismatchError as error:
            raise ApiError(
                "IdempotentParameterMismatchException",
                f"ClientRequestToken {token!r} was used for job {error} with other parameters; "
                "use a new token for new work",
            ) from None
        except TooManyJobsError:
            raise ApiError(
                "LimitExceededException",
                f"{self.settings.jobs_in_flight} jobs are in progress, which is the limit of an "
                "account; start this one again when one of them has ended",
            ) from None
        return response_body(operation.start_api, {"JobId": job_id})

    def get(self, operation: Operation, caller: Principal, body: bytes) -> bytes:
        """A job's state, and a page of its results once it SUCCEEDED.

        Raises:
            ApiError: As the API reference lists them for the Get operations.
        """
        request = request_of(operation.get_api, body)
        job = self.store.job(request["JobId"])
        if job is None or (job.operation, job.account) != (operation.name, caller.account):
            raise ApiError(
                "ResourceNotFoundException",
                f"Could not find JobId {request['JobId']}: there is no such {operation.start_api} "
                "job, or its results have expired",
            )
        self._check_bucket(caller, job.bucket)
        order = order_of(request)
        limit = min(request.get("MaxResults", MAX_RESULTS), MAX_RESULTS)
        offset = tokens.offset_of(self.store.secret, job.job_id, order, request.get("NextToken"))
        response = _about(job, operation)
        response["GetRequestMetadata"] = {
            "SortBy": request.get("SortBy", TIMESTAMP),
            "AggregateBy": request.get("AggregateBy", TIMESTAMPS),
        }
        rows = b"[]"
        if job.status == SUCCEEDED:
            total = (job.orders or {}).get(order, 0)
            rows = self.results.page(operation, job.results or "", order, offset, limit)
            if offset + limit < total:
                response["NextToken"] = tokens.next_token(
                    self.store.secret, job.job_id, order, offset + limit
                )
        answer = response_body(operation.get_api, response, (operation.results, rows))
        return Answer.of(answer, _backend(job))

    def _check_bucket(self, caller: Principal, bucket: str) -> None:
        if not caller.may_read(bucket):
            raise ApiError(
                "AccessDeniedException",
                f"{caller.name} is not authorized to use the bucket {bucket}; the service's "
                "credentials file says which ones",
            )

    @functools.cached_property
    def _region(self) -> str | None:
        """The region that callers sign for, else the one that the service is configured for."""
        return self.settings.region or configured_region()

    def _check_size(self, reference: dict[str, str]) -> None:
        uri = f"s3://{reference['Bucket']}/{reference['Name']}"
        if self.health.trouble("s3"):  # found out once, not by each caller in turn
            raise ApiError("InternalServerError", f"S3 is not available for {uri}; try again later")
        try:
            size = object_size(reference)
        except S3FaultError as error:
            log.warning("S3 not available", extra={"video": uri, "error": error.__cause__ or error})
            self.health.failed("s3", str(error), reference)
            raise ApiError(
                "InternalServerError", f"S3 did not answer when asked for {uri}; try again"
            ) from error
        most = self.settings.max_video_bytes
        if size > most:
            raise ApiError(
                "VideoTooLargeException",
                f"{uri} has {size / GIB:.1f} GiB; the "
                f"maximum is {most / GIB:.0f} GiB. Cut the video into parts",
            )


def _backend(job: Job) -> dict[str, str]:
    """What did the work, as a header."""
    known = [(job.metadata or {}).get(name) for name in ("Backend", "Software")]
    told = "; ".join(str(k) for k in known if k)
    return {BACKEND_HEADER: told} if told.isascii() and told.isprintable() and told else {}


def _about(job: Job, operation: Operation) -> dict[str, Any]:
    """What Get tells of a job beside its rows; what its response has no member for is left out."""
    video = {"Bucket": job.bucket, "Name": job.name, "Version": job.version}
    known = dict(job.metadata or {})
    output: Any = operation_model(operation.get_api).output_shape
    if "VideoMetadata" in known and output.members["VideoMetadata"].type_name == "list":
        known["VideoMetadata"] = [known["VideoMetadata"]]
    version = str(known.get("Software", "")).rpartition(" ")[2] or None
    return {
        "JobStatus": job.status,
        "StatusMessage": job.status_message,
        **known,
        "SelectedSegmentTypes": [
            {"Type": name, "ModelVersion": version}
            for name in dict.fromkeys(job.request.get("SegmentTypes", ()))
        ],
        "JobId": job.job_id,
        "Video": {"S3Object": video},
        "JobTag": job.job_tag,
    }


def _s3_object(request: Mapping[str, Any]) -> dict[str, str]:
    """The request's S3Object; the model leaves its members optional, the service does not."""
    reference = request["Video"].get("S3Object") or {}
    for name in ("Bucket", "Name"):
        if not reference.get(name):
            raise ApiError(
                "InvalidParameterException",
                f"1 validation error detected: Value null at 'Video.S3Object.{name}' failed to "
                "satisfy constraint: Member must not be null",
            )
    return reference
