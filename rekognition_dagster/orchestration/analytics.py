"""Analytics assets: an asset per model of :mod:`rekognition_dagster.analytics`, and their job."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import sqlalchemy as sa

from rekognition_dagster.analytics import (
    AnalyticsModel,
    compute,
)
from rekognition_dagster.errors import DamagedFileError
from rekognition_dagster.lake import Lake
from rekognition_dagster.orchestration.highlights import dump, table_of
from rekognition_dagster.orchestration.metadata import Rows, columns_of, rows_metadata
from rekognition_dagster.orchestration.names import BATCH_SIZE, BATCH_TAG, Deployment
from rekognition_dagster.orchestration.results import BatchConfig
from rekognition_dagster.orchestration.selection import VideosConfig, selected
from rekognition_dagster.state import State, batches
from rekognition_dagster.state import results as result_state
from rekognition_dagster.state.results import Model
from rekognition_dagster.state.tables import VIDEOS
from rekognition_dagster.state.videos import CHUNK, video_of
from rekognition_dagster.videos import Video


def build_model_asset(
    sql: AnalyticsModel, model: Model, deployment: Deployment
) -> dg.AssetsDefinition:
    """The asset of a model's table: a partition is its videos' rows, a Parquet file each."""
    models = deployment.state_models
    spec = deployment.asset(
        "analytics",
        sql,
        deps=[deployment.table_key(r) for r in model.reads],
    )

    @dg.multi_asset(
        name=spec.key.to_python_identifier(),
        specs=[spec],
        partitions_def=deployment.partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        required_resource_keys=deployment.needs("lake"),
    )
    def compute(
        context: dg.AssetExecutionContext, config: VideosConfig
    ) -> Iterator[dg.MaterializeResult]:
        state = deployment.state(context.instance)
        keys = selected(context, config, state)
        lake = deployment.resource(context, "lake").open()
        done = compute_model(state, lake, sql, keys, models)
        deployment.resource(context, "lake").refresh_catalogue()
        context.log.info(f"{len(done)} of {len(keys)} videos computed")
        if done:
            rows = [Rows(d["video"], d["path"], d["rows"], {}, d["shown"]) for d in done]
            yield dg.MaterializeResult(metadata=rows_metadata(lake, sql.name, rows))

    return compute


def build_analytics_job(deployment: Deployment) -> dg.JobDefinition:
    """The job that computes what is behind."""
    models = deployment.state_models

    @dg.op(
        name=deployment.scoped("compute_models"),
        required_resource_keys=deployment.needs("lake"),
        description="Computes the analytics that are behind.",
    )
    def compute_models(context: dg.OpExecutionContext, config: BatchConfig) -> None:
        batch = config.batch or context.run.tags.get(BATCH_TAG, "")
        state = deployment.state(context.instance)
        lake = deployment.resource(context, "lake").open()
        failures: list[str] = []
        for sql, _ in deployment.ordered_models:
            with state.write() as connection:
                batches.alive(connection, batch, time.time())
                keys = batches.analytics_of(connection, batch, sql.name)
            try:
                done = compute_model(state, lake, sql, keys, models)
            except DamagedFileError as error:
                failures.append(str(error))
                continue
            if done:
                context.log.info(f"{sql.name}: {len(done)} videos computed")
        deployment.resource(context, "lake").refresh_catalogue()
        with state.write() as connection:
            batches.end(connection, batch)
        if failures:
            raise dg.Failure("; ".join(failures), allow_retries=False)

    @dg.job(
        name=deployment.scoped("analytics"),
        executor_def=dg.in_process_executor,
        description="Computes analytics that are behind. Launched by analytics_refresh.",
    )
    def analytics() -> None:
        compute_models()  # pyright: ignore[reportCallIssue] -- Dagster fills its arguments in

    return analytics


def compute_model(
    state: State,
    lake: Lake,
    model: AnalyticsModel,
    keys: Sequence[str],
    models: Sequence[Model],
) -> list[dict[str, Any]]:
    """Compute a model's rows of some videos, write them, and enter that.

    Returns:
        Of each video that has something to compute from: ``key``, ``partition``, ``rows``,
        ``path``, ``video`` and what is ``shown`` of its rows.
    """
    # Revisions before rows: what changes meanwhile is then found to be behind.
    with state.read() as connection:
        wanted = result_state.wanted(connection, model.name, keys)
        videos = _videos(connection, list(wanted))
    if not videos:
        return []
    done: list[dict[str, Any]] = []
    keys_of = {video.uri: (key, partition) for key, (video, partition) in videos.items()}
    try:
        for video, rows, path in compute(lake, model, [v for v, _ in videos.values()]):
            key, partition = keys_of[video.uri]
            revision, before = wanted[key]
            if before and before != path:
                lake.remove(before, video)  # the same video, formerly of another date
            shown: dict[str, Any] = {"columns": columns_of(rows.schema, model.column_descriptions)}
            if rows.num_rows:
                shown["first_rows"] = table_of(rows)
            done.append(
                {
                    "video": video.uri,
                    "shown": shown,
                    "detail": dump(shown),
                    "key": key,
                    "partition": partition,
                    "made": revision,
                    "rows": rows.num_rows,
                    "path": path,
                }
            )
    finally:  # one damaged file does not undo the others
        with state.write() as connection:
            result_state.computed(connection, model.name, done, models, time.time())
    return done


def _videos(connection: sa.Connection, keys: Sequence[str]) -> dict[str, tuple[Video, str]]:
    """Videos and their partitions, by key."""
    found: dict[str, tuple[Video, str]] = {}
    for start in range(0, len(keys), CHUNK):
        query = sa.select(VIDEOS).where(VIDEOS.c.key.in_(keys[start : start + CHUNK]))
        for row in connection.execute(query).mappings():
            found[row["key"]] = (video_of(row), row["partition"])
    return found
