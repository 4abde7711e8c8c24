"""The results assets: page a completed job's results into the lake, and check what was written."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.errors import JobExpiredError, JobFailedError, RekognitionDagsterError
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.checks import check_results, results_checks
from rekognition_dagster.orchestration.ledger import Batch, Entry
from rekognition_dagster.orchestration.metadata import column_schema, file_metadata
from rekognition_dagster.orchestration.names import BATCH_SIZE, VIDEO_PARTITIONS
from rekognition_dagster.orchestration.resources import LakeResource, RekognitionVideoResource
from rekognition_dagster.orchestration.selection import VideosConfig, selected
from rekognition_dagster.orchestration.standing import EXPIRED, Books, Phase, Standing
from rekognition_dagster.videos import Video

_COMPLETED = (Phase.UNPAGED, Phase.FAILED, Phase.ANALYSED)


def build_results_asset(operation: Operation, books: Books) -> dg.AssetsDefinition:
    """The asset of an operation's table: a partition is its videos' rows, a Parquet file each.

    A run is for its partitions, or for the videos that its config names, wherever they are: so the
    sensor ``results_refresh`` gives it all that has completed meanwhile.
    """
    names = books.names
    key = names.results(operation)

    @dg.asset(
        key=key,
        partitions_def=VIDEO_PARTITIONS,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        deps=[names.completion(operation)],
        group_name=names.group_name(operation.name),
        kinds={"rekognition", "parquet"},
        output_required=False,
        metadata={"dagster/column_schema": column_schema(operation.schema, operation.descriptions)},
        check_specs=results_checks(operation, key),
        description=f"{TABLES[operation.table].row.capitalize()}: the pages of "
        f"{operation.get_api}, as Parquet.",
    )
    def page(
        context: dg.AssetExecutionContext,
        config: VideosConfig,
        rekognition: RekognitionVideoResource,
        lake: LakeResource,
    ) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
        yield from _page_results(context, config, rekognition.pager(), lake, operation, books)

    return page


def _page_results(
    context: dg.AssetExecutionContext,
    config: VideosConfig,
    api: RekognitionVideo,
    lake_resource: LakeResource,
    operation: Operation,
    books: Books,
) -> Iterator[dg.AssetCheckResult]:
    lake = lake_resource.open()
    board = books.board(context.instance, operation)
    chosen = list(selected(context, config, board, *_completed(context, books)))
    report = _Report(context, lake, operation, books, chosen)
    with ThreadPoolExecutor(books.settings.pages_at_once) as pool:
        paged: dict[Future[tuple[str, int]], Standing] = {
            pool.submit(_page_video, api, lake, operation, standing): standing
            for standing in chosen
        }
        try:
            for future, standing in paged.items():
                try:
                    job_id, rows = future.result()
                except RekognitionDagsterError as error:
                    context.log.error(str(error))
                    report.failed(standing, error)
                else:
                    report.done(standing, job_id, rows)
        finally:
            pool.shutdown(cancel_futures=True)
            report.close()
    yield from check_results(lake, operation, books.names.results(operation), report.videos)
    lake_resource.refresh_catalogue()
    if report.failures:
        told = report.failures
        raise dg.Failure(
            f"{len(told)} of {len(chosen)} videos have no results: "
            + "; ".join(str(e) for e in list(told.values())[:20]),
            metadata={v.uri: str(e) for v, e in list(told.items())[:50]},
            allow_retries=False,
        )


def _completed(context: dg.AssetExecutionContext, books: Books) -> tuple[Phase, ...]:
    """Of a group, a run takes what has completed; of a partition that is one video, whatever it
    is, so that a person who asks for it is told why there is nothing."""
    versions = books.videos.versions(context.instance, context.partition_keys).values()
    return tuple(Phase) if all(v.group is None for v in versions) else _COMPLETED


class _Report:
    """Says in Dagster what was done, of a partition once its last video is.

    Args:
        context: The run.
        lake: Where the rows are.
        operation: Which operation.
        books: Of the deployment.
        chosen: The videos of the run.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        lake: Lake,
        operation: Operation,
        books: Books,
        chosen: Sequence[Standing],
    ) -> None:
        self._context, self._lake, self._operation = context, lake, operation
        self._books, self._instance = books, context.instance
        self._batch = Batch(books.results(operation), context)
        self._left = Counter(s.partition for s in chosen)
        self._earlier = books.results(operation).read(self._instance, set(self._left))
        self._done: dict[str, dict[str, Entry]] = {}
        self._shown: dict[str, dict[str, Any]] = {}
        self.videos: list[Video] = []
        self.failures: dict[Video, RekognitionDagsterError] = {}

    def done(self, standing: Standing, job_id: str, rows: int) -> None:
        """A video's rows are in the lake."""
        video, partition = standing.video, standing.partition
        self.videos.append(video)
        path = self._lake.path(self._operation.table, video)
        self._forget(partition, video, path)
        self._done.setdefault(partition, {})[video.partition_key] = {
            "at": time.time(),
            "version": video.version or "unknown",
            "job_id": job_id,
            "rows": rows,
            "path": path,
        }
        self._shown[partition] = file_metadata(self._lake, path, rows)
        self._one_less(partition)

    def failed(self, standing: Standing, error: RekognitionDagsterError) -> None:
        """A video has no rows, and why."""
        instance, books, operation = self._instance, self._books, self._operation
        video = standing.video
        self.failures[video] = error
        entry = {"at": time.time(), "job_id": standing.job_id or "-", "reason": str(error)}
        told = books.by_partition({video: entry})
        books.failures(operation).enter(instance, told, run=self._context)
        if isinstance(error, JobExpiredError) and standing.job is not None:
            # Starting it again is then a new attempt.
            gone = {"at": time.time(), "job_id": standing.job_id, "status": EXPIRED}
            ended = books.by_partition({video: gone})
            books.completions(operation).enter(instance, ended, run=self._context)
        self._one_less(standing.partition)

    def _forget(self, partition: str, video: Video, path: str) -> None:
        """Remove the file of the same video, formerly of another date."""
        ledger = self._earlier.get(partition)
        before = ledger.entries.get(video.partition_key, {}).get("path", path) if ledger else path
        if before != path:
            self._lake.remove(str(before), video)

    def _one_less(self, partition: str) -> None:
        self._left[partition] -= 1
        if self._left[partition] or partition not in self._done:
            return
        entries = self._done.pop(partition)
        shown = self._shown.pop(partition)
        self._batch.add(partition, entries, shown if set(entries) == {partition} else None)

    def close(self) -> None:
        """Nothing more comes."""
        self._batch.enter()


def _page_video(
    api: RekognitionVideo,
    lake: Lake,
    operation: Operation,
    standing: Standing,
) -> tuple[str, int]:
    """Write a video's rows; returns whose they are and how many. What the lake has of this job
    stays as it is."""
    video = standing.video
    # Without a job, the rows may be a local backfill's.
    facts = standing.job or (standing.results if standing.phase is Phase.ANALYSED else None)
    if facts is None:
        raise JobExpiredError(
            video.uri,
            "no job was started for this version of it",
            f"Materialize {operation.name}_job first",
            code="NoJob",
        )
    job_id = str(facts["job_id"])
    written = lake.read_job(video, operation.name)
    if (
        written
        and written["job_id"] == job_id
        and written["status"] == "SUCCEEDED"
        and lake.has(operation.table, video)
    ):
        return job_id, int(written["rows"])
    ended = standing.completion or {}
    record = {
        "job_id": job_id,
        "token": facts.get("token"),
        "started_at": _time(facts.get("at")),
        "completed_at": _time(ended.get("completed_at")),
        "backend": "rekognition",
    }
    video_metadata: dict[str, object] = {}
    try:
        with lake.writer(operation.table, video) as writer:
            for page in api.pages(operation, video, job_id):
                video_metadata = video_metadata or page.metadata
                writer.write(operation.to_lake(page.rows, video=video.uri, job_id=job_id))
    except (JobFailedError, JobExpiredError) as error:
        failed = {**record, "status": "FAILED", "status_message": error.reason, "rows": 0}
        lake.write_job(video, operation.name, failed)
        raise
    lake.write_video(video, video_metadata)
    # Last, for it says that everything else of this job is there.
    lake.write_job(video, operation.name, {**record, "status": "SUCCEEDED", "rows": writer.rows})
    return job_id, writer.rows


def _time(seconds: object) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(float(str(seconds)), timezone.utc)
