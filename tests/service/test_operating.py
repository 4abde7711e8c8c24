"""The operator's commands beside a running service."""

from __future__ import annotations

from command_line import run
from service.serving import ended, until


def test_a_running_job_that_is_cancelled_stops_and_is_announced_and_can_be_queued_again(
    cloud, make_service
):
    service = make_service(lease_s=3.0)
    rekognition = service.client()
    job_id = rekognition.start_face_detection(
        Video=cloud.video(rows=3000, seconds=600), NotificationChannel=cloud.channel
    )["JobId"]
    until(lambda: service.logged().count("job taken up") == 1)
    assert run("jobs", "cancel", job_id, "--store", service.store, "--yes").exit_code == 0
    page = rekognition.get_face_detection(JobId=job_id)
    assert page["JobStatus"] == "FAILED"
    assert "operator cancelled" in page["StatusMessage"]
    (message,) = until(cloud.completions)
    assert (message["JobId"], message["Status"]) == (job_id, "FAILED")
    # Its worker is free for others.
    other = rekognition.start_face_detection(Video=cloud.video())["JobId"]
    assert ended(rekognition, "face_detection", other)["JobStatus"] == "SUCCEEDED"
    assert run("jobs", "requeue", job_id, "--store", service.store).exit_code == 0
    assert rekognition.get_face_detection(JobId=job_id)["JobStatus"] == "IN_PROGRESS"
    until(lambda: service.logged().count("job taken up") == 3)
    assert run("jobs", "cancel", job_id[:16], "--store", service.store, "--yes").exit_code == 0
