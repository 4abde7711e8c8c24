"""The sensor that reconciles: it asks once for each job whose completion is overdue.

A healthy job is never polled; a completion that was lost on its way is found all the same.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time

import dagster as dg

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.api.notifications import Completion
from rekognition_dagster.errors import (
    ApiError,
    DelayedError,
    JobExpiredError,
    JobFailedError,
    TransientError,
)
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.completions import enter_completions
from rekognition_dagster.orchestration.names import TICK_S
from rekognition_dagster.orchestration.resources import RekognitionVideoResource
from rekognition_dagster.orchestration.standing import EXPIRED, Books, Phase
from rekognition_dagster.videos import Video

_SECONDS = 60


def build_reconciliation_sensor(books: Books) -> dg.SensorDefinition:
    """Asks for jobs that run for longer than ``overdue_minutes``, and reports those that ended.

    A job that still runs is asked again after twice the time, then four times, and so on. The
    cursor holds when that is, by job.
    """
    settings = books.settings

    @dg.sensor(
        name="reconciliation",
        minimum_interval_seconds=max(
            settings.sensor_interval, min(60, round(settings.overdue_minutes * _SECONDS / 4))
        ),
        default_status=settings.sensor_status,
        description="Finds jobs that ended although no completion came.",
    )
    def reconcile(
        context: dg.SensorEvaluationContext, rekognition: RekognitionVideoResource
    ) -> dg.SensorResult | dg.SkipReason:
        asked_next: dict[str, float] = json.loads(context.cursor or "{}")
        started = time.monotonic()
        ended = 0
        still: dict[str, float] = {}
        for operation in settings.operation_list:
            for standing in books.board(context.instance, operation).find(Phase.IN_FLIGHT):
                job_id, video = str(standing.job_id), standing.video
                due = asked_next.get(job_id, standing.since + settings.overdue_minutes * _SECONDS)
                now = time.time()
                if now < due or time.monotonic() - started > TICK_S:
                    still |= {job_id: due} if job_id in asked_next else {}
                    continue
                status = _status(context, rekognition.pager(), operation, video, job_id)
                if status is None:
                    still[job_id] = now + (now - standing.since)
                else:
                    known = Completion(job_id, status, operation, video, None, None)
                    ended += enter_completions(context.instance, books, [known])
        told = f"{ended} jobs had ended without a word" if ended else "No job is overdue"
        if still == asked_next:
            return dg.SkipReason(told)
        return dg.SensorResult(skip_reason=told, cursor=json.dumps(still))

    return reconcile


def _status(
    context: dg.SensorEvaluationContext,
    api: RekognitionVideo,
    operation: Operation,
    video: Video,
    job_id: str,
) -> str | None:
    """How the job ended; None while it runs, or where that cannot be told now."""
    try:
        api.page(operation, video, job_id, max_results=1)
    except JobFailedError as error:
        context.log.warning(f"{operation.api}: {error}")
        return "FAILED"
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
    return "SUCCEEDED"
