"""Videos in S3: is one there and may we read it, and fetching it to disk."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

from rekognition_dagster.service.faults import part_of, reason_of
from rekognition_dagster.service.protocol import ApiError

LOOK_S = 6.0
"""Seconds that S3 has in all to describe an object to a Start."""

# More would not make an S3 that hangs answer, and each one holds a thread of the API.
_LOOKS_AT_ONCE = 16


class S3FaultError(Exception):
    """S3 did not answer, or with a fault of its own; the text says so to operators."""


@functools.cache
def s3_client(*, patient: bool = True) -> Any:
    """One S3 client for the process, from the usual AWS environment.

    Args:
        patient: For transfers; otherwise for calls that a client waits for.
    """
    import boto3
    from botocore.config import Config

    connect_s, read_s, attempts = (5, 30, 3) if patient else (3, 5, 2)
    return boto3.Session().client(
        "s3",
        region_name=region(),
        config=Config(
            connect_timeout=connect_s,
            read_timeout=read_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=64,
        ),
    )


def load_s3_client() -> None:
    """Load boto3 and make a client, which would take from the first Start's seconds."""
    with contextlib.suppress(Exception):  # what is wrong, a Start reports
        s3_client(patient=False)


def region() -> str:
    """The AWS region of the environment, else us-east-1."""
    return configured_region() or "us-east-1"


def configured_region() -> str | None:
    """The AWS region of the environment, if there is one."""
    import boto3

    return boto3.Session().region_name


def object_size(reference: dict[str, str]) -> int:
    """The size in bytes of an ``S3Object``.

    Raises:
        ApiError: ``InvalidS3ObjectException`` where the object is not available.
        S3FaultError: S3 did not answer within :data:`LOOK_S`, or with a fault of its own.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        # The clock of a future also bounds what no timeout of the client does: names that are not
        # resolved, credentials that do not come.
        return _looks().submit(_size, reference).result(LOOK_S)
    except FutureTimeoutError:
        raise S3FaultError(f"S3 does not respond within {LOOK_S:g} s") from None
    except (ClientError, BotoCoreError) as error:
        if part_of(error) == "s3":
            raise S3FaultError(reason_of(error)) from error
        status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise ApiError(
            "InvalidS3ObjectException",
            "Unable to get object metadata from S3. Check object key, region and/or access "
            f"permissions. ({_uri(reference)}: {_reason(status, reference)})",
        ) from error


@functools.cache
def _looks() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="s3")


def _size(reference: dict[str, str]) -> int:
    return s3_client(patient=False).head_object(**_arguments(reference))["ContentLength"]


def read_a_byte(reference: dict[str, str]) -> None:
    """Read the first byte of an object.

    Raises:
        ClientError, BotoCoreError: As boto3 raises them.
    """
    client = s3_client(patient=False)
    client.get_object(**_arguments(reference), Range="bytes=0-0")["Body"].close()


def fetch(reference: dict[str, str], path: Path, seen: Callable[[int], None]) -> None:
    """Download an ``S3Object`` to ``path``.

    Args:
        reference: The object.
        path: Where to put it.
        seen: Called with the bytes that came in; what it raises ends the download.

    Raises:
        ClientError, BotoCoreError: As boto3 raises them.
    """
    arguments = _arguments(reference)
    bucket, key = arguments.pop("Bucket"), arguments.pop("Key")
    s3_client().download_file(bucket, key, str(path), ExtraArgs=arguments or None, Callback=seen)


def _arguments(reference: dict[str, str]) -> dict[str, str]:
    arguments = {"Bucket": reference["Bucket"], "Key": reference["Name"]}
    if reference.get("Version"):
        arguments["VersionId"] = reference["Version"]
    return arguments


def _uri(reference: dict[str, str]) -> str:
    return f"s3://{reference['Bucket']}/{reference['Name']}"


def _reason(status: int, reference: dict[str, str]) -> str:
    version = f", version {reference['Version']}" if reference.get("Version") else ""
    return {
        403: "the service's credentials may not read it",
        404: f"there is no such bucket or key{version}",
    }.get(status, f"S3 answered {status}{version}")
