"""Analytics assets: one SQL file, one table, a Parquet file per video, computed by DuckDB.

A model's name is its file's; what it reads is what it mentions; its first comment describes it.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import sqlalchemy as sa

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.metadata import column_schema, file_metadata
from rekognition_dagster.orchestration.names import BATCH_SIZE, BATCH_TAG, Deployment
from rekognition_dagster.orchestration.results import BatchConfig
from rekognition_dagster.orchestration.selection import VideosConfig, selected
from rekognition_dagster.state import State, batches
from rekognition_dagster.state import results as result_state
from rekognition_dagster.state.results import Model
from rekognition_dagster.state.tables import VIDEOS
from rekognition_dagster.state.videos import CHUNK, video_of
from rekognition_dagster.videos import Video

if TYPE_CHECKING:  # not needed to load a code location
    from duckdb import DuckDBPyConnection

STANDARD_MODELS = Path(__file__).parent.parent / "analytics"
"""The models that come with the package."""
_RESERVED = ("audit",)


@dataclass(frozen=True)
class SqlModel:
    """One analytics table.

    Args:
        name: The table, named for what a row is.
        sql: A SELECT with a ``video`` column over tables of the lake. It sees only the rows of the
            videos being computed, so it must not compare one video with another.
    """

    name: str
    sql: str

    @classmethod
    def read(cls, path: Path) -> "SqlModel":
        """The model in a .sql file."""
        return cls(path.stem, path.read_text(encoding="utf-8"))

    def __post_init__(self) -> None:
        if self.name in TABLES or self.name in _RESERVED or not self.name.isidentifier():
            raise ConfigurationError(
                f"a model cannot be called {self.name}: "
                + (
                    "that is a table of the lake itself"
                    if self.name.isidentifier()
                    else "use letters, digits and underscores"
                )
                + ". Rename its .sql file"
            )

    @property
    def description(self) -> str:
        """The comment that the file opens with."""
        lines = []
        for line in self.sql.splitlines():
            if not line.startswith("--"):
                break
            lines.append(line.removeprefix("--").strip())
        return " ".join(lines)

    @property
    def code_version(self) -> str:
        """A digest of what the model computes: its text without comments and blank space."""
        code = " ".join(re.sub(r"--.*", "", self.sql).split())
        return hashlib.sha256(code.encode()).hexdigest()[:16]

    def mentions(self, tables: Collection[str]) -> list[str]:
        """Which of some tables the SQL reads."""
        code = re.sub(r"--.*", "", self.sql)
        return [t for t in tables if re.search(rf"\b{re.escape(t)}\b", code)]


def load_models(
    folder: Path = STANDARD_MODELS, names: Collection[str] | None = None
) -> list[SqlModel]:
    """The models in a folder's .sql files, by name.

    Raises:
        ConfigurationError: One of ``names`` has no file.
    """
    models = {path.stem: SqlModel.read(path) for path in sorted(folder.glob("*.sql"))}
    if missing := set(names or ()) - set(models):
        raise ConfigurationError(
            f"no SQL for {', '.join(sorted(missing))} in {folder}; there are {', '.join(models)}"
        )
    return [m for n, m in models.items() if names is None or n in names]


@dataclass(frozen=True)
class Analytics:
    """The models of a deployment, in the order in which they are computed, and their assets."""

    models: Sequence[SqlModel]
    state_models: Sequence[Model]
    assets: Sequence[dg.AssetsDefinition]
    job: dg.JobDefinition | None


def order_models(
    models: Sequence[SqlModel], operations: Sequence[Operation]
) -> list[tuple[SqlModel, Model]]:
    """Models in the order in which they are computed, with what the state knows of each. A model
    of operations that do not run is left out."""
    tables = {o.table: o.name for o in operations}
    sources = {**tables, **{m.name: m.name for m in models}}
    reads = {m.name: [t for t in m.mentions(sources) if t != m.name] for m in models}
    by_name = {m.name: m for m in models}
    order = TopologicalSorter({n: [t for t in r if t in by_name] for n, r in reads.items()})
    return [
        (by_name[n], Model(n, by_name[n].code_version, tuple(sources[t] for t in reads[n])))
        for n in order.static_order()
        if reads[n]
    ]


def build_analytics(
    models: Sequence[SqlModel], operations: Sequence[Operation], deployment: Deployment
) -> Analytics:
    """An asset per model, and the job that computes what is behind."""
    ordered = order_models(models, operations)
    state_models = [m for _, m in ordered]
    tables = {o.name: o.table for o in operations}
    assets = [_build(sql, m, tables, deployment, state_models) for sql, m in ordered]
    job = _build_job([sql for sql, _ in ordered], deployment, state_models) if ordered else None
    return Analytics([sql for sql, _ in ordered], state_models, assets, job)


def _build(
    sql: SqlModel,
    model: Model,
    tables: dict[str, str],
    deployment: Deployment,
    models: Sequence[Model],
) -> dg.AssetsDefinition:
    names = deployment.names

    @dg.asset(
        key=names.asset_key(sql.name),
        partitions_def=deployment.partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        deps=[names.asset_key(tables.get(r, r)) for r in model.reads],
        group_name=names.group_name("analytics"),
        kinds={"duckdb", "parquet"},
        required_resource_keys=deployment.needs("lake"),
        code_version=sql.code_version,
        # The lake has the rows: no IO manager stores anything.
        dagster_type=dg.Nothing,  # pyright: ignore[reportArgumentType]
        output_required=False,
        description=f"{sql.description}\n\n```sql\n{sql.sql.strip()}\n```",
    )
    def compute(
        context: dg.AssetExecutionContext, config: VideosConfig
    ) -> Iterator[dg.Output[Any]]:
        state = deployment.state(context.instance)
        keys = selected(context, config, state)
        lake = deployment.resource(context, "lake").open()
        done = compute_model(state, lake, sql, keys, models)
        deployment.resource(context, "lake").refresh_catalogue()
        context.log.info(f"{len(done)} of {len(keys)} videos computed")
        if done:
            rows = sum(d["rows"] for d in done)
            metadata: dict[str, Any] = {"dagster/partition_row_count": rows}
            if len(done) == 1:
                metadata = file_metadata(lake, done[0]["path"], rows)
            metadata["dagster/column_schema"] = column_schema(done[0]["schema"])
            yield dg.Output(None, metadata=metadata)

    return compute


def _build_job(
    ordered: Sequence[SqlModel], deployment: Deployment, models: Sequence[Model]
) -> dg.JobDefinition:
    @dg.op(
        name=deployment.scoped("compute_models"),
        required_resource_keys=deployment.needs("lake"),
        description="Computes the analytics that are behind.",
    )
    def compute_models(context: dg.OpExecutionContext, config: BatchConfig) -> None:
        batch = config.batch or context.run.tags.get(BATCH_TAG, "")
        state = deployment.state(context.instance)
        lake = deployment.resource(context, "lake").open()
        for sql in ordered:
            with state.write() as connection:
                batches.alive(connection, batch, time.time())
                keys = batches.analytics_of(connection, batch, sql.name)
            done = compute_model(state, lake, sql, keys, models)
            if done:
                context.log.info(f"{sql.name}: {len(done)} videos computed")
        deployment.resource(context, "lake").refresh_catalogue()
        with state.write() as connection:
            batches.end(connection, batch)

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
    model: SqlModel,
    keys: Sequence[str],
    models: Sequence[Model],
) -> list[dict[str, Any]]:
    """Compute a model's rows of some videos, write them, and enter that.

    Returns:
        Of each video that has something to compute from: ``key``, ``partition``, ``rows``,
        ``path`` and ``schema``.
    """
    # Revisions before rows: what changes meanwhile is then found to be behind.
    with state.read() as connection:
        wanted = result_state.wanted(connection, model.name, keys)
        videos = _videos(connection, list(wanted))
    if not videos:
        return []
    done: list[dict[str, Any]] = []
    tables = model.mentions({*lake.tables(), *TABLES} - {model.name})
    with lake.connect(tables, [v for v, _ in videos.values()]) as duckdb:
        duckdb.execute(f'CREATE TEMP TABLE "{model.name}" AS {_statement(model.sql)}')
        rows_of = _by_video(duckdb, model.name)
        for key, (video, partition) in videos.items():
            rows = rows_of(video)
            with lake.writer(model.name, video, schema=rows.schema) as writer:
                writer.write(rows)
            revision, before = wanted[key]
            if before and before != writer.path:
                lake.remove(before, video)  # the same video, formerly of another date
            done.append(
                {
                    "key": key,
                    "partition": partition,
                    "made": revision,
                    "rows": rows.num_rows,
                    "path": writer.path,
                    "schema": rows.schema,
                }
            )
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


def _by_video(duckdb: "DuckDBPyConnection", table: str) -> Callable[[Video], pa.Table]:
    """The rows of one video, of a table that is sorted once for all of them."""
    columns = duckdb.sql(f'SELECT * FROM "{table}" LIMIT 0').columns
    order = ", ".join(f'"{c}"' for c in ["video", *columns])
    rows = duckdb.sql(f'SELECT * FROM "{table}" ORDER BY {order}').to_arrow_table()
    counts = duckdb.sql(f'SELECT video, count(*) FROM "{table}" GROUP BY video ORDER BY video')
    slices: dict[str, tuple[int, int]] = {}
    start = 0
    for video, count in counts.fetchall():
        slices[video] = (start, count)
        start += count
    return lambda video: rows.slice(*slices.get(video.uri, (0, 0)))


def _statement(sql: str) -> str:
    return sql.strip().rstrip(";")
