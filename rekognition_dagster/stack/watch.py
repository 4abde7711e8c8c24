"""Where the pipeline is with some videos, read from Dagster's events; it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.analytics import load_models
from rekognition_dagster.orchestration.names import RekognitionVideoTranslator
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
        lake: Where results go.
        videos: The videos, with the versions that are meant.
        operations: The operations that run.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        lake: Lake,
        videos: Sequence[Video],
        operations: Sequence[Operation],
    ):
        self._instance, self._lake = instance, lake
        self.videos, self._operations = list(videos), list(operations)
        self._names = RekognitionVideoTranslator()
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
        names, instance = self._names, self._instance
        versions = events.known_versions(instance, names.video(), self._partitions)
        found = self._latest(names.video())
        ids = {
            o: [self._latest(k) for k in (names.job(o), names.completion(o), names.results(o))]
            for o in self._operations
        }
        summaries = {n: self._latest(names.asset_key(n)) for n in self._analytics}
        stages: dict[Video, Stage] = {}
        for video in self.videos:
            key = video.partition_key
            if versions.get(key) != video.version:
                stages[video] = Stage((), (), False)
                continue
            steps, failures, is_settled = ["discovered"], [], True
            analysed: dict[Operation, int] = {}
            for o, (jobs, completions, results) in ids.items():
                seen, start, end = found[key], jobs.get(key, 0), completions.get(key, 0)
                if start > seen:
                    steps.append(f"{o.name} started")
                if end > start > seen:
                    steps.append(f"{o.name} completed")
                if results.get(key, 0) > max(seen, start):
                    analysed[o] = results[key]
                    steps.append(f"{o.table} written")
                elif failure := self._failure(video, o, seen, start, end):
                    failures.append(f"{o.name}: {failure}")
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

    def _latest(self, key: dg.AssetKey) -> dict[str, int]:
        return dict(events.latest_ids(self._instance, key, self._partitions))

    def _failure(
        self, video: Video, operation: Operation, seen: int, start: int, end: int
    ) -> str | None:
        """Why an operation gave no results for a video; None while it still may."""
        key = self._names.job(operation)
        refused = self._instance.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_OBSERVATION, {video.partition_key}
        ).get(video.partition_key, 0)
        if refused > max(seen, start):
            records = self._instance.fetch_observations(
                dg.AssetRecordsFilter(asset_key=key, storage_ids=[refused]), limit=1
            ).records
            told = [r.asset_observation.metadata["refused"] for r in records if r.asset_observation]
            return str(told[0].value) if told else "refused"
        if not end > start:
            return None
        completion = self._names.completion(operation)
        ended = events.latest_events(self._instance, completion, [video.partition_key])
        if ended[video.partition_key].metadata["status"] != "FAILED":
            return None
        job = self._lake.read_job(video, operation.name)  # written by the run that follows
        return str(job["status_message"]) if job and job["status"] == "FAILED" else None

    def failed_runs(self, since: float, stages: dict[Video, Stage]) -> Iterator[str]:
        """Runs that failed for another reason than a bad video, with what they said."""
        for record in self._instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
        ):
            run = record.dagster_run
            if record.create_timestamp.timestamp() < since:
                continue
            touched = [
                v for v in self.videos if v.partition_key in _partitions(run, self._instance)
            ]
            if touched and all(stages[v].failures or stages[v].is_settled for v in touched):
                continue
            if any(stages[v].failures for v in touched):
                continue
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


def _partitions(run: dg.DagsterRun, instance: dg.DagsterInstance) -> set[str]:
    """The partitions that a run is about."""
    tags = run.tags
    if one := tags.get("dagster/partition"):
        return {one}
    first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    order = list(instance.get_dynamic_partitions("videos"))
    if first not in order or last not in order:
        return set()
    return set(order[order.index(first) : order.index(last) + 1])
