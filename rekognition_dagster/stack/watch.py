"""Where the pipeline is with some videos, read from its state; it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.analytics import load_models, order_models
from rekognition_dagster.orchestration.names import BATCH_TAG
from rekognition_dagster.orchestration.results import NO_RESULTS
from rekognition_dagster.state import State
from rekognition_dagster.state.queries import everything
from rekognition_dagster.state.tables import IN_PROGRESS, Phase
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
        self._models = [m for _, m in order_models(load_models(), operations)]

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

    def failed_runs(self, since: float) -> Iterator[str]:
        """Runs that failed for another reason than a bad video, with what they said."""
        for record in self._instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
        ):
            run = record.dagster_run
            if record.create_timestamp.timestamp() < since:
                continue
            if BATCH_TAG in run.tags and NO_RESULTS in self._error(run):
                continue  # it shows a bad video
            assets = ", ".join(sorted(k.to_user_string() for k in run.asset_selection or ()))
            yield f"run {run.run_id[:8]} of {assets or run.job_name} failed: {self._error(run)}"

    def _error(self, run: dg.DagsterRun) -> str:
        logs = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        for entry in logs:
            event = entry.dagster_event
            if event is None or event.step_failure_data.error is None:
                continue
            error = event.step_failure_data.error
            while error.cause is not None:
                error = error.cause
            return error.message.strip()
        return "its process ended without a word"

    def failing_sensors(self, since: float) -> Iterator[str]:
        """Sensors whose last ticks all failed, with what the last one said."""
        for state in self._instance.all_instigator_state():
            ticks = self._instance.get_ticks(
                state.instigator_origin_id, state.selector_id, limit=_FAILED_TICKS, after=since
            )
            errors = [t.error for t in ticks if t.error is not None]
            if len(errors) == _FAILED_TICKS:
                error = errors[0]
                while error.cause is not None:
                    error = error.cause
                yield f"sensor {state.instigator_name} fails: {error.message.strip()}"

    def has_ticked(self, since: float) -> bool:
        """Whether any sensor has run since: the definitions are loaded."""
        return any(
            self._instance.get_ticks(s.instigator_origin_id, s.selector_id, limit=1, after=since)
            for s in self._instance.all_instigator_state()
        )
