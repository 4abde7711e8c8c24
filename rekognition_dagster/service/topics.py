"""SNS topics that a Start request may name."""

from __future__ import annotations

import functools
import re
from typing import Any

from rekognition_dagster.service.credentials import Principal
from rekognition_dagster.service.protocol import ApiError

_ARN = re.compile(
    r"arn:aws:sns:(?P<region>[a-z0-9-]+):\d{12}:(?P<name>[A-Za-z0-9_-]{1,256})(?P<fifo>\.fifo)?"
)


def check_topic(caller: Principal, arn: str, region: str | None) -> None:
    """Refuse a topic that completions cannot be published to, or that the caller may not name.

    Args:
        caller: Who asks.
        arn: The topic's.
        region: The endpoint's region, if it has one.

    Raises:
        ApiError: ``InvalidParameterException`` or ``AccessDeniedException``.
    """
    found = _ARN.fullmatch(arn)
    if found is None:
        raise _invalid(f"{arn[:300]} is no ARN of an SNS topic")
    if found["fifo"]:
        raise _invalid(f"the topic {arn} is a FIFO topic; name a standard topic")
    if region is not None and found["region"] != region:
        raise _invalid(
            f"the topic {arn} is not in {region}, the region of this endpoint; name a topic of "
            "that region"
        )
    if not _is_region(found["region"]):
        raise _invalid(f"the topic {arn} is in {found['region']}, which is no region of AWS")
    if not caller.may_announce_to(arn):
        raise ApiError(
            "AccessDeniedException",
            f"{caller.name} is not authorized to use the topic {arn}; the service's credentials "
            "file has the topics of each key",
        )


@functools.lru_cache(maxsize=64)
def _is_region(name: str) -> bool:
    """Whether a region's name has the form of one; it may be newer than the installed botocore."""
    from botocore.exceptions import UnknownRegionError

    try:
        return _session().get_partition_for_region(name) == "aws"
    except UnknownRegionError:
        return False


@functools.cache
def _session() -> Any:
    import botocore.session

    return botocore.session.get_session()


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
