"""The sensors that refresh: they launch results and analytics for the videos that are behind.

What is there is compared with what should be, so nothing is forgotten that a run left undone; and
since one run takes all that has come meanwhile, many videos share the cost of its process.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.analytics import Analytics
from rekognition_dagster.orchestration.names import LAUNCHED_TAG
from rekognition_dagster.orchestration.selection import shown_to_fail
from rekognition_dagster.orchestration.standing import Books, Phase
from rekognition_dagster.videos import Video

TRIES = 5
"""A video is launched so often for the same change above it, at growing intervals; then again after
the nightly batch."""
MOST_VIDEOS = 1000
"""Videos of one asset in a run at most."""
NOT_OVER = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Statuses of a run that may yet do something."""

Plan = dict[str, dict[str, tuple[str, int, float]]]
"""By asset and video: for which change it was launched, how often, and when it may be again."""


@dataclass(frozen=True)
class Behind:
    """An asset that may be behind.

    Args:
        asset: It.
        videos: Those that are behind, by their own partition keys, each with what it lacks; the
            first to be launched first.
    """

    asset: dg.AssetsDefinition
    videos: Callable[[dg.DagsterInstance], Iterator[tuple[str, str]]]


def build_results_sensor(
    books: Books, results: Mapping[str, dg.AssetsDefinition]
) -> dg.SensorDefinition:
    """Launches the results assets for jobs that have completed, and one run that fails with what
    the service said for each job that FAILED.

    Args:
        books: Of the deployment.
        results: The results assets, by the operation's name.
    """

    def unpaged(operation: Operation) -> Behind:
        return Behind(
            results[operation.name], lambda instance: books.board(instance, operation).unpaged()
        )

    return _build(
        "results_refresh",
        "Launches results for jobs that have completed; again where a run did not fetch them.",
        books,
        [unpaged(o) for o in books.settings.operation_list],
        lambda instance: list(_told(books, instance, results)),
    )


def build_analytics_sensor(books: Books, analytics: Sequence[Analytics]) -> dg.SensorDefinition:
    """Launches analytics whose videos have new results.

    Args:
        books: Of the deployment.
        analytics: In the order in which they are computed.
    """
    return _build(
        "analytics_refresh",
        "Launches analytics for new results; again where a run did not compute them.",
        books,
        [Behind(a.definition, a.behind) for a in analytics],
        lambda instance: [],
    )


def _build(
    name: str,
    description: str,
    books: Books,
    sources: Sequence[Behind],
    others: Callable[[dg.DagsterInstance], Sequence[dg.RunRequest]],
) -> dg.SensorDefinition:
    """A sensor that launches one run at a time, of every asset that is behind, for the videos that
    are.

    A run that fails is followed by another after ``retry_minutes``, then after twice that, and so
    on, :data:`TRIES` times for a video between two nightly batches. The cursor holds how often, of
    those in question only.

    Args:
        name: The sensor's, and on its runs the value of :data:`LAUNCHED_TAG`.
        description: The sensor's.
        books: Of the deployment.
        sources: What may be behind, what others are made from first.
        others: More runs to launch.
    """
    settings = books.settings

    @dg.sensor(
        name=name,
        target=[s.asset for s in sources],
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description=description,
    )
    def refresh(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        if busy := _under_way(instance, name, settings.stalled_minutes * 60):
            return dg.SkipReason(f"Run {busy} is at work")
        plan: Plan = json.loads(context.cursor or "{}")
        night = f"{books.opened_at(instance):.0f}"  # each nightly batch asks anew
        now, patience = time.time(), settings.retry_minutes * 60
        launched: dict[str, list[str]] = {}
        assets: dict[str, dg.AssetKey] = {}
        kept: Plan = {}
        for source in sources:
            asset, op = source.asset, source.asset.op.name
            if any(above in assets.values() for above in asset.asset_deps[asset.key]):
                kept |= {op: plan[op]} if op in plan else {}
                continue  # after what it is made from
            behind = ((video, f"{change} {night}") for video, change in source.videos(instance))
            due, tries = _due(behind, plan.get(op, {}), now, patience)
            if due:
                launched[op], assets[op] = due, asset.key
            if tries:
                kept[op] = tries
        requests = list(others(instance))
        if launched:
            context.log.info(", ".join(f"{op}: {len(videos)}" for op, videos in launched.items()))
            requests.insert(0, _batch(books, name, assets, launched))
        cursor = json.dumps(kept)
        if not requests and cursor == (context.cursor or "{}"):
            return dg.SkipReason("Nothing is behind")
        return dg.SensorResult(cursor=cursor, run_requests=requests)

    return refresh


def _batch(
    books: Books,
    name: str,
    assets: Mapping[str, dg.AssetKey],
    launched: Mapping[str, Sequence[str]],
) -> dg.RunRequest:
    """One run for all. Dagster wants a partition of it, or neighbours; its config has the rest."""
    first = next(video for videos in launched.values() for video in videos)
    return dg.RunRequest(
        asset_selection=list(assets.values()),
        partition_key=books.partition_of(Video.from_partition_key(first)),
        run_config={"ops": {op: {"config": {"videos": v}} for op, v in launched.items()}},
        tags={LAUNCHED_TAG: name},
    )


def _told(
    books: Books, instance: dg.DagsterInstance, results: Mapping[str, dg.AssetsDefinition]
) -> Iterator[dg.RunRequest]:
    """Runs that fail with what the service said of jobs that FAILED, each job once."""
    for operation in books.settings.operation_list:
        failed = [
            standing.video
            for standing in books.board(instance, operation).find(Phase.FAILED)
            if standing.job is not None and not standing.told
        ]
        yield from shown_to_fail(books, results[operation.name], failed)


def _due(
    behind: Iterator[tuple[str, str]],
    plan: Mapping[str, tuple[str, int, float]],
    now: float,
    patience: float,
) -> tuple[list[str], dict[str, tuple[str, int, float]]]:
    """Which videos to launch now, and the new plan."""
    due: list[str] = []
    kept: dict[str, tuple[str, int, float]] = {}
    for video, change in behind:
        known, tries, not_before = plan.get(video, ("", 0, 0.0))
        if known != change:
            tries, not_before = 0, 0.0
        if len(due) < MOST_VIDEOS and now >= not_before and tries < TRIES:
            due.append(video)
            tries, not_before = tries + 1, now + patience * 2**tries
        if tries:
            kept[video] = (change, tries, not_before)
        elif len(due) >= MOST_VIDEOS:
            # The others come next; what is known of them stays.
            return due, {**plan, **kept}
    return due, kept


def _under_way(instance: dg.DagsterInstance, name: str, stalled_s: float) -> str | None:
    """A run of this sensor that is not over; one that has said nothing for long holds nobody up."""
    records = instance.get_run_records(
        dg.RunsFilter(tags={LAUNCHED_TAG: name}, statuses=NOT_OVER), limit=20
    )
    for record in records:
        run_id = record.dagster_run.run_id
        if record.dagster_run.status is dg.DagsterRunStatus.QUEUED:
            return run_id
        last = instance.get_records_for_run(run_id, limit=1, ascending=False).records
        spoke = last[0].event_log_entry.timestamp if last else record.create_timestamp.timestamp()
        if time.time() - spoke < stalled_s:
            return run_id
    return None
