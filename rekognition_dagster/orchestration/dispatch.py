"""The sensor that dispatches: it starts jobs for videos that wait, within the quota."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import dagster as dg

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.jobs import Starts
from rekognition_dagster.orchestration.names import TICK_S
from rekognition_dagster.orchestration.resources import RekognitionVideoResource
from rekognition_dagster.orchestration.selection import shown_to_fail
from rekognition_dagster.orchestration.standing import Books, Phase, Standing

_MOST_REFUSED = 20  # in one tick: what refuses so many would refuse all
_AT_ONCE = 50  # starts that are entered together


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
        boards = {o: books.board(instance, o) for o in settings.operation_list}
        most = rekognition.most_in_flight(settings.max_jobs_in_flight, context.log.warning)
        free = most - sum(board.count(Phase.IN_FLIGHT) for board in boards.values())
        if free <= 0:
            return dg.SkipReason(f"All {most} jobs are in flight")
        api, until = rekognition.starter(), time.monotonic() + TICK_S
        starts = {o: Starts() for o in boards}
        turns = in_turn({o: board.find(Phase.WAITING) for o, board in boards.items()})
        # Only what was started takes a slot: who cannot be asked for now holds nobody up.
        while room := free - sum(len(s.started) for s in starts.values()):
            some = list(islice(turns, min(room, _AT_ONCE)))
            for operation, ours in _asked(api, some, context.log.info).items():
                ours.enter(instance, books, operation)
                starts[operation].add(ours)
            is_full = not some or any(s.is_full for s in starts.values())
            refused = sum(len(s.refused) for s in starts.values())
            if is_full or refused >= _MOST_REFUSED or time.monotonic() > until:
                break
        told = [
            f"{o.start_api}: {len(s.started)} started, {len(s.delayed)} delayed, "
            f"{len(s.refused)} refused"
            for o, s in starts.items()
            if s.started or s.delayed or s.refused
        ]
        requests = [
            request
            for o, s in starts.items()
            for request in shown_to_fail(books, job_assets[o.name], list(s.refused))
        ]
        context.log.info("; ".join(told) or "No video waits")
        if not requests:
            return dg.SkipReason("; ".join(told) or "No video waits")
        return dg.SensorResult(run_requests=requests)

    return dispatch


def _asked(
    api: RekognitionVideo,
    standings: Iterable[tuple[Operation, Standing]],
    log: Callable[[str], None],
) -> dict[Operation, Starts]:
    """Ask for a job for each of some videos, until the service has no room."""
    starts: dict[Operation, Starts] = {}
    for operation, standing in standings:
        ours = starts.setdefault(operation, Starts())
        ours.ask(api, operation, standing, standing.attempt, log)
        if ours.is_full:
            break
    return starts


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
