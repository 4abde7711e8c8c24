"""Refuse misspelled settings in the environment, in every command."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rekognition_dagster.service.settings import ENVIRONMENT

PREFIX = "REKOGNITION_DAGSTER_"
KNOWN = frozenset(
    [
        "ALERTS",
        "ARRIVALS_QUEUE_URL",
        "ASSET_PREFIX",
        "ASSUME_ROLE",
        "BUCKET",
        "BUDGET",
        "CAMERA_PATTERN",
        "CAMERA_TIMEZONES",
        "CATALOGUE",
        "COMPACTION",
        "DATE_PATTERN",
        "DAILY_REPORT",
        "DAYS_QUIET_MINUTES",
        "DELETED",
        "DETECTOR",
        "FACE_ATTRIBUTES",
        "FIRST",
        "HISTORY_DAYS",
        "LAKE",
        "LISTING_HOURS",
        "MAX_ATTEMPTS",
        "MAX_JOBS_IN_FLIGHT",
        "MAX_LOST_SHARE",
        "MODELS",
        "NAME",
        "NIGHTLY",
        "OPERATIONS",
        "ORDER",
        "OVERDUE_MINUTES",
        "OWNERS",
        "PAGES_AT_ONCE",
        "PARAMETERS",
        "PARTITION_BY",
        "PREFIX",
        "PRICES",
        "QUEUE_URL",
        "RAY",
        "REPORT_BLUR",
        "REPORT_PICTURES",
        "RETRY_MINUTES",
        "ROLE_ARN",
        "SAMPLE_FPS",
        "SENSORS",
        "SENSOR_INTERVAL",
        "SERVICES",
        "SOURCES",
        "STALLED_MINUTES",
        "START",
        "STATE",
        "TIMEZONE",
        "TOPIC_ARN",
        "VISIBILITY_SECONDS",
        "WORKERS",
        "ZONES",
        "ZONES_SINCE",
        *ENVIRONMENT,
    ]
)
"""Names that need no look at the pipeline's own settings, which would load Dagster."""


def check_environment(environment: Mapping[str, str] | None = None) -> None:
    """Refuse variables that look like settings and are none.

    Raises:
        ConfigurationError: There is such a variable; the text has the nearest name.
    """
    environment = os.environ if environment is None else environment
    names = [name.removeprefix(PREFIX) for name in environment if name.startswith(PREFIX)]
    if KNOWN.issuperset(names):
        return
    from rekognition_dagster.orchestration.settings import Settings, check_names

    check_names(environment, Settings.model_fields)
