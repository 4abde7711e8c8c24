"""Analytics assets: one SQL file, one table, a Parquet file per video, computed by DuckDB.

A model's name is its file's; what it reads is what it mentions; its first comment describes it.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake import TABLES
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.ledger import Batch, Book, Entry, chunks, digest
from rekognition_dagster.orchestration.metadata import column_schema, file_metadata
from rekognition_dagster.orchestration.names import BATCH_SIZE, VIDEO_PARTITIONS
from rekognition_dagster.orchestration.resources import LakeResource
from rekognition_dagster.orchestration.selection import (
    VideosConfig,
    named_videos,
    selected_partitions,
)
from rekognition_dagster.orchestration.standing import Books, video_of
from rekognition_dagster.videos import Video

if TYPE_CHECKING:  # not needed to load a code location
    from duckdb import DuckDBPyConnection

STANDARD_MODELS = Path(__file__).parent.parent / "analytics"
"""The models that come with the package."""
_AT_ONCE = 200  # partitions whose entries are in memory at once


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

    @property
    def description(self) -> str:
        """The comment that the file opens with."""
        lines = []
        for line in self.sql.splitlines():
            if not line.startswith("--"):
                break
            lines.append(line.removeprefix("--").strip())
        return " ".join(lines)

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
    """An analytics asset, and what it is made from.

    Args:
        definition: The asset.
        book: Its ledgers: ``of``, a digest of what a video's rows were computed from.
        upstream: The assets that it reads.
    """

    definition: dg.AssetsDefinition
    book: Book
    upstream: Sequence[dg.AssetKey]

    def behind(self, instance: dg.DagsterInstance) -> Iterator[tuple[str, str]]:
        """Videos whose rows are older than what they are computed from, and that as a digest."""
        expected = _expected(instance, self.upstream)
        own = self.book.versions(instance)
        suspects = (p for p, version in expected.items() if str(own.get(p)) != version)
        for partitions in chunks(suspects, _AT_ONCE):
            done = self.book.read(instance, partitions)
            for partition, of in _inputs(instance, self.upstream, partitions).items():
                entries = done[partition].entries if partition in done else {}
                for video, made_from in of.items():
                    if entries.get(video, {}).get("of") != made_from:
                        yield video, made_from


def _expected(
    instance: dg.DagsterInstance,
    upstream: Sequence[dg.AssetKey],
    partitions: Collection[str] | None = None,
) -> dict[str, str]:
    """The data version that each partition has once it is computed: a digest of those above it."""
    above = [Book(key).versions(instance, partitions) for key in upstream]
    return {
        p: digest([str(versions.get(p)) for versions in above])
        for p in dict.fromkeys(p for versions in above for p in versions)
    }


def _inputs(
    instance: dg.DagsterInstance, upstream: Sequence[dg.AssetKey], partitions: Collection[str]
) -> dict[str, dict[str, str]]:
    """What each video's rows are to be computed from, by partition and video."""
    above = [Book(key).read(instance, partitions) for key in upstream]
    made_from: dict[str, dict[str, str]] = {}
    for partition in partitions:
        entries = [ledgers[partition].entries for ledgers in above if partition in ledgers]
        keys = dict.fromkeys(k for of in entries for k in of)
        made_from[partition] = {
            k: digest([of[k].get("job_id") or of[k].get("of") for of in entries if k in of])
            for k in keys
        }
    return made_from


def build_analytics_assets(
    models: Sequence[SqlModel], operations: Sequence[Operation], books: Books
) -> list[Analytics]:
    """An asset per model, in the order in which they are computed. A model of operations that do
    not run is left out."""
    names = books.names
    sources = {
        **{o.table: names.results(o) for o in operations},
        **{m.name: names.asset_key(m.name) for m in models},
    }
    upstream = {m.name: [t for t in m.mentions(sources) if t != m.name] for m in models}
    by_name = {m.name: m for m in models}
    order = TopologicalSorter({n: [t for t in u if t in by_name] for n, u in upstream.items()})
    return [
        _build(by_name[name], [sources[t] for t in upstream[name]], books)
        for name in order.static_order()
        if upstream[name]
    ]


def _build(model: SqlModel, upstream: Sequence[dg.AssetKey], books: Books) -> Analytics:
    names = books.names
    key = names.asset_key(model.name)

    @dg.asset(
        key=key,
        partitions_def=VIDEO_PARTITIONS,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        deps=list(upstream),
        group_name=names.group_name("analytics"),
        kinds={"duckdb", "parquet"},
        output_required=False,
        description=f"{model.description}\n\n```sql\n{model.sql.strip()}\n```",
    )
    def compute(
        context: dg.AssetExecutionContext, config: VideosConfig, lake: LakeResource
    ) -> Iterator[dg.Output[None]]:
        _compute(context, config, lake, model, Book(key), upstream, books)
        yield from ()

    return Analytics(compute, Book(key), upstream)


def _compute(
    context: dg.AssetExecutionContext,
    config: VideosConfig,
    lake_resource: LakeResource,
    model: SqlModel,
    book: Book,
    upstream: Sequence[dg.AssetKey],
    books: Books,
) -> None:
    lake, instance = lake_resource.open(), context.instance
    named = named_videos(config)
    partitions = selected_partitions(context, named, books)
    # Versions before entries: what changes meanwhile is then found to be behind.
    versions = _expected(instance, upstream, partitions)
    inputs = _inputs(instance, upstream, partitions)
    known = books.videos.read(instance, partitions)
    before = book.read(instance, partitions)
    todo: dict[str, dict[str, Video]] = {}
    for partition, made_from in inputs.items():
        done = before[partition].entries if partition in before else {}
        facts = known[partition].entries if partition in known else {}
        todo[partition] = {
            k: video_of(k, facts.get(k, {}))
            for k, of in made_from.items()
            if not named or k in named or done.get(k, {}).get("of") != of
        }
    tables = model.mentions({*lake.tables(), *TABLES} - {model.name})
    batch = Batch(book, context)
    with lake.connect(tables, [v for videos in todo.values() for v in videos.values()]) as duckdb:
        duckdb.execute(f'CREATE TEMP TABLE "{model.name}" AS {_statement(model.sql)}')
        rows_of = _by_video(duckdb, model.name)
        for partition, videos in todo.items():
            entries: dict[str, Entry] = {}
            shown: dict[str, Any] = {}
            for video_key, video in videos.items():
                rows = rows_of(video)
                with lake.writer(model.name, video, schema=rows.schema) as writer:
                    writer.write(rows)
                of = inputs[partition][video_key]
                entries[video_key] = {"at": time.time(), "of": of, "rows": rows.num_rows}
                shown = {"dagster/column_schema": column_schema(rows.schema)}
                if video_key == partition:
                    shown |= file_metadata(lake, writer.path, rows.num_rows)
            if entries:
                batch.add(partition, entries, shown, versions[partition])
    batch.enter()
    lake_resource.refresh_catalogue()


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
