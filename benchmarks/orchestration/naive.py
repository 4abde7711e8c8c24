"""The same pipeline the naive way: a run for each video whose job has completed."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import dagster as dg

from rekognition_dagster import Settings, build_definitions
from rekognition_dagster.orchestration.names import RekognitionVideoTranslator
from rekognition_dagster.orchestration.standing import Books, Phase

settings = Settings.from_env()
books = Books(RekognitionVideoTranslator(), settings)


@dg.sensor(
    name="a_run_for_each",
    target=[dg.AssetKey(o.table) for o in settings.operation_list],
    minimum_interval_seconds=settings.sensor_interval,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def a_run_for_each(context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
    """One run for each video that has completed; the run key makes it one."""
    return [
        dg.RunRequest(
            run_key=standing.job_id,
            partition_key=standing.partition,
            asset_selection=[books.names.results(operation)],
        )
        for operation in settings.operation_list
        for standing in books.board(context.instance, operation).find(Phase.UNPAGED)
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
                if sensor.name in {"video_discovery", "job_dispatch", "completions"}
            ),
        ],
    )


defs = _naive(build_definitions(settings, models=[]))
