"""The sensor that reconciles: it asks once for each job whose completion is overdue.

A healthy job is never polled; a completion that was lost on its way is found all the same.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from typing import Any

import dagster as dg

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.errors import (
    ApiError,
    DelayedError,
    JobExpiredError,
    JobFailedError,
    TransientError,
)
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.orchestration.names import TICK_S, Deployment
from rekognition_dagster.state.jobs import (
    EXPIRED,
    FAILED,
    SUCCEEDED,
    Ending,
    check_later,
    complete,
    overdue,
)
from rekognition_dagster.videos import Video

_SECONDS = 60
_AT_ONCE = 100


def build_reconciliation_sensor(deployment: Deployment) -> dg.SensorDefinition:
    """Asks for jobs that run for longer than ``overdue_minutes``, and enters those that ended.

    A job that still runs is asked again after twice the time, then four times, and so on.
    """
    settings = deployment.settings

    @dg.sensor(
        name=deployment.scoped("reconciliation"),
        minimum_interval_seconds=max(
            settings.sensor_interval, min(60, round(settings.overdue_minutes * _SECONDS / 4))
        ),
        default_status=settings.sensor_status,
        required_resource_keys=deployment.needs("rekognition"),
        description="Finds jobs that ended although no completion came.",
    )
    def reconcile(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        state, until = deployment.state(context.instance), time.monotonic() + TICK_S
        with state.read() as connection:
            overdue_s = settings.overdue_minutes * _SECONDS
            names = deployment.operation_names
            jobs = overdue(connection, names, time.time(), overdue_s, _AT_ONCE)
        if not jobs:
            return dg.SkipReason("No job is overdue")
        api = deployment.resource(context, "rekognition").starter()
        ended = asked = 0
        for job in jobs:
            status, now = _status(context, api, job), time.time()
            asked += 1
            with state.write() as connection:
                if status is None:
                    check_later(connection, job["job_id"], now + (now - job["started_at"]))
                else:
                    ended += complete(connection, [Ending(job["job_id"], status)], now)
            if time.monotonic() > until:
                break
        text = f"{ended} of {asked} overdue jobs had ended without a completion"
        context.log.info(text)
        return dg.SkipReason(text)

    return reconcile


def _status(
    context: dg.SensorEvaluationContext, api: RekognitionVideo, job: dict[str, Any]
) -> str | None:
    """How the job ended; None while it runs, or where that cannot be found out now."""
    operation, job_id = OPERATIONS[job["operation"]], job["job_id"]
    video = Video.from_partition_key(job["key"])
    try:
        api.of(operation).page(operation, video, job_id, max_results=1)
    except JobFailedError as error:
        context.log.warning(f"{operation.api}: {error}")
        return FAILED
    except JobExpiredError as error:
        context.log.warning(f"{operation.api}: {error}")
        return EXPIRED
    except (DelayedError, TransientError) as error:
        context.log.info(f"{operation.api}: {error}")
        return None
    except ApiError as error:
        context.log.error(f"{operation.api}: {error}")
        return None
    context.log.warning(f"{video.uri}: job {job_id} ended, and its completion never came")
    return SUCCEEDED
