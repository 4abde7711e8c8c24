"""Videos in S3: is one there and may we read it, and fetching it to disk."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rekognition_dagster.service.protocol import ApiError


@functools.cache
def s3_client() -> Any:
    """One S3 client for the process, from the usual AWS environment."""
    import boto3
    from botocore.config import Config

    return boto3.Session().client(
        "s3",
        region_name=region(),
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=64,
        ),
    )


def region() -> str:
    """The AWS region of the environment, else us-east-1."""
    import boto3

    return boto3.Session().region_name or "us-east-1"


def object_size(reference: dict[str, str]) -> int:
    """The size in bytes of an ``S3Object``.

    Raises:
        ApiError: ``InvalidS3ObjectException`` where it cannot be had, ``InternalServerError`` where
            S3 cannot be asked.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return s3_client().head_object(**_arguments(reference))["ContentLength"]
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500:
            raise ApiError(
                "InternalServerError", f"S3 failed when asked for {_uri(reference)}; try again"
            ) from error
        raise ApiError(
            "InvalidS3ObjectException",
            "Unable to get object metadata from S3. Check object key, region and/or access "
            f"permissions. ({_uri(reference)}: {_reason(status, reference)})",
        ) from error
    except BotoCoreError as error:
        raise ApiError(
            "InternalServerError",
            f"S3 cannot be asked for {_uri(reference)}: {error}. Check the service's endpoint and "
            "credentials for S3, then try again",
        ) from error


def fetch(reference: dict[str, str], path: Path, seen: Callable[[int], None]) -> None:
    """Download an ``S3Object`` to ``path``.

    Args:
        reference: The object.
        path: Where to put it.
        seen: Told the bytes that came in; what it raises ends the download.

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
