"""What Dagster and this package cost for a video: CPU time from discovery to rows in the lake.

The daemon and a code server run as on a host that stays, against a scripted AWS that is not
counted:
jobs end after a moment, in no order, and have one page of rows. Beside it, on fewer videos, a run
for each video. Both without analytics, unless they are asked for. With --own-code-server the daemon
loads the module itself, as `dagster-daemon run -m` does: it then starts a code server a minute.

    python -m benchmarks orchestration [--videos 1000 ...] [--naive 20] [--storage sqlite]
                                       [--group PATTERN] [--analytics] [--own-code-server]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

_ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(_ROOT / "tests"))
from chaos.stack import free_port  # noqa: E402
from postgresql import cluster  # noqa: E402

from benchmarks.orchestration.aws import QUEUE, scripted  # noqa: E402

_SECRETS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_DAGSTER = """\
telemetry: {enabled: false}
run_queue: {max_concurrent_runs: 2, dequeue_interval_seconds: 1}
sensors: {use_threads: true, num_workers: 4}
"""
_WORKSPACE = """\
load_from:
  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: benchmark}}
"""
_ROWS = 200  # of a result
_PATIENCE_S = 300
_RUNS = (b"execute_run", b"spawn_main", b"resource_tracker")
_PER_DAY = 100  # videos of one camera's day


@dataclass
class Cost:
    """What some videos cost."""

    videos: int
    cpu_s: float
    wall_s: float
    runs: int
    longest_tick_s: dict[str, float]
    memory_mb: list[float]
    database_s: float

    @property
    def cpu_ms_each(self) -> float:
        """CPU milliseconds for a video."""
        return self.cpu_s / self.videos * 1000


def measure(
    videos: int, module: str, group: str | None, storage: str, own_code_server: bool = False
) -> Cost:
    """Bring ``videos`` through the pipeline of a module's definitions."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        scripted(list(_keys(videos)), _ROWS) as endpoint,
        cluster() if storage == "postgres" else nullcontext() as database,
    ):
        home, lake = Path(folder) / "dagster", Path(folder) / "lake"
        home.mkdir()
        dagster = _DAGSTER
        if database:
            url = database.create("dagster").replace("postgresql:", "postgresql+psycopg2:")
            dagster += f"storage: {{postgres: {{postgres_url: '{url}'}}}}\n"
        (home / "dagster.yaml").write_text(dagster)
        env = {
            **os.environ,
            **_SECRETS,
            "AWS_ENDPOINT_URL": endpoint,
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": str(_ROOT),
            "REKOGNITION_DAGSTER_NAME": "benchmark",
            "REKOGNITION_DAGSTER_BUCKET": "benchmark",
            "REKOGNITION_DAGSTER_LAKE": str(lake),
            "REKOGNITION_DAGSTER_OPERATIONS": "person_tracking",
            "REKOGNITION_DAGSTER_QUEUE_URL": f"{endpoint}/{QUEUE}",
            "REKOGNITION_DAGSTER_TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:benchmark",
            "REKOGNITION_DAGSTER_ROLE_ARN": "arn:aws:iam::123456789012:role/benchmark",
            "REKOGNITION_DAGSTER_MAX_JOBS_IN_FLIGHT": "1000",
            "REKOGNITION_DAGSTER_SENSOR_INTERVAL": "30",
            **({"REKOGNITION_DAGSTER_PARTITION_BY": group} if group else {}),
        }
        result = Path(folder) / "cpu.json"
        load = ["-m", module]
        if not own_code_server:
            load = ["-w", str(home / "workspace.yaml")]
            (home / "workspace.yaml").write_text(_WORKSPACE.format(port=(port := free_port())))
            env |= {"CODE_SERVER_PORT": str(port), "CODE_SERVER_MODULE": module}
        log = (Path(folder) / "daemon.log").open("wb")
        begin = time.monotonic()
        daemon = subprocess.Popen(
            [
                *(sys.executable, str(Path(__file__).with_name("meter.py")), str(result)),
                *(str(Path(sys.executable).with_name("dagster-daemon")), "run", *load),
            ],
            env=env,
            stdout=log,
            stderr=log,
        )
        try:
            memory = _wait(daemon, lake, videos)
            wall = time.monotonic() - begin
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            runs, ticks = instance.get_runs_count(), _ticks(instance)
        cpu = json.loads(result.read_text())["cpu_s"]
        used = _cpu_s(database.pid) if database else 0.0
        return Cost(videos, cpu, wall, runs, ticks, memory, used)


def _wait(daemon: subprocess.Popen[bytes], lake: Path, videos: int) -> list[float]:
    """Until all rows are there; the memory of daemon and code server meanwhile, in MB."""
    memory: list[float] = []
    done = told = 0
    moved = time.monotonic()
    while done < videos:
        time.sleep(5)
        before, done = done, sum(1 for _ in (lake / "jobs").rglob("*.parquet"))
        moved = time.monotonic() if done > before else moved
        if daemon.poll() is not None or time.monotonic() - moved > _PATIENCE_S:
            log = (lake.parent / "daemon.log").read_text(errors="replace")
            sys.exit(f"the daemon ended, or does nothing; it said:\n{log[-3000:]}")
        memory.append(_memory_mb(daemon.pid))
        if done * 10 // videos > told:
            told = done * 10 // videos
            print(f"  {done} of {videos}, {memory[-1]:.0f} MB", flush=True)
    time.sleep(10)  # the last run says so, and ends
    return memory


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and of those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int) -> float:
    """Resident memory of the daemon and its code servers, without the runs' own processes."""
    total = 0.0
    for child in _children(pid):
        for process in (child, *_children(child)):
            try:
                command = Path(f"/proc/{process}/cmdline").read_bytes()
                pages = Path(f"/proc/{process}/statm").read_text().split()[1]
            except OSError:
                continue
            if not any(name in command for name in _RUNS):
                total += int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return total


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _ticks(instance: dg.DagsterInstance) -> dict[str, float]:
    longest: dict[str, float] = {}
    for state in instance.all_instigator_state():
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
        lengths = [t.end_timestamp - t.timestamp for t in ticks if t.end_timestamp]
        longest[state.instigator_name] = max(lengths, default=0.0)
    return longest


def _keys(videos: int) -> Iterator[str]:
    for i in range(videos):
        camera, day = i // _PER_DAY % 10, i // _PER_DAY // 10
        yield f"camera-{camera}/2026-{1 + day // 28:02}-{1 + day % 28:02}/{i % _PER_DAY:04}.mp4"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, nargs="+", default=[1000])
    parser.add_argument("--naive", type=int, default=20, help="videos with a run for each; 0: none")
    parser.add_argument("--group", help="partition_by, e.g. {camera}/{date}")
    parser.add_argument("--storage", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--analytics", action="store_true", help="compute them too")
    parser.add_argument("--own-code-server", action="store_true", help="the daemon starts it")
    given = parser.parse_args()
    own = given.own_code_server
    if given.naive:
        naive = measure(given.naive, "benchmarks.orchestration.naive", None, given.storage, own)
        _print("a run for each", naive)
    package = "rekognition_dagster.definitions"
    module = package if given.analytics else "benchmarks.orchestration.ours"
    for videos in given.videos:
        _print("a run for many", measure(videos, module, given.group, given.storage, own))


def _print(name: str, cost: Cost) -> None:
    memory = cost.memory_mb
    print(
        f"{name}: {cost.videos} videos, {cost.runs} runs, {cost.cpu_ms_each:.1f} ms CPU a video, "
        f"{cost.cpu_s:.0f} s in all, {cost.wall_s:.0f} s by the clock; "
        f"{cost.database_s:.0f} s more in PostgreSQL; memory "
        f"{memory[len(memory) // 4]:.0f} MB at a quarter, {max(memory):.0f} at most, "
        f"{memory[-1]:.0f} at the end"
    )
    ticks = ", ".join(f"{n} {s:.1f} s" for n, s in sorted(cost.longest_tick_s.items()))
    print(f"  longest ticks: {ticks}", flush=True)


if __name__ == "__main__":
    main()
