"""A deployment in Python: its assets under names of its own, and a team's assets downstream.

Downstream of videos and of days, in Python and in SQL; none of them costs a run a video.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import dagster as dg
import duckdb
import pyarrow as pa

from rekognition_dagster import (
    LakeResource,
    PythonModel,
    RekognitionVideoAssetData,
    RekognitionVideoTranslator,
    Settings,
    SqlModel,
    build_definitions,
    load_models,
)


class InCameras(RekognitionVideoTranslator):
    """``cameras/person_paths`` in the place of ``person_paths``, and so on, with owners."""

    def get_asset_spec(self, data: RekognitionVideoAssetData) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(
            key=spec.key.with_prefix("cameras"),
            group_name=f"cameras_{spec.group_name}",
            owners=["team:video"],
        )


# -- by video: models are computed with the package's own, hundreds of videos in a run ------------

long_stays = SqlModel(
    "long_stays",
    "-- A row a person of a video who stayed for longer than ten seconds.\n"
    "SELECT video, person_index, dwell_ms FROM person_paths WHERE dwell_ms > 10000\n",
)


def stays(lake: duckdb.DuckDBPyConnection) -> pa.Table:
    """A row a video: the middle of the time for which people stayed, in milliseconds."""
    rows = lake.sql("SELECT video, dwell_ms FROM person_paths ORDER BY dwell_ms").fetchall()
    by_video: dict[str, list[int]] = {}
    for video, dwell_ms in rows:
        by_video.setdefault(video, []).append(dwell_ms)
    middle = [dwells[len(dwells) // 2] for dwells in by_video.values()]
    types = pa.schema([("video", pa.string()), ("middle_dwell_ms", pa.int64())])
    return pa.table([list(by_video), middle], schema=types)


MODELS = [*load_models(), long_stays, PythonModel("stays", ("person_paths",), stays)]

# -- by day: a run a day, and one run for a backfill of any length --------------------------------

DAYS = dg.DailyPartitionsDefinition("2026-01-01")
EVERY_MORNING = (
    dg.AutomationCondition.cron_tick_passed("0 6 * * *")
    & dg.AutomationCondition.in_latest_time_window()
)


@dg.asset(
    key=["cameras", "people_by_day"],
    # A day has videos of any number: all partitions are upstream of each day.
    deps=[dg.AssetDep(["cameras", "person_paths"], partition_mapping=dg.AllPartitionMapping())],
    group_name="cameras_analytics",
    kinds={"duckdb"},
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    automation_condition=EVERY_MORNING,
    description="People and their time, by day of recording: SQL over the whole archive.",
)
def people_by_day(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    with lake.connect() as connection:
        days = connection.execute(
            "SELECT date::VARCHAR, count(*), sum(dwell_ms)::BIGINT // 1000 FROM person_paths "
            "WHERE list_contains(?::DATE[], date) GROUP BY date ORDER BY date",
            [list(context.partition_keys)],
        ).fetchall()
    columns = {"day": "string", "people": "int", "seconds": "int"}
    return dg.MaterializeResult(metadata={"days": table(columns, days)})


@dg.asset(
    key=["cameras", "longest_stays"],
    deps=[["cameras", "person_paths"]],
    group_name="cameras_analytics",
    kinds={"duckdb"},
    automation_condition=dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.in_progress(),
    description="The ten people who stayed longest, over all videos.",
)
def longest_stays(lake: LakeResource) -> dg.MaterializeResult:
    """Unlike the analytics models, which see one video each, this looks at the whole archive."""
    with lake.connect() as connection:
        people = connection.sql(
            "SELECT video, person_index, dwell_ms // 1000 FROM person_paths "
            "ORDER BY dwell_ms DESC, video, person_index LIMIT 10"
        ).fetchall()
    columns = {"video": "string", "person": "int", "seconds": "int"}
    return dg.MaterializeResult(metadata={"longest": table(columns, people)})


def table(columns: dict[str, str], rows: list[tuple]) -> dg.TableMetadataValue:
    """Rows as Dagster's UI shows them, under columns of given names and types."""
    schema = dg.TableSchema([dg.TableColumn(name, type_) for name, type_ in columns.items()])
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows], schema
    )


SETTINGS = Settings.from_env(operations=["person_tracking"])
defs = dg.Definitions.merge(
    build_definitions(SETTINGS, models=MODELS, translator=InCameras()),
    # Switch on Dagster's default automation sensor for the conditions above.
    dg.Definitions(
        assets=[people_by_day, longest_stays], resources={"lake": LakeResource(url=SETTINGS.lake)}
    ),
)
