"""How many jobs an account may have in flight, as AWS Service Quotas tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

QUOTA_CODE = "L-A6079699"
"""Concurrent Amazon Rekognition Video stored video jobs per account."""
DEFAULT_JOBS_IN_FLIGHT = 20
"""AWS's own default, taken while Service Quotas has not told."""
_FRESH_S = 3600.0
_ASK_AGAIN_S = 300.0  # after an answer that was none

_known: dict[str, tuple[float, int]] = {}  # endpoint -> until when it is good, and the quota


def quota(client: Any, warn: Callable[[str], Any]) -> int:
    """The number of jobs that an account may have in flight; it is asked once an hour.

    Args:
        client: A boto3 ``service-quotas`` client.
        warn: Told when there is no answer. What was known before then holds on, or AWS's default.
    """
    good_until, known = _known.get(client.meta.endpoint_url, (0.0, DEFAULT_JOBS_IN_FLIGHT))
    if time.monotonic() < good_until:
        return known
    try:
        known, good_for = max(1, int(_told(client))), _FRESH_S
    except (ClientError, BotoCoreError) as error:
        good_for = _ASK_AGAIN_S
        warn(
            "Service Quotas did not tell how many jobs may be in flight: "
            f"{str(error).rstrip('.')}. Going on with {known}. Allow "
            "servicequotas:GetServiceQuota and servicequotas:GetAWSDefaultServiceQuota, or set "
            "REKOGNITION_DAGSTER_MAX_JOBS_IN_FLIGHT to a number"
        )
    _known[client.meta.endpoint_url] = (time.monotonic() + good_for, known)
    return known


def _told(client: Any) -> float:
    """The quota that applies; where none has been applied to the account, AWS's default."""
    which = {"ServiceCode": "rekognition", "QuotaCode": QUOTA_CODE}
    try:
        return client.get_service_quota(**which)["Quota"]["Value"]
    except client.exceptions.NoSuchResourceException:
        return client.get_aws_default_service_quota(**which)["Quota"]["Value"]
