"""Results: page completed jobs into the lake. One function does so for assets and for batches."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.errors import (
    AccessError,
    JobExpiredError,
    JobFailedError,
    RekognitionDagsterError,
)
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.orchestration import adapter
from rekognition_dagster.orchestration.checks import results_checks, verdicts
from rekognition_dagster.orchestration.highlights import dump, examine
from rekognition_dagster.orchestration.metadata import Rows, column_schema, rows_metadata
from rekognition_dagster.orchestration.names import BATCH_SIZE, BATCH_TAG, Deployment
from rekognition_dagster.orchestration.selection import VideosConfig, failure, selected
from rekognition_dagster.state import State, batches
from rekognition_dagster.state import results as result_state
from rekognition_dagster.state.results import EXPIRED, FAILED, Stand, Written
from rekognition_dagster.state.tables import GONE, Phase
from rekognition_dagster.videos import Video

NO_RESULTS = "have no results"
"""What a run says of videos whose jobs FAILED, or whose starts were refused."""
_NOT_PAGED = "could not be paged, and are tried again"
_ENTERED_AT_ONCE, _ENTERED_S = 50, 5.0  # results entered together, or after so long


def build_results_asset(operation: Operation, deployment: Deployment) -> dg.AssetsDefinition:
    """The asset of an operation's table: a partition is its videos' rows, a Parquet file each."""
    spec = deployment.asset(
        "results",
        operation,
        deps=[deployment.key("completion", operation)],
        kinds={"rekognition", "parquet"},
        skippable=True,
        metadata={"dagster/column_schema": column_schema(operation.schema, operation.descriptions)},
        description=f"{TABLES[operation.table].row.capitalize()}: the pages of "
        f"{operation.get_api}, as Parquet.",
    )
    key = spec.key

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[spec],
        partitions_def=deployment.partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        required_resource_keys=deployment.needs("rekognition", "lake"),
        check_specs=results_checks(operation, key, deployment.partitions),
    )
    def page(
        context: dg.AssetExecutionContext, config: VideosConfig
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        state = deployment.state(context.instance)
        keys = selected(context, config, state)
        with state.read() as connection:
            stands = result_state.stands(connection, operation.name, keys)
        # Of a group, what has completed; of a single video whatever it is, to say why not.
        if len(keys) > 1 and not config.videos:
            stands = [s for s in stands if _has_ended(s)]
        elif len(stands) < len(keys):
            raise dg.Failure(
                f"no job was started for this version. Materialize {operation.name}_job first",
                allow_retries=False,
            )
        paging = Paging(context, deployment, state, operation)
        paging.run(stands)
        done, findings, failures = paging.done, paging.findings, paging.failures
        for verdict in verdicts(operation, findings, failures):
            yield dg.AssetCheckResult(
                passed=verdict.passed,
                check_name=verdict.name,
                asset_key=key,
                severity=verdict.severity,
                metadata=verdict.metadata,
                description=verdict.description,
            )
        deployment.resource(context, "lake").refresh_catalogue()
        if failures:
            raise failure(paging.what_failed, len(stands), failures)
        if done:
            rows = [rows_of(w) for w in done]
            yield dg.MaterializeResult(metadata=rows_metadata(paging.lake, operation.table, rows))

    return page


def _has_ended(stand: Stand) -> bool:
    ended = (Phase.UNPAGED, Phase.FAILED, Phase.ANALYSED)
    return stand.phase in ended and (stand.job is not None or stand.phase is Phase.ANALYSED)


class BatchConfig(dg.Config):
    """Which batch a run is for; the run's tag by default."""

    batch: str = ""


def build_results_job(deployment: Deployment) -> dg.JobDefinition:
    """The job that pages the results of a batch, of all operations.

    A bad video never stops the others; the run fails at its end and names the bad ones.
    """

    @dg.op(
        name=deployment.scoped("page_results"),
        required_resource_keys=deployment.needs("rekognition", "lake"),
        description="Pages the results of completed jobs into the lake.",
    )
    def page_results(context: dg.OpExecutionContext, config: BatchConfig) -> None:
        batch = config.batch or context.run.tags.get(BATCH_TAG, "")
        state = deployment.state(context.instance)
        failures: dict[str, str] = {}
        what, total = NO_RESULTS, 0
        with state.write() as connection:
            batches.alive(connection, batch, time.time())
        for name in deployment.operation_names:
            with state.read() as connection:
                keys = batches.keys_of(connection, batch, name)
                stands = result_state.stands(connection, name, keys)
            paging = Paging(context, deployment, state, OPERATIONS[name], batch)
            try:
                paging.run(stands)
            except AccessError:
                with state.write() as connection:
                    batches.give_back(connection, batch)
                raise
            total += len(stands)
            failures |= paging.failures
            what = paging.what_failed if paging.what_failed != NO_RESULTS else what
        deployment.resource(context, "lake").refresh_catalogue()
        with state.write() as connection:
            batches.end(connection, batch)
        if failures:
            raise failure(what, total, failures)

    @dg.job(
        name=deployment.scoped("results"),
        executor_def=dg.in_process_executor,
        description="Pages completed jobs into the lake. Launched by results_refresh.",
    )
    def results() -> None:
        page_results()  # pyright: ignore[reportCallIssue] -- Dagster fills its arguments in

    return results


@dataclass
class Paging:
    """Pages results of one operation, several videos at a time, and enters what came of it."""

    context: Any
    deployment: Deployment
    state: State
    operation: Operation
    batch: str | None = None
    done: list[Written] = field(default_factory=list)
    findings: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    what_failed: str = NO_RESULTS

    def __post_init__(self) -> None:
        self.lake: Lake = self.deployment.resource(self.context, "lake").open()
        self._entered, self._since = 0, time.monotonic()
        self._red: set[str] = set()
        self._videos: dict[str, Video] = {}

    def run(self, stands: Sequence[Stand]) -> None:
        """Page the results of videos. What failed is in :attr:`failures`, by URI."""
        api = self.deployment.resource(self.context, "rekognition").pager() if stands else None
        chosen = [s for s in stands if not self._is_only_shown(s)]
        self._videos = {s.key: s.video for s in chosen}
        with ThreadPoolExecutor(self.deployment.settings.pages_at_once) as pool:
            paged: dict[Future[Written], Stand] = {
                pool.submit(page_video, api, self.lake, self.operation, s): s for s in chosen
            }
            try:
                for future in as_completed(paged):
                    self._settle(paged[future], future)
            finally:
                pool.shutdown(cancel_futures=True)
                self._enter()
        if self._red and self.batch is not None:
            key = self.deployment.key("results", self.operation)
            adapter.plan_failures(self.context, key, sorted(self._red))

    def _is_only_shown(self, stand: Stand) -> bool:
        """A start that was refused has no job to ask about: the run shows the reason."""
        if stand.phase is not Phase.FAILED or stand.work["job_id"] is not None:
            return False
        self._fail(stand, str(stand.work["reason"]))
        with self.state.write() as connection:
            result_state.show_failure(connection, stand, self.operation.name)
        return True

    def _settle(self, stand: Stand, future: Future[Written]) -> None:
        try:
            written = future.result()
        except AccessError:
            raise  # about all of them: nothing is entered
        except (JobFailedError, JobExpiredError) as error:
            status = FAILED if isinstance(error, JobFailedError) else EXPIRED
            self._not_written(stand, error, status)
        except RekognitionDagsterError as error:
            self._not_written(stand, error, None)
        except Exception as error:  # a page that nobody foresaw must not stop the other videos
            self.context.log.error(
                f"{stand.video.uri}: {type(error).__name__}: {error}", exc_info=error
            )
            self._not_written(stand, error, None)
        else:
            self.done.append(written)
            if written.warning:
                self.context.log.warning(f"{stand.video.uri}: {written.warning}")
        if len(self.done) - self._entered >= _ENTERED_AT_ONCE or (
            time.monotonic() - self._since > _ENTERED_S
        ):
            self._enter()

    def _not_written(self, stand: Stand, error: Exception, status: str | None) -> None:
        text = str(error)
        if not isinstance(error, RekognitionDagsterError):
            text = f"{stand.video.uri}: {type(error).__name__}: {error}"
        self._fail(stand, text)
        if status is None:
            self.what_failed = _NOT_PAGED
        with self.state.write() as connection:
            result_state.not_written(
                connection, stand, self.operation.name, text, time.time(), status=status
            )

    def _fail(self, stand: Stand, reason: str) -> None:
        self.context.log.error(reason)
        self.failures[stand.video.uri] = reason
        self._red.add(stand.partition)

    def _enter(self) -> None:
        """Examine what was written since the last time, and enter it."""
        new = examined(self.lake, self.operation, self.done[self._entered :], self._videos)
        self.done[self._entered :] = new
        for one in new:
            self.findings[self._videos[one.key].uri] = dict(one.checks or {})
        now = time.time()
        self._entered, self._since = len(self.done), time.monotonic()
        with self.state.write() as connection:
            result_state.written(connection, new, self.deployment.state_models, now)
            if self.batch is not None:
                batches.alive(connection, self.batch, now)


def examined(
    lake: Lake, operation: Operation, done: Sequence[Written], videos: Mapping[str, Video]
) -> list[Written]:
    """Results with what their rows say; ``videos`` are by partition key."""
    found = examine(lake, operation, [videos[w.key] for w in done])
    return [
        replace(
            w,
            checks=found[w.key].checks,
            highlights=found[w.key].highlights,
            detail=dump(found[w.key].detail),
        )
        for w in done
    ]


def rows_of(one: Written) -> Rows:
    """What Dagster's UI shows of a video's results."""
    return Rows(
        Video.from_partition_key(one.key).uri,
        one.path,
        one.rows,
        one.highlights or {},
        json.loads(one.detail or "{}"),
        one.warning,
        one.backend,
    )


def page_video(
    api: RekognitionVideo | None, lake: Lake, operation: Operation, stand: Stand
) -> Written:
    """Write a video's rows. What the lake has of this job, or of later work, stays as it is."""
    assert api is not None
    video, job = stand.video, stand.job
    there = lake.read_job(video, operation.name)
    if there is not None and there["status"] != "SUCCEEDED":
        there = None
    if there is not None and not lake.has(operation.table, video):
        there = None
    if there is not None and (job is None or _is_kept(there, job, video)):
        return Written.of(lake, video, operation.name, there)
    if job is None:
        raise JobExpiredError(
            video.uri,
            "no job was started for this version of it",
            f"Materialize {operation.name}_job first",
            code="NoJob",
        )
    if stand.status == GONE and there is None and stand.phase is Phase.ANALYSED:
        raise JobExpiredError(
            video.uri,
            "the object was deleted from its bucket, and its rows from the lake",
            "Upload it again",
            code="Gone",
        )
    return _page(api, lake, operation, stand, job)


def _is_kept(there: dict[str, Any], job: Any, video: Video) -> bool:
    """Whether results in the lake are this job's, or newer than it."""
    if there["job_id"] == job["job_id"]:
        return True
    if there["version"] != video.version or there["completed_at"] is None:
        return False
    ended = job["completed_at"] or job["noticed_at"]
    return ended is not None and there["completed_at"].timestamp() > ended


def _page(
    api: RekognitionVideo, lake: Lake, operation: Operation, stand: Stand, job: Any
) -> Written:
    video, job_id = stand.video, str(job["job_id"])
    record = {
        "job_id": job_id,
        "token": job["token"],
        "started_at": _time(job["started_at"]),
        "completed_at": _time(job["completed_at"]),
    }
    video_metadata: dict[str, Any] = {}
    backend: tuple[str | None, str | None] = (None, None)
    warning = None
    try:
        with lake.writer(operation.table, video) as writer:
            for page in api.of(operation).pages(operation, video, job_id):
                video_metadata = video_metadata or page.metadata
                backend, warning = (page.backend, page.software), page.warning
                writer.write(operation.to_lake(page.rows, video=video.uri, job_id=job_id))
    except (JobFailedError, JobExpiredError) as error:
        if stand.phase is not Phase.ANALYSED:
            failed = {**record, "status": "FAILED", "status_message": error.reason, "rows": 0}
            known = error.backend if isinstance(error, JobFailedError) else (None, None)
            lake.write_job(video, operation.name, failed | _backend(*known))
        raise
    path = lake.path(operation.table, video)
    lake.write_video(video, video_metadata)
    # Last, for it says that everything else of this job is there.
    row = {**record, "status": "SUCCEEDED", "status_message": warning, "rows": writer.rows}
    row |= _backend(*backend)
    lake.write_job(video, operation.name, row)
    before = stand.work["path"]
    if before and before != path:
        lake.remove_former(before, video, operation.name)
    duration_ms = video_metadata.get("duration_ms")
    return Written.of(lake, video, operation.name, row, duration_ms)


def _backend(name: str | None, software: str | None) -> dict[str, str | None]:
    """What did the work: the service reports it, AWS does not."""
    return {"backend": name or "rekognition", "software": software}


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
