"""A lake that cannot be written: the run says why and for which video, and the next goes on."""

from __future__ import annotations

from deployment import Deployment


def test_a_lake_without_permission_fails_the_run_and_the_next_one_goes_on(
    deployment: Deployment,
) -> None:
    partitions = deployment.discover("a.mp4", "b.mp4")
    deployment.dispatch()
    deployment.notify()
    deployment.tick("completions")
    # Nobody may make a folder in /sys, root included.
    settings = deployment.settings.model_copy(update={"lake": "/sys/lake"})
    refused = Deployment(settings, deployment.instance, deployment.provisioned, deployment.double)
    run = refused.materialize("person_detections", partitions)
    assert not run.success
    (failure,) = [e for e in run.all_events if e.is_step_failure]
    told = str(failure.step_failure_data.user_failure_data)
    for key in ("a.mp4", "b.mp4"):
        assert f"of s3://{settings.bucket}/{key}: " in told
    assert "No permission: let this user write there" in told
    assert deployment.materialized("person_detections") == set()

    assert deployment.materialize("person_detections", partitions).success
    assert deployment.materialized("person_detections") == set(partitions)
    assert deployment.rows("SELECT count(*) FROM person_detections") == [(20,)]
