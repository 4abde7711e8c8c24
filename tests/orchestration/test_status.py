"""What the person who runs it sees: every phase counted, every failure with its reason."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
from deployment import Deployment
from rekognition_double import ApiFault

from rekognition_dagster.cli.status_table import write_status
from rekognition_dagster.state import Phase, queries
from rekognition_dagster.state.queries import Summary


def summary(deployment: Deployment) -> Summary:
    with deployment.state.read() as connection:
        return queries.summary(connection, "person_tracking", deployment.settings.source_list)


@pytest.mark.parametrize("partition_by", [None, "{camera}/{date}"])
def test_every_phase_is_counted_and_every_failure_has_its_reason(
    deployment: Deployment, partition_by: str | None
) -> None:
    deployment.set(partition_by=partition_by, max_jobs_in_flight=4)

    def refuse(request: dict[str, Any]) -> None:
        if request["Video"]["S3Object"]["Name"].endswith("refused.mp4"):
            raise ApiFault("InvalidS3ObjectException")

    deployment.double.on_start = refuse
    day = "cam/2026-01-31"
    deployment.discover(f"{day}/0.mp4", f"{day}/bad.mp4", f"{day}/refused.mp4", f"{day}/z.mp4")
    deployment.double.failed.add(f"{day}/bad.mp4")
    deployment.dispatch()
    deployment.notify("job-0", "job-1")
    deployment.tick("completions")
    deployment.run_requested("results_refresh")
    deployment.discover(*(f"{day}/z{i}.mp4" for i in range(5)))
    deployment.dispatch()
    deployment.notify("job-3")
    deployment.tick("completions")
    told = summary(deployment)
    assert {p.value: n for p, n in told.counts.items()} == {
        "held": 0,
        "waiting": 2,
        "in_flight": 3,
        "unpaged": 1,
        "failed": 2,
        "analysed": 1,
    }
    bucket = deployment.settings.bucket
    reasons = [told.failed[f"s3://{bucket}/{day}/{name}.mp4"] for name in ("bad", "refused")]
    assert "the video has no frames" in reasons[0]
    assert "InvalidS3ObjectException" in reasons[1]
    assert told.expiring == 0
    table, as_json = io.StringIO(), io.StringIO()
    write_status([told], "table", table)
    write_status([told], "json", as_json)
    assert "the video has no frames" in table.getvalue()
    assert json.loads(as_json.getvalue())[0]["in_flight"] == 3
    run = deployment.materialize("pipeline_status")
    (event,) = run.asset_materializations_for_node("pipeline_status")
    assert event.metadata["person_tracking/waiting"].value == 2
    assert event.metadata["person_tracking/reasons"].value == told.failed


def test_results_that_the_service_is_about_to_forget_are_told(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.discover("a.mp4")
    deployment.dispatch()
    deployment.notify()
    deployment.tick("completions")
    assert summary(deployment).expiring == 0
    later = time.time() + 5.5 * 86400
    monkeypatch.setattr("rekognition_dagster.state.queries.time.time", lambda: later)
    told = summary(deployment)
    assert (told.counts[Phase.UNPAGED], told.expiring) == (1, 1)
    write_status([told], "table", out := io.StringIO())
    assert "5 d" in out.getvalue() or "6 d" in out.getvalue()
