"""Starting jobs: within the quota, once for each version of a video, and each bad one on its own.

The dispatch sensor starts what waits; the ``<operation>_job`` assets start what a person asks for.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import dagster as dg

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.errors import ApiError, DelayedError, TransientError
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.ledger import Entry
from rekognition_dagster.orchestration.names import BATCH_SIZE, VIDEO_PARTITIONS
from rekognition_dagster.orchestration.resources import RekognitionVideoResource
from rekognition_dagster.orchestration.selection import VideosConfig, selected
from rekognition_dagster.orchestration.standing import Books, Phase, Standing
from rekognition_dagster.videos import Video

_UNDER_WAY = (Phase.IN_FLIGHT, Phase.UNPAGED)


@dataclass
class Starts:
    """What came of asking for jobs.

    Args:
        started: Entries of the job ledgers.
        delayed: Videos for which no slot or rate was left, or whose request was lost.
        refused: Videos that the service will not take, with its reason.
        is_full: Whether the service has no room now, for whatever video.
    """

    started: dict[Video, Entry] = field(default_factory=dict)
    delayed: list[Video] = field(default_factory=list)
    refused: dict[Video, ApiError] = field(default_factory=dict)
    is_full: bool = False

    def ask(
        self,
        api: RekognitionVideo,
        operation: Operation,
        standing: Standing,
        attempt: int,
        log: Callable[[str], None],
    ) -> None:
        """Start one job, or find the one that runs for the same work."""
        video = standing.video
        try:
            job = api.start(operation, video, attempt=attempt)
        except DelayedError as error:
            # The quota or the rate is used up for every video, so asking for the rest is no use.
            log(str(error))
            self.delayed.append(video)
            self.is_full = True
        except TransientError as error:
            log(str(error))
            self.delayed.append(video)
        except ApiError as error:
            log(str(error))
            self.refused[video] = error
        else:
            self.started[video] = {
                "at": time.time(),
                "job_id": job.job_id,
                "token": job.token,
                "attempt": attempt,
                "version": video.version or "unknown",
            }

    def enter(
        self,
        instance: dg.DagsterInstance,
        books: Books,
        operation: Operation,
        run: dg.AssetExecutionContext | None = None,
    ) -> None:
        """Enter the jobs that run, and the refusals."""
        earlier = books.refusals(operation).read(
            instance, {books.partition_of(v) for v in self.refused}
        )
        refusals: dict[Video, Entry] = {}
        for video, error in self.refused.items():
            version = video.version or "unknown"
            ledger = earlier.get(books.partition_of(video))
            before = ledger.entries.get(video.partition_key, {}) if ledger else {}
            tries = int(before["tries"]) if before.get("version") == version else 0
            refusals[video] = {
                "at": time.time(),
                "version": version,
                "reason": str(error),
                "code": error.code,
                "tries": tries + 1,
            }
        books.jobs(operation).enter(instance, books.by_partition(self.started), run=run)
        books.refusals(operation).enter(instance, books.by_partition(refusals), run=run)

    def add(self, other: "Starts") -> None:
        """Count another's in."""
        self.started |= other.started
        self.delayed += other.delayed
        self.refused |= other.refused
        self.is_full |= other.is_full


def build_job_asset(operation: Operation, books: Books) -> dg.AssetsDefinition:
    """The asset ``<operation>_job``: a partition is materialized once its jobs run.

    The dispatch sensor starts jobs by itself; materializing starts them now, again where they have
    FAILED. A video for which no slot or rate is left waits for the sensor; one that the service
    refuses fails, and the others of its run go on.
    """
    names = books.names

    @dg.asset(
        key=names.job(operation),
        partitions_def=VIDEO_PARTITIONS,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        deps=[names.video()],
        group_name=names.group_name(operation.name),
        kinds={"rekognition"},
        output_required=False,
        description=f"A {operation.start_api} job, started by the sensor job_dispatch for the "
        "version of the video that is there. Materialize it to retry a job that FAILED.",
    )
    def start(
        context: dg.AssetExecutionContext,
        config: VideosConfig,
        rekognition: RekognitionVideoResource,
    ) -> Iterator[dg.Output[None]]:
        _start_jobs(context, config, rekognition, operation, books)
        yield from ()

    return start


def _start_jobs(
    context: dg.AssetExecutionContext,
    config: VideosConfig,
    rekognition: RekognitionVideoResource,
    operation: Operation,
    books: Books,
) -> None:
    instance, api = context.instance, rekognition.starter()
    most = rekognition.most_in_flight(books.settings.max_jobs_in_flight, context.log.warning)
    boards = {o.name: books.board(instance, o) for o in books.settings.operation_list}
    free = most - sum(b.count(Phase.IN_FLIGHT) for b in boards.values())
    chosen = list(selected(context, config, boards[operation.name]))
    starts, total = Starts(), 0
    for standing in chosen:
        attempt = standing.attempt_by_hand
        named = config.videos or standing.partition == standing.video.partition_key
        if standing.phase in (_UNDER_WAY if named else (*_UNDER_WAY, Phase.ANALYSED)) and (
            standing.job is not None
            and standing.job.get("token") == api.token(operation, standing.video, attempt)
        ):
            continue  # this very work runs, or has results
        total += 1
        if starts.is_full or len(starts.started) >= free:
            starts.delayed.append(standing.video)
            continue
        one = Starts()
        one.ask(api, operation, standing, attempt, context.log.info)
        one.enter(instance, books, operation, context)
        starts.add(one)
    context.log.info(
        f"{operation.start_api}: {len(starts.started)} started, {len(starts.delayed)} delayed "
        f"until slots are free, {len(starts.refused)} refused"
    )
    if starts.refused:
        raise dg.Failure(
            f"{len(starts.refused)} of {total} videos were refused: "
            + "; ".join(str(e) for e in list(starts.refused.values())[:20]),
            metadata={v.uri: str(e) for v, e in list(starts.refused.items())[:50]},
            allow_retries=False,
        )
