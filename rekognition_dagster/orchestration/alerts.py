"""Alerts: asset checks of what nobody looks at until it is too late, evaluated every hour.

They are checks, and the nightly batch's lateness a freshness policy, so that Dagster's UI, its
alerting and other programs find them where they find all others. A check that fails with severity
ERROR fails its run, so that whatever watches runs learns of it, too.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.aws import reason_of
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.state.queries import RESULTS_LIVE_DAYS, count_unpaged, unpaged

_WARN_AFTER, _FAIL_AFTER = timedelta(days=3), timedelta(days=5)
_SHOWN = 20
_GRACE = timedelta(hours=2)  # for the run itself, and for the night that is an hour longer


@dataclass(frozen=True)
class Alerts:
    """What :func:`build_alerts` makes."""

    assets: list[dg.AssetSpec]
    checks: list[dg.AssetChecksDefinition]
    schedule: dg.ScheduleDefinition


def build_alerts(deployment: Deployment) -> Alerts:
    """The checks, the asset ``dead_letters`` under one of them, and the schedule ``alerts``."""
    dead_letters = deployment.asset(
        "upkeep",
        "dead_letters",
        kinds={"sqs"},
        description="The dead-letter queue: messages that were no completions, or that could not "
        "be dealt with.",
    )
    checks = [
        *(_results_before_they_expire(o, deployment) for o in deployment.settings.operation_list),
        _is_empty(dead_letters.key, deployment),
    ]
    job = dg.define_asset_job(
        deployment.scoped("alerts"),
        selection=dg.AssetSelection.checks(*checks),
        executor_def=dg.in_process_executor,
    )
    schedule = dg.ScheduleDefinition(
        name=deployment.scoped("alerts"),
        job=job,
        cron_schedule="7 * * * *",
        default_status=deployment.settings.schedule_status,
        description="Evaluates the checks that warn of what is about to be lost.",
    )
    return Alerts([dead_letters], checks, schedule)


def nightly_freshness(settings: Settings) -> dg.FreshnessPolicy:
    """The nightly batch is late when it is older than the longest time between two, and some."""
    nights = dg.TimeWindowPartitionsDefinition(
        start=datetime(2024, 1, 1),
        fmt="%Y-%m-%dT%H:%M",
        cron_schedule=settings.nightly,
        timezone=settings.timezone,
    )
    longest, at = timedelta(0), datetime(2024, 1, 1)
    for _ in range(40):  # five weeks of nights, or three years of months
        window = nights.get_next_partition_window(at, respect_bounds=False)
        if window is None:
            break
        longest, at = max(longest, window.end - window.start), window.end
    return dg.FreshnessPolicy.time_window(fail_window=longest + _GRACE)


def _results_before_they_expire(
    operation: Operation, deployment: Deployment
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=deployment.key("completion", operation),
        name="results_before_they_expire",
        blocking=True,
        description=f"The results of every completed job are in {operation.table} long before the "
        f"service forgets them, after {RESULTS_LIVE_DAYS} days.",
    )
    def results_before_they_expire(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        now = time.time()
        with deployment.state(context.instance).read() as connection:
            oldest = unpaged(connection, operation.name, _SHOWN)
            count = count_unpaged(connection, operation.name)
        age = timedelta(seconds=now - oldest[0][0]) if oldest else timedelta(0)
        metadata: dict[str, Any] = {"unpaged": count, "oldest_hours": age / timedelta(hours=1)}
        if age > _WARN_AFTER:
            metadata["oldest"] = dg.MetadataValue.table(
                [
                    dg.TableRecord(
                        {
                            "video": video,
                            "hours_left": round(RESULTS_LIVE_DAYS * 24 - (now - at) / 3600),
                            "reason": reason or "no run has taken it up",
                        }
                    )
                    for at, video, reason in oldest
                ],
                dg.TableSchema(
                    [
                        dg.TableColumn("video", "string"),
                        dg.TableColumn("hours_left", "int"),
                        dg.TableColumn("reason", "string"),
                    ]
                ),
            )
        severe = age > _FAIL_AFTER
        return dg.AssetCheckResult(
            passed=age <= _WARN_AFTER,
            severity=dg.AssetCheckSeverity.ERROR if severe else dg.AssetCheckSeverity.WARN,
            metadata=metadata,
            description=f"{count} completed jobs have no results in {operation.table}; the "
            f"oldest ended {age.days} days ago. Materialize {operation.table} for them"
            if age > _WARN_AFTER
            else None,
        )

    return results_before_they_expire


def _is_empty(key: dg.AssetKey, deployment: Deployment) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key,
        name="is_empty",
        blocking=True,
        required_resource_keys=deployment.needs("completion_queue"),
        description="No message lies in the dead-letter queue.",
    )
    def is_empty(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        queue = deployment.resource(context, "completion_queue").queue()
        if queue is None:
            return dg.AssetCheckResult(passed=True, description="No queue is configured")
        try:
            dead = queue.dead_letters()
        except (ClientError, BotoCoreError) as error:
            raise dg.Failure(
                f"cannot look into the dead-letter queue of {queue.url}: {reason_of(error)}. Allow "
                "sqs:GetQueueAttributes on it"
            ) from error
        if dead is None:
            return dg.AssetCheckResult(
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                description="There is no dead-letter queue: a message that is no completion comes "
                "back for ever. `rekognition-dagster provision` makes one",
            )
        return dg.AssetCheckResult(
            passed=dead.messages == 0,
            metadata={"messages": dead.messages, "queue": dead.url},
            description="Read them, their attribute Reason says why they are there; then delete "
            "them, or move those that were completions back"
            if dead.messages
            else None,
        )

    return is_empty
