"""Everything fails at random, for minutes; at the end everything is there, once, byte for byte.

A seed decides what is killed and which calls go wrong, so that a failure can be looked for again:
``make chaos SEED=n``. When things happen is the machine's to say, so that may take some goes.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chaos.stack import QUOTA, Stack, free_port, pace
from fault_proxy import FaultProxy
from service.serving import mp4

from rekognition_dagster import Lake
from rekognition_dagster.analytics import load_models
from rekognition_dagster.lake import TABLES
from rekognition_dagster.lake.names import REGISTRY
from rekognition_dagster.lake.writer import TableWriter

VIDEOS = int(os.environ.get("REKOGNITION_DAGSTER_CHAOS_VIDEOS") or 10)
KILLS = int(os.environ.get("REKOGNITION_DAGSTER_CHAOS_KILLS") or 5)
OPERATIONS = os.environ.get("REKOGNITION_DAGSTER_CHAOS_OPERATIONS") or (
    "person_tracking,face_detection"
)
LIMIT_S = float(os.environ.get("REKOGNITION_DAGSTER_CHAOS_LIMIT") or 0)
"""How long it may take; as long as the machine's pace suggests by default."""
SEED = int(os.environ.get("REKOGNITION_DAGSTER_CHAOS_SEED") or secrets.randbelow(10**6))
STORAGE = os.environ.get("REKOGNITION_DAGSTER_CHAOS_STORAGE") or "sqlite"
"""Where the disturbed deployment keeps Dagster's events and its state: sqlite or postgres."""
GAP_S = 5.0
"""Seconds between two kills, on average."""
PATIENCE_S = 15.0
"""What was killed gets so long to do something before the next kill; more on a slow machine."""
QUIET_S = 6.0
"""Nothing may be left to do for so long before it counts as the end."""

OF_BOTH = {"REKOGNITION_DAGSTER_OPERATIONS": OPERATIONS}
UNHURRIED = {
    **OF_BOTH,
    "REKOGNITION_DAGSTER_SENSOR_INTERVAL": "20",
    "REKOGNITION_DAGSTER_MAX_JOBS_IN_FLIGHT": "1000",
}
"""How the undisturbed deployment works, so that it leaves the processor to the other one."""

TARGETS = {
    "run worker": 6,
    "service worker": 4,
    "daemon": 3,
    "code server": 2,
    "code server with its runs": 2,
    "service": 2,
    "service with its workers": 2,
}
"""What is killed, and how often beside the others."""


@dataclass
class Chaos:
    """A deployment under faults, an undisturbed one beside it, and what is told of them."""

    stack: Stack
    calm: Stack
    dice: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0

    def kill_while(self, uploads: Iterator[None], deadline: float) -> None:
        """Kill, and supervise, until there were enough kills; uploads are spread over that time."""
        upload, every = time.monotonic(), KILLS * GAP_S * 0.8 / VIDEOS
        due, seen, target = upload, (0, 0, 0), self._choose()
        patience = PATIENCE_S * self.stack.pace
        while self.kills.total() < KILLS and (now := time.monotonic()) < deadline:
            self._supervise()
            while now >= upload:
                next(uploads, None)
                upload += every
            progress = self._progress()
            if not any(progress):
                due = now  # there is nothing to lose yet
            elif now > due + patience or (now >= due and progress != seen):
                if self._kill(target):
                    seen, due = progress, now + GAP_S * self.dice.uniform(0.1, 1.9)
                if due > now or now > due + patience:  # else it waits for such a process
                    target = self._choose()
            self._tell("{} jobs, {} ended, {} files".format(*progress))
            time.sleep(0.25)
        for _ in uploads:
            pass

    def finish(self, deadline: float, wrong: Callable[[], list[str]]) -> list[str]:
        """Supervise until nothing is left to do; what is left, or wrong, at the deadline."""
        quiet_since: float | None = None
        while True:
            self._supervise()
            todo = self.stack.unfinished(VIDEOS)
            todo = todo or [f"undisturbed: {t}" for t in self.calm.unfinished(VIDEOS)] or wrong()
            self._tell(", ".join(todo)[:200])
            now = time.monotonic()
            quiet_since = None if todo else quiet_since or now
            if (quiet_since and now - quiet_since > QUIET_S) or now > deadline:
                return todo
            time.sleep(2.0)

    def _progress(self) -> tuple[int, int, int]:
        jobs = self.stack.jobs()
        ended = sum(j["status"] != "IN_PROGRESS" for j in jobs)
        return len(jobs), ended, len(files(self.stack.lake))

    def _supervise(self) -> None:
        self.stack.look_after(self.dice)
        self.calm.look_after(self.dice)

    def _tell(self, left: str) -> None:
        """A line now and then, for whoever watches."""
        if (now := time.monotonic()) > self.told + 10:
            self.told = now
            print(f"{now - self.began:4.0f} s: {self.kills.total()} kills, {left}", flush=True)

    def _choose(self) -> str:
        return self.dice.choices(list(TARGETS), list(TARGETS.values()))[0]

    def _kill(self, target: str) -> bool:
        """Kill it, if it is there."""
        stack = self.stack
        if target == "run worker":
            found = self._kill_one(stack.run_workers())
        elif target == "service worker":
            found = self._kill_one(stack.service.children("service.worker"))
        else:
            process = next(p for p in stack.processes if target.startswith(p.name))
            found = process.kill(with_children="with" in target)
        self.kills[target] += found
        return found

    def _kill_one(self, pids: list[int]) -> bool:
        if not pids:
            return False
        try:
            os.kill(self.dice.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def scripts() -> Iterator[tuple[str, bytes]]:
    """Videos by key: each has its own number of rows, some have several pages."""
    for i in range(VIDEOS):
        script = {
            "rows": 10 + i + (1000 if i % 10 == 9 else 0),
            "seconds": 0.05 * (i % 5),
            "duration_ms": 600_000,
        }
        yield f"2026-03-{1 + i % 9:02d}/{i:04d}.mp4", mp4(json.dumps(script).encode())


def files(lake: Lake) -> list[str]:
    """Every file of a lake, by its path in it, without locks."""
    root = Path(lake.url)
    found = (p for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")
    return sorted(str(p.relative_to(root)) for p in found)


@dataclass(frozen=True)
class Expected:
    """The undisturbed run's lake, from which another may differ in the ids of jobs."""

    lake: Lake
    scratch: Lake
    jobs: list[dict[str, Any]]

    def wrong(self, lake: Lake, operations: Mapping[str, str]) -> list[str]:
        """Files of a lake that are not as they should be.

        Args:
            lake: Which.
            operations: Operations by their table.
        """
        ours, expected = files(lake), files(self.lake)
        wrong = [f"{p} is missing" for p in expected if p not in ours]
        wrong += [f"{p} is too many" for p in ours if p not in expected]
        return wrong or [p for p in expected if not self._is_right(lake, p, operations)]

    def _is_right(self, lake: Lake, path: str, operations: Mapping[str, str]) -> bool:
        table = path.split("/", maxsplit=1)[0]
        calm, data = (Path(of.url, path).read_bytes() for of in (self.lake, lake))
        if table == REGISTRY:
            return data == calm
        ids = {(j["operation"], j["name"]): j["job_id"] for j in self.jobs}
        expected = pq.ParquetFile(Path(self.lake.url, path)).read()
        if path.endswith("/day.parquet"):  # its footer names the jobs that it was computed from
            found = pq.ParquetFile(Path(lake.url, path)).read()
            return sorted(map(repr, found.to_pylist())) == sorted(map(repr, expected.to_pylist()))
        [video] = set(expected["video"].to_pylist())
        key = video.split("/", 3)[3]
        if table == "jobs":
            [row] = pq.ParquetFile(Path(lake.url, path)).read().to_pylist()
            return (row["status"], row["job_id"]) == ("SUCCEEDED", ids[row["operation"], key])
        if table not in operations:
            return data == calm
        assert self._rewritten(expected, path, {}) == calm, "rewriting must be faithful"
        return data == self._rewritten(expected, path, {"job_id": ids[operations[table], key]})

    def _rewritten(self, rows: pa.Table, path: str, changed: Mapping[str, Any]) -> bytes:
        """A file's bytes, had columns of it had other values."""
        table = TABLES[path.split("/", maxsplit=1)[0]]
        for name, value in changed.items():
            at = rows.schema.get_field_index(name)
            column = pa.array([value] * rows.num_rows, rows.schema.field(at).type)
            rows = rows.set_column(at, rows.schema.field(at), column)
        scratch = self.scratch.storage
        with TableWriter(scratch, path, table.schema, table.sort_columns) as writer:
            writer.write(rows)
        return Path(self.scratch.url, path).read_bytes()


def most_at_once(jobs: list[dict[str, Any]]) -> int:
    """How many jobs were in progress at the same time, at most."""
    changes = [(j["created_at"], 1) for j in jobs] + [(j["completed_at"], -1) for j in jobs]
    return max(itertools.accumulate(change for _, change in sorted(changes)))


def test_nothing_is_lost_and_nothing_is_done_twice(
    request: pytest.FixtureRequest,
    aws,
    aws_endpoint: str,
    bucket: str,
    unique: str,
    tmp_path: Path,
) -> None:
    databases = None
    if STORAGE == "postgres":
        cluster = request.getfixturevalue("postgres")
        dagster, state = (cluster.create(f"{name}-{unique}") for name in ("dagster", "state"))
        databases = (
            dagster.replace("postgresql:", "postgresql+psycopg2:"),
            state.replace("postgresql:", "postgresql+psycopg:"),
        )
    dice = random.Random(SEED)
    grouped = dice.random() < 0.5
    more = {"REKOGNITION_DAGSTER_PARTITION_BY": "{date}"} if grouped else {}
    print(f"\nchaos: seed {SEED}, {VIDEOS} videos, {KILLS} kills, {STORAGE}")
    print(f"partitions {more or 'per video'}")
    more |= OF_BOTH
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it tells every call of moto's
    s3 = aws.client("s3")

    def upload() -> Iterator[None]:
        for key, data in scripts():
            s3.put_object(Bucket=bucket, Key=key, Body=data)
            yield

    slowness = pace()
    print(f"processes take {slowness:.1f} times as long to start as on a quiet machine")
    deadline = time.monotonic() + (LIMIT_S or 300 * slowness)
    calm_port, port = free_port(), free_port()
    direct = (aws_endpoint, f"http://127.0.0.1:{calm_port}")
    with (
        FaultProxy(aws_endpoint, SEED) as aws_proxy,
        FaultProxy(f"http://127.0.0.1:{port}", SEED) as service_proxy,
        Stack(
            f"{unique}-calm",
            tmp_path / "calm",
            bucket,
            aws_endpoint,
            direct,
            calm_port,
            slowness,
            UNHURRIED,
        ) as calm,
        Stack(
            f"{unique}-chaos",
            tmp_path / "chaos",
            bucket,
            aws_endpoint,
            (aws_proxy.url, service_proxy.url),
            port,
            slowness,
            more,
            databases,
        ) as stack,
    ):
        operations = {o.table: o.name for o in stack.settings.operation_list}
        scratch = Lake(tmp_path / "scratch")
        chaos = Chaos(stack, calm, dice)
        chaos.kill_while(upload(), deadline)
        left = chaos.finish(
            deadline,
            lambda: Expected(calm.lake, scratch, stack.jobs()).wrong(stack.lake, operations),
        )
    faults = aws_proxy.faults + service_proxy.faults
    calls = aws_proxy.calls + service_proxy.calls
    print(f"{time.monotonic() - chaos.began:.0f} s, {chaos.kills.total()} kills: {chaos.kills}")
    print(f"{faults.total()} of {calls.total()} calls went wrong: {dict(sorted(faults.items()))}")
    print({p.name: (p.starts, p.died_by_itself) for p in stack.processes})

    assert not left, f"seed {SEED}: {left}"
    assert chaos.kills.total() >= KILLS
    tables = Counter(path.split("/")[0] for path in files(calm.lake))
    assert set(tables) >= {*operations, "videos", "jobs", *(m.name for m in load_models())}
    by_day = {m.name for m in load_models() if m.day_column is not None}
    assert {n for t, n in tables.items() if t not in ("jobs", REGISTRY, *by_day)} == {VIDEOS}
    jobs = stack.jobs()
    assert {j["status"] for j in jobs} == {"SUCCEEDED"}, f"seed {SEED}"
    twice = [k for k, n in Counter((j["operation"], j["name"]) for j in jobs).items() if n > 1]
    assert not twice, f"seed {SEED}: started twice: {twice}"
    assert most_at_once(jobs) <= QUOTA, f"seed {SEED}"
