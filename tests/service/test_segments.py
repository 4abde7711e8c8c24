"""Segment detection over the API: what is selected, in which order, and what comes beside it."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from botocore.exceptions import ClientError
from service.serving import BUCKET, ended, until

from rekognition_dagster.engine import BlackFrames
from rekognition_dagster.operations import SEGMENT_DETECTION
from rekognition_dagster.service.requests import engine_options, request_hash

BOTH = ["TECHNICAL_CUE", "SHOT"]


def page(cloud: Any, rekognition: Any, script: dict[str, Any], **request: Any) -> dict[str, Any]:
    """The first page of a scripted video's segments."""
    video = cloud.video(**script)
    job_id = rekognition.start_segment_detection(Video=video, **request)["JobId"]
    return ended(rekognition, "segment_detection", job_id)


@pytest.mark.parametrize(
    ("types", "kinds"),
    [
        (["SHOT"], ["SHOT"] * 5),
        (["TECHNICAL_CUE"], ["TECHNICAL_CUE"] * 5),
        (BOTH, ["TECHNICAL_CUE"] * 5 + ["SHOT"] * 5),
        (BOTH[::-1], ["SHOT"] * 5 + ["TECHNICAL_CUE"] * 5),
    ],
)
def test_segments_come_by_the_types_as_asked_and_then_by_time(cloud, rekognition, types, kinds):
    found = page(cloud, rekognition, {}, SegmentTypes=types)["Segments"]
    assert [segment["Type"] for segment in found] == kinds
    for kind in types:
        times = [s["StartTimestampMillis"] for s in found if s["Type"] == kind]
        assert times == sorted(times)


def test_segments_are_those_of_the_types_asked_for(cloud, rekognition):
    for segment in page(cloud, rekognition, {}, SegmentTypes=BOTH)["Segments"]:
        if segment["Type"] == "SHOT":
            assert set(segment["ShotSegment"]) == {"Index", "Confidence"}
            assert "TechnicalCueSegment" not in segment
        else:
            assert segment["TechnicalCueSegment"] == {"Type": "BlackFrames", "Confidence": 99.5}
            assert "ShotSegment" not in segment


def test_segments_below_their_types_confidence_are_left_out(cloud, rekognition):
    filters = {"ShotFilter": {"MinSegmentConfidence": 80.0}}
    found = page(cloud, rekognition, {}, SegmentTypes=BOTH, Filters=filters)["Segments"]
    shots = [s["ShotSegment"] for s in found if s["Type"] == "SHOT"]
    assert [s["Index"] for s in shots] == [0, 2, 4]
    assert len(found) - len(shots) == 5
    filters = {"TechnicalCueFilter": {"MinSegmentConfidence": 99.6}}
    found = page(cloud, rekognition, {}, SegmentTypes=BOTH, Filters=filters)["Segments"]
    assert Counter(s["Type"] for s in found) == {"SHOT": 5}


def test_pages_of_segments_follow_each_other(cloud, rekognition):
    video = cloud.video(rows=25)
    job_id = rekognition.start_segment_detection(Video=video, SegmentTypes=BOTH)["JobId"]
    whole = ended(rekognition, "segment_detection", job_id)["Segments"]
    paged, token = [], ""
    while True:
        more = {"NextToken": token} if token else {}
        answer = rekognition.get_segment_detection(JobId=job_id, MaxResults=7, **more)
        paged += answer["Segments"]
        if not (token := answer.get("NextToken")):
            break
    assert paged == whole
    assert len(whole) == 25


def test_metadata_of_pictures_and_sound_are_lists(cloud, rekognition):
    answer = page(cloud, rekognition, {"channels": [1, 2]}, SegmentTypes=["SHOT"])
    (pictures,) = answer["VideoMetadata"]
    assert (pictures["Codec"], pictures["FrameRate"]) == ("h264", 25.0)
    assert [sound["NumberOfChannels"] for sound in answer["AudioMetadata"]] == [1, 2]
    assert answer["AudioMetadata"][0]["SampleRate"] == 48_000
    (selected,) = answer["SelectedSegmentTypes"]
    assert selected["Type"] == "SHOT"
    assert selected["ModelVersion"]
    silent = page(cloud, rekognition, {}, SegmentTypes=["SHOT"])
    assert silent["AudioMetadata"] == []


def test_the_completion_names_the_operation(cloud, rekognition):
    rekognition.start_segment_detection(
        Video=cloud.video(), SegmentTypes=["SHOT"], NotificationChannel=cloud.channel
    )
    (message,) = until(cloud.completions)
    assert (message["API"], message["Status"]) == ("StartSegmentDetection", "SUCCEEDED")


def test_requests_for_the_same_segments_are_the_same():
    video = {"Video": {"S3Object": {"Bucket": BUCKET, "Name": "x.mp4"}}}
    black = {"MaxPixelThreshold": 0.2, "MinCoveragePercentage": 99}
    same = [
        {"SegmentTypes": BOTH},
        {"SegmentTypes": [*BOTH, BOTH[0]], "Filters": {}},
        {"SegmentTypes": BOTH, "Filters": {"ShotFilter": {"MinSegmentConfidence": 50}}},
        {"SegmentTypes": BOTH, "Filters": {"TechnicalCueFilter": {"BlackFrame": black}}},
    ]
    other = [
        {"SegmentTypes": ["SHOT"]},
        {"SegmentTypes": BOTH[::-1]},  # its results have another order
        {"SegmentTypes": BOTH, "Filters": {"ShotFilter": {"MinSegmentConfidence": 51}}},
        {
            "SegmentTypes": BOTH,
            "Filters": {"TechnicalCueFilter": {"BlackFrame": {**black, "MaxPixelThreshold": 0.1}}},
        },
    ]
    hashes = [request_hash(SEGMENT_DETECTION, {**video, **r}) for r in same]
    assert len(set(hashes)) == 1
    assert len({request_hash(SEGMENT_DETECTION, {**video, **r}) for r in other} - {*hashes}) == 4


def test_black_frames_go_by_the_thresholds_of_the_request():
    request = {
        "SegmentTypes": BOTH,
        "Filters": {"TechnicalCueFilter": {"BlackFrame": {"MinCoveragePercentage": 80}}},
    }
    black = engine_options(SEGMENT_DETECTION, request)["black_frames"]
    assert (black.max_pixel_threshold, black.min_coverage_percentage) == (0.2, 80)
    assert engine_options(SEGMENT_DETECTION, {"SegmentTypes": BOTH})["black_frames"] == (
        BlackFrames()
    ), "the request's defaults are the engine's"


def test_cuts_in_a_film_are_found_on_their_frame(cloud, make_service, tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(30_000, 1001))
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        dice = np.random.default_rng(0)
        scenes = [np.kron(dice.integers(30, 230, (6, 8, 3)), np.ones((20, 20, 1))) for _ in "123"]
        pictures = [s for s in scenes for _ in range(40)] + [np.zeros((120, 160, 3))] * 30
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1001, 30_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    cloud.s3.upload_file(str(path), BUCKET, "film.mp4")
    service = make_service(analyzer="rekognition_dagster.engine:analyze", sample_fps=2.0)
    rekognition = service.client()
    video = {"S3Object": {"Bucket": BUCKET, "Name": "film.mp4"}}
    job_id = rekognition.start_segment_detection(Video=video, SegmentTypes=BOTH)["JobId"]
    answer = ended(rekognition, "segment_detection", job_id)
    assert answer["JobStatus"] == "SUCCEEDED"
    black, *shots = answer["Segments"]
    assert [(s["StartFrameNumber"], s["EndFrameNumber"]) for s in shots] == [
        (0, 39),
        (40, 79),
        (80, 119),
        (120, 149),
    ]
    assert (black["StartFrameNumber"], black["EndFrameNumber"]) == (120, 149)
    assert shots[1]["StartTimecodeSMPTE"] == "00:00:01;10"
    assert shots[1]["DurationSMPTE"] == "00:00:01;09"
    assert shots[1]["DurationFrames"] == 39
    assert shots[1]["StartTimestampMillis"] == round(40 * 1001 / 30)
    (metadata,) = answer["VideoMetadata"]
    assert metadata["FrameRate"] == pytest.approx(29.97, abs=0.001)


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_an_operation_that_is_not_served_is_asked_once_and_names_the_page(service, mode):
    rekognition = service.client(config={"retries": {"mode": mode, "total_max_attempts": 5}})
    sent: list[Any] = []
    rekognition.meta.events.register("before-send", lambda request, **_: sent.append(request))
    video = {"S3Object": {"Bucket": BUCKET, "Name": "x.mp4"}}
    calls = [
        lambda: rekognition.start_content_moderation(Video=video),
        lambda: rekognition.start_text_detection(Video=video),
        lambda: rekognition.start_celebrity_recognition(Video=video),
        lambda: rekognition.start_face_search(Video=video, CollectionId="people"),
        lambda: rekognition.get_face_search(JobId="x"),
        lambda: rekognition.detect_labels(Image=video),
    ]
    for call in calls:
        with pytest.raises(ClientError) as caught:
            call()
        error = caught.value.response["Error"]
        assert error["Code"] == "UnknownOperationException"
        assert "StartSegmentDetection" in error["Message"]
        assert "docs/api.md#operations-that-are-not-served" in error["Message"]
    assert len(sent) == len(calls)


def test_segment_types_are_needed_and_checked(service):
    video = {"Video": {"S3Object": {"Bucket": BUCKET, "Name": "x.mp4"}}}
    for more, member in (
        ({}, "SegmentTypes"),
        ({"SegmentTypes": []}, "SegmentTypes"),
        ({"Filters": {"ShotFilter": {"MinSegmentConfidence": 60}}}, "SegmentTypes"),
    ):
        answer = service.post("StartSegmentDetection", json.dumps({**video, **more}).encode())
        assert (answer.code, answer.status) == ("InvalidParameterException", 400)
        assert f"'{member}'" in answer.json["Message"]
