"""The same pipeline the naive way: a run for each video whose job has completed."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import dagster as dg

from rekognition_dagster import Settings, build_definitions
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.state import Phase
from rekognition_dagster.state.results import keys_in, stands

settings = Settings.from_env()
deployment = Deployment(settings)
_OURS = ("video_discovery", "job_dispatch", "completions", "reports")


@dg.sensor(
    name="a_run_for_each",
    target=[dg.AssetKey(o.table) for o in settings.operation_list],
    minimum_interval_seconds=settings.sensor_interval,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def a_run_for_each(context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
    """One run for each video that has completed; the run key makes it one."""
    partitions = context.instance.get_dynamic_partitions(str(deployment.partitions.name))
    with deployment.state(context.instance).read() as connection:
        keys = keys_in(connection, partitions)
        return [
            dg.RunRequest(
                run_key=stand.work["job_id"],
                partition_key=stand.partition,
                asset_selection=[deployment.key("results", operation)],
            )
            for operation in settings.operation_list
            for stand in stands(connection, operation.name, keys)
            if stand.phase is Phase.UNPAGED
        ]


def _naive(ours: dg.Definitions) -> dg.Definitions:
    return dg.Definitions(
        assets=list(ours.assets or []),
        asset_checks=list(ours.asset_checks or []),
        resources=ours.resources,
        executor=dg.in_process_executor,
        sensors=[
            a_run_for_each,
            *(
                sensor
                for sensor in ours.sensors or []
                if sensor.name in {deployment.scoped(name) for name in _OURS}
            ),
        ],
    )


defs = _naive(build_definitions(settings, models=[]))
