"""The real engine behind the service, on real film."""

from __future__ import annotations

import sys

import botocore.session
import pytest
from service.serving import BUCKET, ended, until

from rekognition_dagster.engine import models, read_metadata
from rekognition_dagster.errors import ModelError

API = botocore.session.get_session().get_service_model("rekognition")
LANDMARKS = set(API.shape_for("LandmarkType").enum)
EMOTIONS = set(API.shape_for("EmotionName").enum)

pytestmark = pytest.mark.xdist_group("end_to_end")


@pytest.fixture(scope="module")
def film():
    try:
        models.pull()
        return models.path("carphone_pristine.mp4")
    except ModelError as error:
        pytest.skip(f"the embedded models cannot be fetched here: {error}")


def test_a_face_and_its_person_are_found_in_a_film(cloud, make_service, film):
    service = make_service(analyzer="rekognition_dagster.engine:analyze", sample_fps=4.0)
    rekognition = service.client()
    cloud.s3.upload_file(str(film), BUCKET, "carphone.mp4")
    video = {"S3Object": {"Bucket": BUCKET, "Name": "carphone.mp4"}}
    jobs = {
        "person_tracking": rekognition.start_person_tracking(
            Video=video, NotificationChannel=cloud.channel
        )["JobId"],
        "face_detection": rekognition.start_face_detection(
            Video=video, NotificationChannel=cloud.channel
        )["JobId"],
        "label_detection": rekognition.start_label_detection(
            Video=video, NotificationChannel=cloud.channel
        )["JobId"],
    }
    announced: dict[str, str] = {}
    until(
        lambda: (
            announced.update({m["JobId"]: m["Status"] for m in cloud.completions()})
            or len(announced) == 3
        ),
        120,
    )
    assert set(announced.values()) == {"SUCCEEDED"}
    pages = {operation: ended(rekognition, operation, job) for operation, job in jobs.items()}
    facts = read_metadata(film)
    for page in pages.values():
        metadata = page["VideoMetadata"]
        assert metadata["DurationMillis"] == facts.duration_ms
        assert (metadata["FrameWidth"], metadata["FrameHeight"]) == (facts.width, facts.height)
    face = pages["face_detection"]["Faces"][0]["Face"]
    assert set(face) == {"BoundingBox", "Confidence", "Landmarks", "Pose", "Quality"}
    assert 0 < face["BoundingBox"]["Width"] < 1
    persons = pages["person_tracking"]["Persons"]
    assert any("Face" in p["Person"] for p in persons)
    labels = {x["Label"]["Name"]: x["Label"] for x in pages["label_detection"]["Labels"]}
    assert labels["Person"]["Instances"]
    assert {p["Name"] for label in labels.values() for p in label["Parents"]} <= set(labels)


def test_all_face_attributes_come_where_they_are_asked_for(cloud, make_service, film):
    service = make_service(analyzer="rekognition_dagster.engine:analyze", sample_fps=2.0)
    rekognition = service.client()
    cloud.s3.upload_file(str(film), BUCKET, "carphone.mp4")
    video = {"S3Object": {"Bucket": BUCKET, "Name": "carphone.mp4"}}
    started = {
        asked: rekognition.start_face_detection(Video=video, FaceAttributes=asked)["JobId"]
        for asked in ("ALL", "DEFAULT")
    }
    pages = {asked: ended(rekognition, "face_detection", job) for asked, job in started.items()}
    assert {asked: len(page["Faces"]) for asked, page in pages.items()} == {"ALL": 8, "DEFAULT": 8}
    for entry in pages["ALL"]["Faces"]:
        face = entry["Face"]
        lean = {"BoundingBox", "Confidence", "Landmarks", "Pose", "Quality"}
        told = {"AgeRange", "Gender", "Smile", "EyesOpen", "MouthOpen", "Emotions"}
        assert set(face) == lean | told
        assert face["Gender"]["Value"] == "Male"
        assert 0 <= face["AgeRange"]["Low"] < face["AgeRange"]["High"]
        assert {m["Type"] for m in face["Landmarks"]} == LANDMARKS
        assert sum(e["Confidence"] for e in face["Emotions"]) == pytest.approx(100, abs=0.1)
        assert face["Emotions"][0]["Type"] in EMOTIONS
    assert {len(f["Face"]["Landmarks"]) for f in pages["DEFAULT"]["Faces"]} == {5}


def test_a_film_that_is_cut_off_fails_its_job(cloud, make_service, film):
    service = make_service(analyzer="rekognition_dagster.engine:analyze", sample_fps=1.0)
    rekognition = service.client()
    cloud.s3.put_object(Bucket=BUCKET, Key="cut.mp4", Body=film.read_bytes()[:20_000])
    video = {"S3Object": {"Bucket": BUCKET, "Name": "cut.mp4"}}
    job_id = rekognition.start_face_detection(Video=video)["JobId"]
    page = ended(rekognition, "face_detection", job_id, 60)
    assert page["JobStatus"] == "FAILED"
    assert f"s3://{BUCKET}/cut.mp4" in page["StatusMessage"]


def test_the_package_loads_nothing_that_decodes_video():
    import subprocess

    code = (
        "import sys, rekognition_dagster.service, rekognition_dagster.service.server;"
        "heavy = {'cv2', 'openvino', 'av', 'torch', 'moto', 'duckdb', 'dagster'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
