"""Where the pipeline is with some videos, read from Dagster's events; it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.analytics import load_models
from rekognition_dagster.orchestration.ledger import Book
from rekognition_dagster.orchestration.names import (
    FAILURE,
    LAUNCHED_TAG,
    RekognitionVideoTranslator,
)
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.orchestration.standing import Books, Phase, Standing
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
        videos: The videos, with the versions that are meant.
        operations: The operations that run.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        videos: Sequence[Video],
        operations: Sequence[Operation],
    ):
        self._instance = instance
        self.videos, self._operations = list(videos), list(operations)
        self._names = RekognitionVideoTranslator()
        self._books = Books(self._names, Settings())
        tables = {o.table: o for o in operations}
        read = {m.name: [tables[t] for t in m.mentions(tables)] for m in load_models()}
        self._analytics = {name: sources for name, sources in read.items() if sources}
        self._partitions = [v.partition_key for v in self.videos]

    @property
    def steps_each(self) -> int:
        """Steps that a video takes when all goes well."""
        return 1 + 3 * len(self._operations) + len(self._analytics)

    def look(self) -> dict[Video, Stage]:
        """Every video's stage now."""
        boards = {
            o: {
                s.video.partition_key: s
                for s in self._books.board(self._instance, o).find(partitions=self._partitions)
            }
            for o in self._operations
        }
        summaries = {
            name: Book(self._names.asset_key(name)).ids(self._instance, self._partitions)
            for name in self._analytics
        }
        results = {
            o: self._books.results(o).ids(self._instance, self._partitions)
            for o in self._operations
        }
        stages: dict[Video, Stage] = {}
        for video in self.videos:
            key = video.partition_key
            standings = {o: board[key] for o, board in boards.items() if key in board}
            if any(s.video.version != video.version for s in standings.values()) or not standings:
                stages[video] = Stage((), (), False)
                continue
            steps, failures, is_settled = ["discovered"], [], True
            analysed: dict[Operation, int] = {}
            for o, standing in standings.items():
                steps += _steps(o, standing)
                if standing.phase is Phase.ANALYSED:
                    analysed[o] = results[o].get(key, 0)
                elif standing.phase is Phase.FAILED and (standing.told or standing.job is None):
                    failures.append(f"{o.name}: {standing.reason}")
                else:
                    is_settled = False
            for name, sources in self._analytics.items():
                newest = max((analysed[o] for o in sources if o in analysed), default=None)
                if newest is not None and summaries[name].get(key, 0) > newest:
                    steps.append(f"{name} written")
                elif newest is not None:
                    is_settled = False
            stages[video] = Stage(tuple(steps), tuple(failures), is_settled)
        return stages

    def failed_runs(self, since: float) -> Iterator[str]:
        """Runs that failed for another reason than a bad video, with what they said."""
        for record in self._instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
        ):
            run = record.dagster_run
            if record.create_timestamp.timestamp() < since:
                continue
            if record.dagster_run.tags.get(LAUNCHED_TAG) == FAILURE:
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


def _steps(operation: Operation, standing: Standing) -> list[str]:
    """What has been done of a video for an operation."""
    steps = []
    if standing.job is not None:
        steps.append(f"{operation.name} started")
    if standing.completion is not None:
        steps.append(f"{operation.name} completed")
    if standing.phase is Phase.ANALYSED:
        steps.append(f"{operation.table} written")
    return steps
