"""Analytics models: a SELECT or a function, one table of the lake, a file per video or per day.

A model in a .sql file has the file's name; it reads the tables that it mentions; its first comment
describes it and says whether it is computed by day (:mod:`daily`). Nothing here knows Dagster or
the state: :mod:`orchestration.analytics` makes assets.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from rekognition_dagster.errors import ConfigurationError, DamagedFileError
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.lake.damage import REMEDY
from rekognition_dagster.lake.tables import ANALYTICS
from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.videos import Video

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from rekognition_dagster.lake.views import LakeConnection

STANDARD_MODELS = Path(__file__).parent
"""The models that come with the package."""
_RESERVED = ("audit",)
_PER = re.compile(r"per\s*:(.*)", re.IGNORECASE)


@dataclass(frozen=True)
class AnalyticsModel(ABC):
    """One analytics table, computed from the rows of some videos at a time.

    Args:
        name: The table, named for what a row is.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name in TABLES or self.name in _RESERVED or not self.name.isidentifier():
            raise ConfigurationError(
                f"a model cannot be called {self.name}: "
                + (
                    "that is a table of the lake itself"
                    if self.name.isidentifier()
                    else "use letters, digits and underscores"
                )
                + ". Give it another name: that of a .sql file is the file's"
            )

    @property
    @abstractmethod
    def description(self) -> str:
        """What a row is, in Markdown."""

    @property
    def column_descriptions(self) -> dict[str, str]:
        """What columns say, as far as the model tells."""
        return {}

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns and their SQL types, as far as they are known before the model runs."""
        return {}

    @property
    def day_column(self) -> str | None:
        """The column that says to which day a row belongs; None for a model per video."""
        return None

    @property
    @abstractmethod
    def code_version(self) -> str:
        """A text that changes when what the model computes changes."""

    @abstractmethod
    def mentions(self, tables: Collection[str]) -> list[str]:
        """The tables, of those given, that the model reads."""

    @abstractmethod
    def create(self, connection: DuckDBPyConnection) -> None:
        """Make a temporary table of the model's name, from what the connection sees."""

    def place_of(self, error: Exception) -> str:
        """The model and, as far as they are known, the file and line of an error of DuckDB."""
        return f"the model {self.name}"

    def wrong(self, error: Exception) -> ConfigurationError:
        """An error of DuckDB about this model, for its author."""
        text = re.sub(r"\s*\n\s*", " ", str(error).partition("\n\nLINE")[0])
        return ConfigurationError(f"{self.place_of(error)} is wrong: {text}")


@dataclass(frozen=True)
class SqlModel(AnalyticsModel):
    """An analytics table that a SELECT computes.

    Args:
        name: The table, named for what a row is.
        sql: A SELECT with a ``video`` column over tables of the lake. It sees only the rows of the
            videos being computed, so it must not compare one video with another; unless its first
            comment has a line ``per: day of COLUMN``. Such a model has a column ``camera``, sees
            the videos of a camera that touch a day, and the tables of :mod:`daily`. COLUMN is a
            date or a time and says which day a row is of.
        path: The file that has it, for messages.

    Raises:
        ConfigurationError: It is no SELECT of DuckDB; the text has its file and the line.
    """

    sql: str
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self._is_standard:  # those need no check, which would load DuckDB
            self._check()

    @property
    def _is_standard(self) -> bool:
        return self.path is not None and STANDARD_MODELS in self.path.parents

    def _check(self) -> None:
        import duckdb

        try:
            statements = duckdb.extract_statements(f"\n{self.sql}")
        except duckdb.Error as error:
            raise self.wrong(error) from None
        selects = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)  # a PIVOT is MULTI
        if len(statements) != 1 or statements[0].type not in selects:
            raise ConfigurationError(
                f"the model {self.name} ({self.path or 'SQL'}) is not one SELECT"
            )

    @classmethod
    def read(cls, path: Path) -> SqlModel:
        """Read the model in a .sql file."""
        return cls(path.stem, path.read_text(encoding="utf-8"), path)

    @property
    def description(self) -> str:
        """The comment that the file opens with, and the SQL after it."""
        lines = [line for line in self._header() if not _PER.match(line)]
        code = re.sub(r"\A(\s*--.*\n)+", "", self.sql)
        return f"{' '.join(lines)}\n\n```sql\n{code.strip()}\n```"

    @property
    def day_column(self) -> str | None:
        """See :attr:`AnalyticsModel.day_column`."""
        found = next(filter(None, map(_PER.match, self._header())), None)
        if found is None or found[1].strip().lower() == "video":
            return None
        day = re.fullmatch(r"\s*day\s+of\s+(\w+)\s*\.?", found[1], re.IGNORECASE)
        if day is None:
            raise ConfigurationError(
                f"{self.path or self.name}: 'per:{found[1]}' is not known; write per: video, or "
                "per: day of COLUMN"
            )
        return day[1]

    def _header(self) -> Iterator[str]:
        """The lines of the comments that the file opens with."""
        for line in map(str.strip, self.sql.splitlines()):
            if line.startswith("--"):
                yield line.lstrip("-").strip()
            elif line:
                break

    @property
    def column_descriptions(self) -> dict[str, str]:
        """The comments beside the columns of the SELECT, each on a line of its own."""
        found = re.findall(r"(\w+),?[ \t]+--[ \t]*(.+)$", self.sql, re.MULTILINE)
        return {name: text.strip() for name, text in found}

    @property
    def columns(self) -> Mapping[str, str]:
        """See :attr:`AnalyticsModel.columns`."""
        return ANALYTICS.get(self.name, {}) if self._is_standard else {}

    @property
    def code_version(self) -> str:
        """A digest of the SQL without comments and blank space."""
        per = f" per: {self.day_column}" if self.day_column else ""
        return _digest(" ".join(re.sub(r"--.*", "", self.sql).split()) + per)

    def mentions(self, tables: Collection[str]) -> list[str]:
        """The tables, of those given, that the SQL reads."""
        code = re.sub(r"--.*", "", self.sql)
        return [t for t in tables if re.search(rf"\b{re.escape(t)}\b", code)]

    def create(self, connection: DuckDBPyConnection) -> None:
        """See :meth:`AnalyticsModel.create`."""
        select = self.sql.rstrip().rstrip(";")
        connection.execute(f'CREATE OR REPLACE TEMP TABLE "{self.name}" AS\n{select}')

    def place_of(self, error: Exception) -> str:
        """See :meth:`AnalyticsModel.place_of`."""
        found = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
        line = f":{max(1, int(found[1]) - 1)}" if found else ""
        return f"{super().place_of(error)} ({self.path or 'SQL'}{line})"


@dataclass(frozen=True)
class PythonModel(AnalyticsModel):
    """An analytics table that a Python function computes.

    Args:
        name: The table, named for what a row is.
        reads: The tables that the function reads.
        function: Takes a DuckDB connection and returns an Arrow table with a column ``video``. The
            connection sees only the rows of the videos being computed. Its docstring describes the
            table.
        version: Changes when what the function computes changes; by default a digest of its source.

    Example:
        .. code-block:: python

            import duckdb
            import pyarrow as pa
            from rekognition_dagster import PythonModel, Settings, build_definitions, load_models


            def stays(lake: duckdb.DuckDBPyConnection) -> pa.Table:
                "A row a person of a video: for how many seconds they stayed."
                query = "SELECT video, person_index, dwell_ms // 1000 AS seconds FROM person_paths"
                return lake.sql(query).to_arrow_table()


            model = PythonModel("stays", reads=("person_paths",), function=stays, version="1")
            defs = build_definitions(Settings(bucket="cameras"), models=[*load_models(), model])
    """

    reads: tuple[str, ...]
    function: Callable[[DuckDBPyConnection], pa.Table]
    version: str = ""

    @property
    def description(self) -> str:
        """The function's docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def code_version(self) -> str:
        """``version``, or a digest of the function's source."""
        try:
            return self.version or _digest(inspect.getsource(self.function))
        except OSError:
            raise ConfigurationError(
                f"the model {self.name} needs a version: its function's source is not to be had"
            ) from None

    def mentions(self, tables: Collection[str]) -> list[str]:
        """The tables, of those given, that the function reads."""
        return [t for t in tables if t in self.reads]

    def create(self, connection: DuckDBPyConnection) -> None:
        """See :meth:`AnalyticsModel.create`."""
        rows = self.function(connection)
        connection.register("rows_of_function", rows)
        select = "SELECT * FROM rows_of_function"
        connection.execute(f'CREATE OR REPLACE TEMP TABLE "{self.name}" AS {select}')
        connection.unregister("rows_of_function")


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def load_models(
    folder: str | Path = STANDARD_MODELS, names: Collection[str] | None = None
) -> list[SqlModel]:
    """Read the models in a folder's .sql files, by name.

    Raises:
        ConfigurationError: There is no such folder, one of ``names`` has no file, or a file has
            no SELECT.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigurationError(f"{folder.absolute()} is no folder; name that of the .sql files")
    names = [names] if isinstance(names, str) else names
    models = {path.stem: SqlModel.read(path) for path in sorted(folder.glob("*.sql"))}
    if missing := set(names or ()) - set(models):
        raise ConfigurationError(
            f"no SQL for {', '.join(sorted(missing))} in {folder}; there are {', '.join(models)}"
        )
    return [m for n, m in models.items() if names is None or n in names]


def in_order(
    models: Sequence[AnalyticsModel], operations: Sequence[Operation]
) -> list[tuple[AnalyticsModel, list[str]]]:
    """Sort models per video so that each follows those it reads, and name its sources.

    Returns:
        Each model with the tables of operations and the models that it reads. A model of
        operations that do not run is left out.
    """
    models = [m for m in models if m.day_column is None]
    sources = [*(o.table for o in operations), *(m.name for m in models)]
    reads = {m.name: [t for t in m.mentions(sources) if t != m.name] for m in models}
    by_name = {m.name: m for m in models}
    order = TopologicalSorter({n: [t for t in r if t in by_name] for n, r in reads.items()})
    return [(by_name[n], reads[n]) for n in order.static_order() if reads[n]]


def compute(
    lake: Lake, model: AnalyticsModel, videos: Sequence[Video]
) -> Iterator[tuple[Video, pa.Table, str]]:
    """Compute a model's rows of some videos and write them to the lake.

    Yields:
        Each video, its rows, and the path of its file below the lake's root.

    Raises:
        DamagedFileError: A file of some videos is damaged; the others were computed.
        LakeError: The lake cannot be read or written.
        ConfigurationError: The SQL is wrong; the text has the model, its file and the line.
    """
    tables = model.mentions({*lake.tables(), *TABLES} - {model.name})
    with lake.connect(tables, list(videos)) as connection:
        create_table(connection, model, tables)
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


def create_table(
    connection: LakeConnection, model: AnalyticsModel, tables: Collection[str]
) -> None:
    """Make a model's table; without damaged files, if some of ``tables`` have any.

    Raises:
        ConfigurationError: The SQL is wrong; the text has the model, its file and the line.
        duckdb.Error: DuckDB could not do it, for want of memory for instance.
    """
    import duckdb

    try:
        try:
            model.create(connection)
        except duckdb.Error:
            if not connection.leave_out_damaged(" ".join(tables)):
                raise
            model.create(connection)
    except (duckdb.ProgrammingError, duckdb.DataError) as error:
        raise model.wrong(error) from error


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
