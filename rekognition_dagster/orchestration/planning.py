"""What would start, how long it is, and what it would cost: asked before the first paid job."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import sqlalchemy as sa

from rekognition_dagster.lake import Lake
from rekognition_dagster.orchestration.discovery import ARCHIVES, pages
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.state import State
from rekognition_dagster.state import videos as known_videos
from rekognition_dagster.state.budget import Budget, Spent, bytes_a_second, minutes_of, spent
from rekognition_dagster.state.control import ALL, pauses
from rekognition_dagster.state.tables import GONE, IGNORED, VIDEOS, WORK, Phase
from rekognition_dagster.state.videos import CHUNK
from rekognition_dagster.videos import Video, is_video_key, roots, source_of

MAX_BYTES = 10 * 1024**3
"""AWS takes no larger video."""
FRAME_RATE = 25.0
"""Frames a second that a video is taken to have."""
_STARTS = {Phase.HELD.value, Phase.WAITING.value}
_ARCHIVED = "archived in S3 Glacier"
_TOO_LARGE = "larger than 10 GB, which AWS does not take"


@dataclass
class OperationPlan:
    """What would start of an operation.

    Args:
        operation: Which.
        price: Of a minute of video.
        videos: How many would start.
        minutes: How long they are together; estimated from their sizes where it is not known.
        refused: How many would not start, by reason.
        delays: Why those that would start wait: pauses, and what budgets leave.
    """

    operation: str
    price: float
    videos: int = 0
    minutes: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    delays: list[str] = field(default_factory=list)

    @property
    def money(self) -> float:
        """What the jobs would cost."""
        return self.minutes * self.price

    def hours_of_engine(self, frames_a_second: float) -> float:
        """How long the local engine would take, in hours, at a rate of detection."""
        return self.minutes * FRAME_RATE / frames_a_second / 60


def plan(
    deployment: Deployment,
    state: State,
    client: Any,
    lake: Lake,
    tell: Callable[[int], None] = lambda listed: None,
) -> list[OperationPlan]:
    """List the buckets and say what would start, by operation; nothing is entered or started.

    Args:
        deployment: Whose.
        state: What is known already.
        client: A boto3 ``s3`` client.
        lake: What it has is adopted, and costs nothing.
        tell: Called with the number of keys that were listed so far.

    Raises:
        ConfigurationError: A bucket cannot be listed.
    """
    settings = deployment.settings
    found = {name: OperationPlan(name, settings.price(name)) for name in deployment.operation_names}
    with state.read() as connection:
        rate = bytes_a_second(connection)
        standing = spent(connection, settings.limits, time.time())
        paused = pauses(connection)
    done = _in_lake(lake)
    listed = 0
    for root in roots(settings.source_list):
        for page in pages(client, root, ""):
            videos = {
                v.partition_key: (v, entry)
                for entry in page.keys
                if is_video_key(entry["Key"])
                for v in [_video(root.bucket, entry)]
            }
            known, work = _known(state, list(videos))
            for key, (video, entry) in videos.items():
                source = source_of(settings.source_list, video)
                for name, one in found.items():
                    if source is None or not source.has(name):
                        continue
                    phase = _phase(work.get((key, name)), video)
                    if phase is None and (video.uri, name, video.version) in done:
                        continue
                    seconds = known[key][1] if key in known else None
                    minutes = minutes_of(seconds, video.size, rate)
                    reason = _reason(one, known.get(key), phase, entry)
                    reason = reason or _beyond_budget(settings.limits, name, minutes)
                    if reason:
                        one.refused[reason] += 1
                    elif phase is None or phase[0] in _STARTS:
                        one.videos += 1
                        one.minutes += minutes
            listed += len(page.keys)
            tell(listed)
    for name, one in found.items():
        if not one.videos:
            continue
        one.delays += [f"paused: {p.text}" for p in paused if p.operation in (ALL, name)]
        one.delays += [_left(s, one) for s in standing if s.limit.has(name)]
    return list(found.values())


def _video(bucket: str, entry: Mapping[str, Any]) -> Video:
    return Video(bucket, entry["Key"], etag=entry["ETag"].strip('"'), size=entry["Size"])


def _known(
    state: State, keys: Sequence[str]
) -> tuple[dict[str, tuple[str, float | None]], dict[tuple[str, str], tuple[str, str, str | None]]]:
    """Status and length of videos by key, and phase, version and reason of their work."""
    videos: dict[str, tuple[str, float | None]] = {}
    work: dict[tuple[str, str], tuple[str, str, str | None]] = {}
    with state.read() as connection:
        for start in range(0, len(keys), CHUNK):
            some = keys[start : start + CHUNK]
            query = sa.select(VIDEOS.c.key, VIDEOS.c.status, VIDEOS.c.duration_s)
            for key, *facts in connection.execute(query.where(VIDEOS.c.key.in_(some))):
                videos[key] = (facts[0], facts[1])
            columns = (WORK.c.key, WORK.c.operation, WORK.c.phase, WORK.c.version, WORK.c.reason)
            for key, name, *facts in connection.execute(
                sa.select(*columns).where(WORK.c.key.in_(some))
            ):
                work[key, name] = (facts[0], facts[1], facts[2])
    return videos, work


def _phase(
    work: tuple[str, str, str | None] | None, video: Video
) -> tuple[str, str, str | None] | None:
    """The work of this version of a video."""
    return work if work is not None and work[1] == known_videos.version_of(video) else None


def _reason(
    one: OperationPlan,
    known: tuple[str, float | None] | None,
    phase: tuple[str, str, str | None] | None,
    entry: Mapping[str, Any],
) -> str | None:
    """Why a video would not start; None where it would, or is done."""
    if known is not None and known[0] in (IGNORED, GONE):
        return known[0]
    if phase is not None and phase[0] == Phase.FAILED.value:
        return f"FAILED: {phase[2] or 'no reason is known'}"
    if entry.get("StorageClass") in ARCHIVES:
        return _ARCHIVED
    if not entry["Size"]:
        return "empty"
    if one.price and entry["Size"] > MAX_BYTES:
        return _TOO_LARGE
    return None


def _beyond_budget(budget: Budget, operation: str, minutes: float) -> str | None:
    longest = budget.longest(operation)
    if longest is None or minutes <= longest:
        return None
    return f"longer than a whole limit of the budget ({longest:g} minutes)"


def _left(standing: Spent, one: OperationPlan) -> str:
    """What a limit leaves, and for how many of its periods this would go on."""
    limit = standing.limit
    shares = [one.minutes / limit.minutes] if limit.minutes is not None else []
    shares += [one.money / limit.money] if limit.money is not None else []
    periods = math.ceil(max(shares))
    plural = "" if periods == 1 else "s"
    return f"budget: {standing.text}; this alone takes {periods} {limit.period}{plural}"


def _in_lake(lake: Lake) -> set[tuple[str, str, str | None]]:
    """Videos, operations and versions that the lake has results of."""
    if "jobs" not in lake.tables():
        return set()
    query = "SELECT video, operation, version FROM jobs WHERE status = 'SUCCEEDED'"
    with lake.connect() as connection:
        return set(connection.sql(query).fetchall())


def build_plan_job(deployment: Deployment) -> dg.JobDefinition:
    """The job ``plan``, whose log says what would start and what it would cost."""

    @dg.op(
        name=deployment.scoped("say_what_would_start"),
        required_resource_keys=deployment.needs("lake", "video_bucket"),
        description="Lists the buckets; starts nothing.",
    )
    def say(context: dg.OpExecutionContext) -> None:
        state = deployment.state(context.instance)
        client = deployment.resource(context, "video_bucket").downloader()
        lake = deployment.resource(context, "lake").open()
        for one in plan(deployment, state, client, lake):
            context.log.info(
                f"{one.operation}: {one.videos} videos of {one.minutes / 60:.1f} hours would "
                f"start, for {one.money:.2f}"
            )
            for reason, count in one.refused.most_common():
                context.log.info(f"{one.operation}: {count} would not start: {reason}")
            for delay in one.delays:
                context.log.info(f"{one.operation}: {delay}")

    @dg.job(
        name=deployment.scoped("plan"),
        executor_def=dg.in_process_executor,
        description="Says how many videos and hours would start, and what they would cost.",
    )
    def planned() -> None:
        say()  # pyright: ignore[reportCallIssue] -- Dagster fills its arguments in

    return planned
