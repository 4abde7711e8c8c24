"""Analytics models: one SQL file, one table of the lake, a Parquet file per video.

A model's name is its file's; it reads the tables that it mentions; its first comment describes it.
Nothing here knows Dagster or the state: :mod:`orchestration.analytics` makes assets of models.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from rekognition_dagster.errors import ConfigurationError, DamagedFileError
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.lake.damage import REMEDY
from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.videos import Video

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

STANDARD_MODELS = Path(__file__).parent
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
    def read(cls, path: Path) -> SqlModel:
        """Read the model in a .sql file."""
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
        """The tables, of those given, that the SQL reads."""
        code = re.sub(r"--.*", "", self.sql)
        return [t for t in tables if re.search(rf"\b{re.escape(t)}\b", code)]


def load_models(
    folder: Path = STANDARD_MODELS, names: Collection[str] | None = None
) -> list[SqlModel]:
    """Read the models in a folder's .sql files, by name.

    Raises:
        ConfigurationError: One of ``names`` has no file.
    """
    models = {path.stem: SqlModel.read(path) for path in sorted(folder.glob("*.sql"))}
    if missing := set(names or ()) - set(models):
        raise ConfigurationError(
            f"no SQL for {', '.join(sorted(missing))} in {folder}; there are {', '.join(models)}"
        )
    return [m for n, m in models.items() if names is None or n in names]


def in_order(
    models: Sequence[SqlModel], operations: Sequence[Operation]
) -> list[tuple[SqlModel, list[str]]]:
    """Sort models so that each follows those it reads, and name its sources.

    Returns:
        Each model with the tables of operations and the models that it reads. A model of
        operations that do not run is left out.
    """
    sources = [*(o.table for o in operations), *(m.name for m in models)]
    reads = {m.name: [t for t in m.mentions(sources) if t != m.name] for m in models}
    by_name = {m.name: m for m in models}
    order = TopologicalSorter({n: [t for t in r if t in by_name] for n, r in reads.items()})
    return [(by_name[n], reads[n]) for n in order.static_order() if reads[n]]


def compute(
    lake: Lake, model: SqlModel, videos: Sequence[Video]
) -> Iterator[tuple[Video, pa.Table, str]]:
    """Compute a model's rows of some videos and write them to the lake.

    Yields:
        Each video, its rows, and the path of its file below the lake's root.

    Raises:
        DamagedFileError: A file of some videos is damaged; the others were computed.
        LakeError: The lake cannot be read or written.
        duckdb.Error: The SQL is wrong.
    """
    import duckdb

    tables = model.mentions({*lake.tables(), *TABLES} - {model.name})
    with lake.connect(tables, list(videos)) as connection:
        statement = f'CREATE TEMP TABLE "{model.name}" AS {model.sql.strip().rstrip(";")}'
        try:
            connection.execute(statement)
        except duckdb.Error:
            if not connection.leave_out_damaged(statement):
                raise
            connection.execute(statement)
        slices, rows = _by_video(connection, model.name)
        damaged = {v: lake.files_of(tables, v) & connection.damaged.keys() for v in videos}
        for video in videos:
            if damaged[video]:
                continue
            mine = rows.slice(*slices.get(video.uri, (0, 0)))
            with lake.writer(model.name, video, schema=mine.schema) as writer:
                writer.write(mine)
            yield video, mine, writer.path
        if named := sorted({lake.storage.uri(f) for files in damaged.values() for f in files}):
            raise DamagedFileError(
                f"{model.name} was not computed for {sum(map(bool, damaged.values()))} videos: "
                f"{', '.join(named[:10])} cannot be read. {REMEDY}"
            )


def compute_standard(lake: Lake, videos: Sequence[Video]) -> dict[str, int]:
    """Compute every standard model that the videos' results allow.

    A model of several operations takes those that the lake has; a video without results of any of
    them is left out.

    Returns:
        Rows written, by table.
    """
    rows: dict[str, int] = {}
    for model, reads in in_order(load_models(), list(OPERATIONS.values())):
        there = [v for v in videos if any(lake.has(table, v) for table in reads)]
        if there:
            rows[model.name] = sum(r.num_rows for _, r, _ in compute(lake, model, there))
    return rows


def _by_video(
    connection: DuckDBPyConnection, table: str
) -> tuple[dict[str, tuple[int, int]], pa.Table]:
    """A table's rows, sorted once for all videos, and where each video's begin and how many."""
    columns = connection.sql(f'SELECT * FROM "{table}" LIMIT 0').columns
    order = ", ".join(f'"{c}"' for c in ["video", *columns])
    rows = connection.sql(f'SELECT * FROM "{table}" ORDER BY {order}').to_arrow_table()
    counts = connection.sql(f'SELECT video, count(*) FROM "{table}" GROUP BY video ORDER BY video')
    slices: dict[str, tuple[int, int]] = {}
    start = 0
    for video, count in counts.fetchall():
        slices[video] = (start, count)
        start += count
    return slices, rows
