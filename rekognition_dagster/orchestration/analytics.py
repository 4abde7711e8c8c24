"""Analytics assets: one SQL file, one table, a Parquet file per video, computed by DuckDB.

A model's name is its file's; what it reads is what it mentions; its first comment describes it.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake import TABLES
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.metadata import column_schema, file_metadata
from rekognition_dagster.orchestration.names import (
    BATCH_SIZE,
    VIDEO_PARTITIONS,
    RekognitionVideoTranslator,
)
from rekognition_dagster.orchestration.resources import LakeResource
from rekognition_dagster.orchestration.results import when_updated

STANDARD_MODELS = Path(__file__).parent.parent / "analytics"
"""The models that come with the package."""


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


def build_analytics_assets(
    models: Sequence[SqlModel],
    operations: Sequence[Operation],
    names: RekognitionVideoTranslator,
) -> list[dg.AssetsDefinition]:
    """An asset per model. A model of operations that do not run is left out."""
    sources = {
        **{o.table: names.results(o) for o in operations},
        **{m.name: names.asset_key(m.name) for m in models},
    }
    upstream = {m: [sources[t] for t in m.mentions(sources) if t != m.name] for m in models}
    return [_build(model, deps, names) for model, deps in upstream.items() if deps]


def _build(
    model: SqlModel, deps: Sequence[dg.AssetKey], names: RekognitionVideoTranslator
) -> dg.AssetsDefinition:
    key = names.asset_key(model.name)

    @dg.asset(
        key=key,
        partitions_def=VIDEO_PARTITIONS,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        deps=list(deps),
        automation_condition=when_updated(),
        group_name=names.group_name("analytics"),
        kinds={"duckdb", "parquet"},
        output_required=False,
        description=f"{model.description}\n\n```sql\n{model.sql.strip()}\n```",
    )
    def compute(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.Output[None]]:
        opened = lake.open()
        partitions = context.partition_keys
        videos = events.videos(context.instance, names.video(), partitions)
        tables = model.mentions({*opened.tables(), *TABLES} - {model.name})
        with opened.connect(tables, list(videos.values())) as connection:
            connection.execute(f'CREATE TEMP TABLE "{model.name}" AS {_statement(model.sql)}')
            for partition, video in videos.items():
                rows = connection.sql(
                    f'SELECT * FROM "{model.name}" WHERE video = ? ORDER BY ALL', params=[video.uri]
                ).to_arrow_table()
                with opened.writer(model.name, video, schema=rows.schema) as writer:
                    writer.write(rows)
                context.log_event(
                    dg.AssetMaterialization(
                        key,
                        partition=partition,
                        metadata={
                            **file_metadata(opened, writer.path, rows.num_rows),
                            "dagster/column_schema": column_schema(rows.schema),
                        },
                    )
                )
        lake.refresh_catalogue()
        yield from ()

    return compute


def _statement(sql: str) -> str:
    return sql.strip().rstrip(";")
