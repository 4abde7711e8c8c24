"""An asset of the team's own beside both deployments, with its own schedule."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import dagster as dg


@dg.asset(
    deps=["visits", ["yard", "person_paths"]],
    required_resource_keys={"rekognition_dagster_lake", "yard_lake"},
    group_name="reports",
    description="In how many videos of each deployment somebody was.",
)
def weekly_summary(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Read both lakes, by the resources of their deployments."""
    counts = {}
    for name, lake, table in (
        ("entrance", context.resources.rekognition_dagster_lake, "visits"),
        ("yard", context.resources.yard_lake, "person_paths"),
    ):
        with lake.connect() as connection:
            query = f"SELECT count(DISTINCT video) FROM {table}"
            counts[name] = connection.sql(query).fetchall()[0][0]
    return dg.MaterializeResult(metadata=counts)


every_monday = dg.ScheduleDefinition(
    name="every_monday", cron_schedule="0 7 * * 1", target=weekly_summary
)
