"""A deployment in Python: its assets under names of its own, and one asset more."""

# No postponed annotations here: Dagster reads those of the decorated function as they stand.

import dagster as dg

from rekognition_dagster import (
    LakeResource,
    RekognitionVideoAssetData,
    RekognitionVideoTranslator,
    Settings,
    build_definitions,
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
    with lake.connect() as duckdb:
        rows = duckdb.sql(
            "SELECT video, person_index, dwell_ms // 1000 AS seconds FROM person_paths "
            "ORDER BY dwell_ms DESC, video, person_index LIMIT 10"
        ).fetchall()
    records = [dg.TableRecord({"video": v, "person": p, "seconds": s}) for v, p, s in rows]
    columns = [
        dg.TableColumn("video", "string"),
        dg.TableColumn("person", "int"),
        dg.TableColumn("seconds", "int"),
    ]
    return dg.MaterializeResult(
        metadata={"longest": dg.MetadataValue.table(records, dg.TableSchema(columns))}
    )


SETTINGS = Settings.from_env(operations=["person_tracking"])
defs = dg.Definitions.merge(
    build_definitions(SETTINGS, translator=InCameras()),
    # Switch on Dagster's default automation sensor for the condition above.
    dg.Definitions(assets=[longest_stays], resources={"lake": LakeResource(url=SETTINGS.lake)}),
)
