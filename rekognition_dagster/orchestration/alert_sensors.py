"""The sensors that send alerts: a run of the deployment failed, or an hourly check did.

E-mail and Slack are Dagster's own sensors; SNS is one of the same kind. A check that fails with
severity ERROR fails its run, so checks need no sensor of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.names import Deployment

_JOBS = (
    "results",
    "analytics",
    "analytics_by_day_refresh",
    "local_backfill",
    "rerun",
    "steering",
    "plan",
    "alerts",
    "daily_report",
)
_SCHEDULED = ("nightly", "compaction", "hourly_status")
_HELP = {
    "results": "rekognition-dagster status --failed",
    "local_backfill": "rekognition-dagster status --failed",
    "rerun": "rekognition-dagster status --failed",
}
_REASONS, _CHARACTERS = 5, 4000  # of a message; SNS takes 256 KB, Slack 40,000 characters
_SUBJECT = 100  # SNS takes no longer one

Text = Callable[[dg.RunFailureSensorContext], str]


def build_alert_sensors(deployment: Deployment) -> list[dg.SensorDefinition]:
    """A sensor for each channel of the setting ``alerts``.

    Raises:
        ConfigurationError: Alerts go to Slack, and dagster-slack is not installed.
    """
    alerts = deployment.settings.alerts
    if alerts is None:
        return []
    # Dagster compares names alone: these jobs are defined elsewhere, or not in this code location.
    scheduled = (f"__anonymous_asset_job_{deployment.scoped(name)}" for name in _SCHEDULED)
    names = [*map(deployment.scoped, _JOBS), *scheduled]
    how: dict[str, Any] = {
        "monitored_jobs": [dg.define_asset_job(name) for name in names],
        "default_status": deployment.settings.sensor_status,
    }
    secret = alerts.secret or ""
    made: list[dg.SensorDefinition] = []
    if alerts.sns_topic_arn:
        made.append(_sns(deployment, alerts.sns_topic_arn, how))
    if alerts.email_to:
        made.append(
            dg.make_email_on_run_failure_sensor(
                email_from=alerts.email_from or alerts.email_to[0],
                email_password=secret,
                email_to=alerts.email_to,
                email_body_fn=lambda context: alert_text(context, deployment, "<br>\n"),
                email_subject_fn=lambda context: alert_subject(context, deployment),
                smtp_host=alerts.smtp_host,
                smtp_type=alerts.smtp_type,
                smtp_port=alerts.smtp_port,
                smtp_user=alerts.smtp_user,
                name=deployment.scoped("alerts_by_email"),
                webserver_base_url=alerts.ui_url,
                **how,
            )
        )
    if alerts.slack_channel:
        made.append(_slack(deployment, alerts.slack_channel, secret, how))
    return made


def _slack(
    deployment: Deployment, channel: str, token: str, how: dict[str, Any]
) -> dg.SensorDefinition:
    try:
        from dagster_slack import make_slack_on_run_failure_sensor
    except ImportError:
        raise ConfigurationError(
            "alerts go to Slack, which needs dagster-slack: pip install "
            "'rekognition-dagster[slack]'"
        ) from None
    return make_slack_on_run_failure_sensor(
        channel=channel,
        slack_token=token,
        text_fn=lambda context: alert_text(context, deployment),
        name=deployment.scoped("alerts_to_slack"),
        webserver_base_url=deployment.settings.alerts and deployment.settings.alerts.ui_url,
        **how,
    )


def _sns(deployment: Deployment, topic: str, how: dict[str, Any]) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name=deployment.scoped("alerts_to_sns"),
        description=f"Publishes failed runs and failed hourly checks to {topic}.",
        **how,
    )
    def alerts_to_sns(context: dg.RunFailureSensorContext) -> None:
        from rekognition_dagster.aws import client

        region = topic.split(":")[3]
        sns = client("sns", region_name=region, assume_role=deployment.settings.assume_role)
        sns.publish(
            TopicArn=topic,
            Subject=alert_subject(context, deployment)[:_SUBJECT],
            Message=alert_text(context, deployment),
        )

    return alerts_to_sns


def alert_subject(context: dg.RunFailureSensorContext, deployment: Deployment) -> str:
    """One line: which job of which deployment failed."""
    return f"{deployment.settings.name}: {_job(context, deployment)} failed"


def alert_text(
    context: dg.RunFailureSensorContext, deployment: Deployment, newline: str = "\n"
) -> str:
    """What failed, why, the command that helps, and where to look."""
    job = _job(context, deployment)
    reasons = [*_failed_checks(context), *_failed_steps(context)] or [context.failure_event.message]
    lines = [alert_subject(context, deployment) + ":", *(str(r) for r in reasons[:_REASONS])]
    if more := len(reasons) - _REASONS:
        lines += [f"and {more} more"] if more > 0 else []
    lines.append(f"What helps: {_HELP.get(job, 'rekognition-dagster status')}")
    alerts = deployment.settings.alerts
    if alerts and alerts.ui_url:
        lines.append(f"{alerts.ui_url.rstrip('/')}/runs/{context.dagster_run.run_id}")
    return newline.join(line[:_CHARACTERS] for line in lines)


def _job(context: dg.RunFailureSensorContext, deployment: Deployment) -> str:
    """The job's name as people know it."""
    name = context.dagster_run.job_name.removeprefix("__anonymous_asset_job_")
    return name.removeprefix(deployment.scoped(""))


def _failed_steps(context: dg.RunFailureSensorContext) -> list[str]:
    reasons: list[str] = []
    for event in context.get_step_failure_events():
        data: Any = event.event_specific_data
        told = data.user_failure_data
        error = data.error and data.error.message.strip()
        reasons.append(str((told and told.description) or error or event.message))
    return reasons


def _failed_checks(context: dg.RunFailureSensorContext) -> list[str]:
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    logged = context.instance.all_logs(context.dagster_run.run_id, of_type=kind)
    found: list[Any] = [e.dagster_event and e.dagster_event.event_specific_data for e in logged]
    return [
        f"{evaluation.asset_key.to_user_string()}, {evaluation.check_name}: "
        f"{evaluation.description or 'failed'}"
        for evaluation in found
        if evaluation is not None and not evaluation.passed
    ]
