"""Every sensor's longest tick with a large backlog and no slot free, and what a new listing costs.

The state is filled directly: videos that wait, jobs in flight up to the quota. A scripted S3 lists
the same keys, and some that are new. Each sensor ticks as the daemon has it tick, in this process,
once its reports are made. With --known, no video waits: so many are analysed and reported, and the
new ones are found and started. With --lost, a lost state over a full lake: how many jobs start.

    python -m benchmarks backlog [--videos 100000] [--new 1000] [--group PATTERN]
                                 [--storage sqlite|postgres] [--known 1000000] [--lost 10000]
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import dagster as dg
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from deployment import Deployment
from postgresql import cluster

from benchmarks.orchestration.aws import QUEUE, etag, scripted
from rekognition_dagster import Lake, Settings
from rekognition_dagster.state import jobs
from rekognition_dagster.state.rebuild import rebuild
from rekognition_dagster.state.tables import JOBS, OUTBOX, PARTITIONS, WORK, Phase
from rekognition_dagster.state.videos import Found, register
from rekognition_dagster.videos import Video

QUOTA = 20
SENSORS = (
    "video_discovery",
    "job_dispatch",
    "completions",
    "reconciliation",
    "results_refresh",
    "analytics_refresh",
    "reports",
)
_AT_ONCE = 5000


def keys_of(videos: int) -> list[str]:
    """Keys of videos, in order."""
    return [f"camera-{i // 250:05}/2026-01-31/{i % 250:05}.mp4" for i in range(videos)]


def video(key: str) -> Video:
    """A video as the scripted S3 lists it."""
    return Video("benchmark", key, etag=etag(key), size=1000)


def fill(deployment: Deployment, keys: Sequence[str]) -> None:
    """Have videos wait, and jobs in flight up to the quota."""
    partition_of = deployment.settings.partitioning.partition_of
    for start in range(0, len(keys), _AT_ONCE):
        found = [Found(video(k), partition_of(video(k))) for k in keys[start : start + _AT_ONCE]]
        with deployment.state.write() as connection:
            register(connection, found, time.time(), deployment.ours.plan)
    with deployment.state.write() as connection:
        reserved = jobs.reserve(
            connection,
            deployment.ours.operation_names,
            deployment.settings.source_list,
            most=QUOTA,
            limit=QUOTA,
            now=time.time(),
            lease_s=60.0,
        )
        starts = [jobs.Started(w, f"waiting-{i}", f"token-{i}") for i, w in enumerate(reserved)]
        jobs.started(connection, starts, time.time())


def tick(deployment: Deployment, sensor: str) -> tuple[float, float]:
    """One tick: seconds by the clock, and of CPU."""
    clock, cpu = time.monotonic(), time.process_time()
    deployment.tick(sensor)
    return time.monotonic() - clock, time.process_time() - cpu


def drain(deployment: Deployment) -> tuple[int, float]:
    """Make all reports: ticks, and the longest."""
    ticks, longest = 0, 0.0
    while True:
        longest = max(longest, tick(deployment, "reports")[0])
        ticks += 1
        with deployment.state.read() as connection:
            if not connection.scalar(sa.select(sa.func.count()).select_from(OUTBOX)):
                return ticks, longest


def fill_known(deployment: Deployment, keys: Sequence[str]) -> None:
    """Have videos analysed and reported, as they are long after."""
    partition_of = deployment.settings.partitioning.partition_of
    partitions: dict[str, None] = {}
    for start in range(0, len(keys), _AT_ONCE):
        found = [Found(video(k), partition_of(video(k))) for k in keys[start : start + _AT_ONCE]]
        partitions |= dict.fromkeys(f.partition for f in found)
        with deployment.state.write() as connection:
            register(connection, found, time.time(), deployment.ours.plan)
            waits = WORK.c.phase == Phase.WAITING.value
            connection.execute(WORK.update().where(waits).values(phase=Phase.ANALYSED.value))
            connection.execute(OUTBOX.delete())
    listed = list(partitions)
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        deployment.instance.add_dynamic_partitions(str(deployment.ours.partitions.name), some)
        with deployment.state.write() as connection:
            connection.execute(PARTITIONS.insert(), [{"partition": p} for p in some])


def backlog(deployment: Deployment, keys: Sequence[str], are_known: bool) -> None:
    """Tick every sensor over a backlog, through a whole listing and one tick more."""
    began = time.monotonic()
    if are_known:
        fill_known(deployment, keys)
        deployment.cursors["reports"] = "0.0"  # this instance is not new
    else:
        fill(deployment, keys)
    print(f"{len(keys)} videos entered in {time.monotonic() - began:.0f} s", flush=True)
    ticks, longest = drain(deployment)
    print(f"reported in {ticks} ticks, the longest {longest:.1f} s", flush=True)
    worst: dict[str, tuple[float, float]] = {}
    rounds, memory = 0, list[float]()
    while True:
        rounds += 1
        memory.append(rss_mb())
        for sensor in SENSORS:
            worst[sensor] = max(worst.get(sensor, (0.0, 0.0)), tick(deployment, sensor))
        if rounds % 25 == 0:
            slowest = max(worst, key=lambda sensor: worst[sensor][0])
            print(
                f"  {rounds} rounds: longest tick {worst[slowest][0]:.2f} s, of {slowest}; "
                f"{memory[-1]:.0f} MB",
                flush=True,
            )
        if '"after": ""' in (deployment.cursors.get("video_discovery") or ""):
            break
    print(f"longest tick in {rounds} rounds (a whole listing), seconds by the clock (CPU):")
    for sensor, (clock, cpu) in worst.items():
        print(f"  {sensor:20} {clock:.2f} ({cpu:.2f})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    waiting = sum(phase.value == "waiting" for phase in sample(deployment))
    print(
        f"memory {memory[0]:.0f} MB at first, {memory[len(memory) // 2]:.0f} at half, "
        f"{memory[-1]:.0f} at the end, peak {peak:.0f}; {waiting} videos wait, "
        f"{started(deployment)} jobs were started",
        flush=True,
    )


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def sample(deployment: Deployment) -> list[Phase]:
    """Phases of all videos."""
    with deployment.state.read() as connection:
        return [Phase(p) for p in connection.scalars(sa.select(WORK.c.phase))]


def started(deployment: Deployment) -> int:
    """Jobs that were ever started."""
    with deployment.state.read() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(JOBS)) or 0)


def lost(deployment: Deployment, keys: Sequence[str]) -> None:
    """A lost state over a full lake: once by itself, once rebuilt by command."""
    lake = Lake(deployment.settings.lake)
    for key in keys:
        one = video(key)
        with lake.writer("person_detections", one) as writer:
            writer.write([{"video": one.uri, "job_id": key, "timestamp_ms": 0, "person_index": 0}])
        row = {"job_id": key, "status": "SUCCEEDED", "rows": 1, "backend": "rekognition"}
        lake.write_job(one, "person_tracking", row)
    print(f"{len(keys)} results are in the lake", flush=True)
    clock, cpu, ticks = time.monotonic(), time.process_time(), 0
    while sum(p.value == "analysed" for p in sample(deployment)) < len(keys):
        tick(deployment, "video_discovery")
        tick(deployment, "job_dispatch")
        ticks += 1
        assert ticks < 1000
    print(
        f"adopted by discovery and dispatch in {ticks} ticks each, "
        f"{time.monotonic() - clock:.0f} s, {time.process_time() - cpu:.0f} s CPU: "
        f"{started(deployment)} jobs started",
        flush=True,
    )
    deployment.set(state=str(deployment.settings.state).replace(".sqlite", "-2.sqlite"))
    clock, cpu = time.monotonic(), time.process_time()
    entered = rebuild(deployment.state, lake, deployment.settings.partitioning, [])
    print(f"state rebuild: {dict(entered)} in {time.monotonic() - clock:.0f} s", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=1000)
    parser.add_argument("--group", help="partition_by, e.g. {camera}/{date}")
    parser.add_argument("--storage", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--known", type=int, default=0, help="analysed videos; none waits")
    parser.add_argument("--lost", type=int, default=0, help="videos in a lake whose state is lost")
    given = parser.parse_args()
    keys = keys_of(given.lost or (given.known or given.videos) + given.new)
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        scripted(keys, 1) as endpoint,
        cluster() if given.storage == "postgres" else nullcontext() as database,
    ):
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        home = Path(folder) / "dagster"
        home.mkdir()
        storage, state = "", f"sqlite:///{folder}/state.sqlite"
        if database:
            url = database.create("dagster").replace("postgresql:", "postgresql+psycopg2:")
            storage = f"storage: {{postgres: {{postgres_url: '{url}'}}}}\n"
            state = database.create("state").replace("postgresql:", "postgresql+psycopg:")
        (home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{storage}")
        settings = Settings(
            name="benchmark",
            bucket="benchmark",
            lake=f"{folder}/lake",
            state=state,
            operations=["person_tracking"],
            queue_url=f"{endpoint}/{QUEUE}",
            topic_arn="arn:aws:sns:eu-central-1:123456789012:benchmark",
            role_arn="arn:aws:iam::123456789012:role/benchmark",
            max_jobs_in_flight=given.new if given.known else QUOTA,
            partition_by=given.group,
        )
        with dg.DagsterInstance.from_config(str(home)) as instance:
            deployment = Deployment(settings, instance, cast(Any, None), cast(Any, None))
            if given.lost:
                lost(deployment, keys)
            else:
                backlog(deployment, keys[: len(keys) - given.new], bool(given.known))


if __name__ == "__main__":
    main()
