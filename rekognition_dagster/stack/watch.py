"""The pipeline's progress with videos, read from its state and Dagster's; it changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.orchestration.names import BATCH_TAG, Deployment
from rekognition_dagster.orchestration.results import NO_RESULTS
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.state import State
from rekognition_dagster.state.queries import entries_after, everything, last_entry
from rekognition_dagster.state.tables import IN_PROGRESS, SUCCEEDED, Phase
from rekognition_dagster.videos import Video

_FAILED_TICKS = 3


@dataclass(frozen=True)
class Stage:
    """How far one video is.

    Args:
        steps: What has been done of it, in words, in the order in which it is done.
        failures: Why it cannot go on, where it cannot.
        is_settled: Whether nothing more will be done.
    """

    steps: tuple[str, ...]
    failures: tuple[str, ...]
    is_settled: bool


class Follower:
    """Prints what the pipeline does with each video, and what keeps it from working.

    Args:
        state: The pipeline's.
        instance: Dagster's.
        report: Called with each line.
    """

    def __init__(self, state: State, instance: dg.DagsterInstance, report: Callable[[str], None]):
        self._state, self._instance, self._report = state, instance, report
        self._since = time.time()
        self._problems: set[str] = set()
        with state.read() as connection:
            self._last = last_entry(connection)

    def look(self) -> None:
        """Print what has happened since the last look."""
        with self._state.read() as connection:
            entries = entries_after(connection, self._last)
        for entry in entries:
            self._last = entry["id"]
            if line := _line(entry):
                self._report(f"{Video.from_partition_key(entry['key']).key}: {line}")

    def look_for_problems(self) -> None:
        """Print each failed run and failing sensor once."""
        found = {
            *failed_runs(self._instance, self._since),
            *failing_sensors(self._instance, self._since),
        }
        for problem in sorted(found - self._problems):
            self._report(f"error: {problem}")
        self._problems = found


def _line(entry: Mapping[str, Any]) -> str | None:
    """Return an entry of the history as the demo prints it; None for one it leaves out."""
    name, what, detail = entry["operation"], entry["what"], entry["detail"]
    if what in ("refused", "no results"):
        return f"failed: {name}: {detail}"
    if what == "results written":
        return f"{OPERATIONS[name].table} written, {detail.partition(' of ')[0]}"
    if what == "completed":
        return f"{name} completed" + (f": {detail}" if detail != SUCCEEDED else "")
    return {
        "computed": f"{name} written",
        "started": f"{name} started",
    }.get(what, " ".join(filter(None, (name, what))))


class Watch:
    """Looks at the stages of some videos.

    Args:
        instance: Dagster's.
        state: The pipeline's.
        videos: The videos, with the versions that are meant.
        operations: The operations that run.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        state: State,
        videos: Sequence[Video],
        operations: Sequence[Operation],
    ):
        self._instance, self._state = instance, state
        self.videos, self._operations = list(videos), list(operations)
        self._models = Deployment(Settings(operations=[o.name for o in operations])).state_models

    @property
    def steps_each(self) -> int:
        """Steps that a video takes when all goes well."""
        return 1 + 3 * len(self._operations) + len(self._models)

    def look(self) -> dict[Video, Stage]:
        """Every video's stage now."""
        with self._state.read() as connection:
            known = {v: everything(connection, v.partition_key) for v in self.videos}
        return {video: self._stage(video, facts) for video, facts in known.items()}

    def _stage(self, video: Video, facts: dict[str, Any]) -> Stage:
        if facts["video"] is None or facts["video"]["version"] != video.version:
            return Stage((), (), False)
        jobs = {j["job_id"]: j for j in facts["jobs"]}
        work = {w["operation"]: w for w in facts["work"]}
        steps, failures, is_settled = ["discovered"], [], True
        for o in self._operations:
            mine = work.get(o.name)
            if mine is None:
                is_settled = False
                continue
            job = jobs.get(mine["job_id"])
            steps += [f"{o.name} started"] if job else []
            steps += [f"{o.name} completed"] if job and job["status"] != IN_PROGRESS else []
            if mine["phase"] == Phase.ANALYSED.value:
                steps.append(f"{o.table} written")
            elif mine["phase"] == Phase.FAILED.value and mine["shown"]:
                failures.append(f"{o.name}: {mine['reason']}")
            else:
                is_settled = False
        made = {a["model"]: a for a in facts["analytics"]}
        for model in self._models:
            if model.name in made and not made[model.name]["behind"]:
                steps.append(f"{model.name} written")
            elif model.name in made:
                is_settled = False
        return Stage(tuple(steps), tuple(failures), is_settled)

    def has_ticked(self, since: float) -> bool:
        """Whether any sensor has run since: the definitions are loaded."""
        return any(
            self._instance.get_ticks(s.instigator_origin_id, s.selector_id, limit=1, after=since)
            for s in self._instance.all_instigator_state()
        )


def failed_runs(instance: dg.DagsterInstance, since: float) -> Iterator[str]:
    """Yield the runs that failed for another reason than a bad video, with their errors."""
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
    for record in instance.get_run_records(filters):
        run = record.dagster_run
        if record.create_timestamp.timestamp() < since:
            continue
        error = _error(instance, run)
        if BATCH_TAG in run.tags and NO_RESULTS in error:
            continue  # it shows a bad video
        assets = ", ".join(sorted(k.to_user_string() for k in run.asset_selection or ()))
        yield f"run {run.run_id[:8]} of {assets or run.job_name} failed: {error}"


def _error(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is None or event.step_failure_data.error is None:
            continue
        error = event.step_failure_data.error
        while error.cause is not None:
            error = error.cause
        return error.message.strip()
    return "its process ended without an error message"


def failing_sensors(instance: dg.DagsterInstance, since: float) -> Iterator[str]:
    """Yield the sensors whose last ticks all failed, with the last error."""
    for state in instance.all_instigator_state():
        ticks = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, limit=_FAILED_TICKS, after=since
        )
        errors = [t.error for t in ticks if t.error is not None]
        if len(errors) == _FAILED_TICKS:
            error = errors[0]
            while error.cause is not None:
                error = error.cause
            yield f"sensor {state.instigator_name} fails: {error.message.strip()}"
