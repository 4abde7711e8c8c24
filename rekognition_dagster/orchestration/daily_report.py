"""The daily report: an asset that writes a day's page to the lake's ``reports/``, nightly."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import importlib.util
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import dagster as dg

from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import FACE_DETECTION, LABEL_DETECTION, PERSON_TRACKING
from rekognition_dagster.orchestration.names import Deployment

if TYPE_CHECKING:
    from rekognition_dagster.report import Report

FOLDER = "reports"
TABLE = "activity_by_day"
"""Its file of a day is newer than the day's report where the report is behind."""
_DAYS = 14
_NEEDED = ("altair", "vl_convert", "jinja2", "cv2")


def build_daily_report(deployment: Deployment) -> dg.Definitions:
    """The asset and its schedule; nothing where the setting or the extra ``report`` is missing."""
    settings = deployment.settings
    has_people = PERSON_TRACKING in settings.operation_list
    has_tables = has_people and any(model.name == TABLE for model in deployment.daily_models)
    has_extra = all(importlib.util.find_spec(name) for name in _NEEDED)
    if settings.daily_report == "off" or not (has_tables and has_extra):
        return dg.Definitions()
    spec = deployment.asset(
        "upkeep",
        "daily_report",
        partitions_def=deployment.days,
        deps=[deployment.key("analytics", model) for model in deployment.daily_models],
        kinds={"html"},
        description="One page about a day: counts, charts, heat maps, flows, stays, busiest "
        "moments. It is written to the lake's folder reports.",
    )

    @dg.multi_asset(
        name=spec.key.to_python_identifier(),
        specs=[spec],
        partitions_def=deployment.days,
        required_resource_keys=deployment.needs("lake", "video_bucket"),
    )
    def daily_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from rekognition_dagster.report import Scope, build_report

        day = date.fromisoformat(context.partition_key)
        lake = deployment.resource(context, "lake").open()
        blur, run = settings.report_blur, settings.operation_list
        report = build_report(
            lake,
            Scope(day, day, faces=FACE_DETECTION in run, labels=LABEL_DETECTION in run),
            pictures=settings.report_pictures,
            blur=None if blur == "none" else blur,
            client=deployment.resource(context, "video_bucket").downloader(),
        )
        lake.storage.write(path_of(day), report.html.encode())
        for note in report.page.notes:
            context.log.warning(note)
        return dg.MaterializeResult(metadata=_metadata(lake, day, report))

    job = dg.define_asset_job(
        deployment.scoped("daily_report"),
        selection=[spec.key],
        executor_def=dg.in_process_executor,
        description="Writes the report of a day. Launched by the schedule of the same name.",
    )

    @dg.schedule(
        name=deployment.scoped("daily_report"),
        job=job,
        cron_schedule=settings.daily_report,
        execution_timezone=settings.timezone,
        default_status=settings.schedule_status,
        description="Writes the reports of the last two weeks' days that are missing or older than "
        "the day's tables.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> Any:
        today = context.scheduled_execution_time.astimezone(ZoneInfo(settings.timezone)).date()
        days = list(behind(settings.open_lake(), today))
        if not days:
            return dg.SkipReason("The reports of all days are there")
        names = [day.isoformat() for day in days]
        context.instance.add_dynamic_partitions(str(deployment.days.name), names)
        return [
            dg.RunRequest(run_key=f"{name} {context.scheduled_execution_time}", partition_key=name)
            for name in names
        ]

    return dg.Definitions(assets=[daily_report], jobs=[job], schedules=[nightly])


def path_of(day: date) -> str:
    """Where a day's report is in the lake."""
    return f"{FOLDER}/{day}.html"


def behind(lake: Lake, today: date) -> Iterator[date]:
    """Yield the finished days of two weeks whose report is missing or older than their tables."""
    for ago in range(_DAYS, 0, -1):
        day = today - timedelta(days=ago)
        table = lake.storage.look(lake.day_path(TABLE, day))
        if table is None:
            continue
        report = lake.storage.look(path_of(day))
        if report is None or report.mtime_ns < table.mtime_ns:
            yield day


def _metadata(lake: Lake, day: date, report: "Report") -> dict[str, Any]:
    """The page's head, as Dagster shows it; a text of 1,000 characters hides behind a link."""
    page = report.page
    metadata: dict[str, Any] = {
        "summary": dg.MetadataValue.md(_head(report)),
        "report": dg.MetadataValue.path(lake.storage.uri(path_of(day))),
        "people": page.totals["people"],
        "cameras": page.totals["cameras"],
    }
    if page.notes:
        metadata["notes"] = dg.MetadataValue.md("\n".join(f"- {note}" for note in page.notes[:20]))
    if image := next((camera.heat for camera in page.cameras if camera.heat), None):
        title = f"Where people were: {page.cameras[0].name}"
        metadata["picture"] = dg.MetadataValue.md(image.markdown(title))
    return metadata


def _head(report: "Report") -> str:
    from rekognition_dagster.report.facts import NO_CAMERA
    from rekognition_dagster.report.page import counted, plain_markdown

    page, total = report.page, report.page.totals
    lines = [
        f"**{page.summary}**",
        "",
        "| camera | people | most at once |",
        "| --- | --- | --- |",
    ]
    for row in page.facts.cameras[:8]:
        name = plain_markdown(row["camera"] or NO_CAMERA)
        lines.append(f"| {name} | {row['people']:,} | {row['most']} |")
    if (busiest := total["busiest"]) is not None:
        when: datetime = busiest["at_local"]
        lines += ["", f"Busiest: {counted(busiest['people'], 'person', 'people')}, {when:%H:%M:%S}"]
    return "\n".join(lines)
