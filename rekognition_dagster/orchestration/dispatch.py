"""The sensor that dispatches: it starts jobs for videos that wait, within the quota."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Iterator, Mapping

import dagster as dg

from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.orchestration.jobs import Starts, count_in_flight
from rekognition_dagster.orchestration.names import TICK_S
from rekognition_dagster.orchestration.resources import RekognitionVideoResource
from rekognition_dagster.orchestration.selection import shown_to_fail
from rekognition_dagster.orchestration.standing import Books, Phase, Standing

_MOST_REFUSED = 20  # in one tick: what refuses so many would refuse all


def build_dispatch_sensor(
    books: Books, job_assets: Mapping[str, dg.AssetsDefinition]
) -> dg.SensorDefinition:
    """Starts jobs in its own tick, never for more than the quota has room.

    A run for them would cost more than all the rest of a video. The idempotency token makes a tick
    that died repeatable: it finds the jobs that it started. What the service refuses for another
    reason than load goes to a run of the job asset, which fails where people look.

    Args:
        books: Of the deployment.
        job_assets: ``<operation>_job``, by the operation's name.
    """
    settings = books.settings

    @dg.sensor(
        name="job_dispatch",
        target=list(job_assets.values()),
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description="Starts jobs for videos that wait, within the quota of jobs in flight.",
    )
    def dispatch(
        context: dg.SensorEvaluationContext, rekognition: RekognitionVideoResource
    ) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        most = rekognition.most_in_flight(settings.max_jobs_in_flight, context.log.warning)
        free = most - count_in_flight(books, instance)
        if free <= 0:
            return dg.SkipReason(f"All {most} jobs are in flight")
        api, until = rekognition.starter(), time.monotonic() + TICK_S
        starts = {name: Starts() for name in settings.operations}
        for operation, standing in in_turn(
            {o: books.board(instance, o).find(Phase.WAITING) for o in settings.operation_list}
        ):
            started = sum(len(s.started) for s in starts.values())
            if started >= free or time.monotonic() > until:
                break
            if sum(len(s.refused) for s in starts.values()) >= _MOST_REFUSED:
                break
            ours = starts[operation.name]
            ours.ask(api, operation, standing, standing.attempt, context.log.info)
            if ours.is_full:
                break
        if not any(s.started or s.refused or s.delayed for s in starts.values()):
            return dg.SkipReason("No video waits")
        for name, ours in starts.items():
            context.log.info(
                f"{OPERATIONS[name].start_api}: {len(ours.started)} started, "
                f"{len(ours.delayed)} delayed, {len(ours.refused)} refused"
            )
        return dg.SensorResult(
            asset_events=[
                event
                for name, ours in starts.items()
                for event in ours.entered(instance, books, OPERATIONS[name])
            ],
            run_requests=[
                request
                for name, ours in starts.items()
                for request in shown_to_fail(books, job_assets[name], list(ours.refused))
            ],
        )

    return dispatch


def in_turn(
    waiting: Mapping[Operation, Iterator[Standing]],
) -> Iterator[tuple[Operation, Standing]]:
    """Fairly: each operation in turn, in each the longest waiting video first."""
    turns = dict(waiting)
    while turns:
        for operation, standings in list(turns.items()):
            standing = next(standings, None)
            if standing is None:
                del turns[operation]
            else:
                yield operation, standing
