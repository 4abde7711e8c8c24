"""An engine that does what a "video" tells it to: the file is a JSON script, not a film.

Stands in for the engine where a test is about the service; its rows have the engine's form.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from rekognition_dagster.engine.limits import max_pixels
from rekognition_dagster.engine.metadata import AudioMetadata, VideoMetadata
from rekognition_dagster.errors import VideoError

BATCH = 500


def face(i: int) -> dict:
    """A face with the attributes that the default models tell."""
    return {
        "bounding_box": {"left": 0.1, "top": 0.2, "width": 0.05, "height": 0.1},
        "confidence": 90.0 + i % 10,
        "landmarks": [
            {"type": t, "x": 0.1 + i % 7 / 100, "y": 0.2}
            for t in ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")
        ],
        "pose": {"roll": 1.0, "yaw": -2.0, "pitch": 3.0},
        "quality": {"brightness": 50.0, "sharpness": 60.0},
    }


def person_row(i: int) -> dict:
    """The ``i``-th row of a video with seven people, each seen once a frame."""
    return {
        "timestamp_ms": i // 7 * 40,
        "person_index": i % 7,
        "bounding_box": {"left": 0.1, "top": 0.2, "width": 0.3, "height": 0.4},
        "confidence": 60.0 + (i * 13) % 40,
        "face": face(i) if i % 2 else None,
    }


def face_row(i: int) -> dict:
    """The ``i``-th row of a video with two faces a frame; one has an attribute beyond DEFAULT."""
    smile = {"value": True, "confidence": 80.0}
    more = {"smile": smile, "face_occluded": smile} if i % 2 else {}
    return {"timestamp_ms": i // 2 * 40, "face": {**face(i), **more}}


def label_row(i: int) -> dict:
    """The ``i``-th row of a video with three labels per frame."""
    names = ("Animal", "Mammal", "Dog")
    return {
        "timestamp_ms": i // 3 * 200,
        "name": names[i % 3],
        "confidence": 90.0,
        "instances": [],
        "parents": list(names[: i % 3]),
        "categories": ["Animals and Pets"],
        "aliases": [],
    }


def segment_row(i: int) -> dict:
    """The ``i``-th row of a video in which a shot and a black frame alternate."""
    place = {
        "start_timestamp_ms": i * 400,
        "end_timestamp_ms": i * 400 + 360,
        "duration_ms": 360,
        "start_frame_number": i * 10,
        "end_frame_number": i * 10 + 9,
        "duration_frames": 9,
    }
    if i % 2:
        return {"type": "TECHNICAL_CUE", **place, "cue_type": "BlackFrames", "cue_confidence": 99.5}
    shot = {"shot_index": i // 2, "shot_confidence": 60.0 if i % 4 else 100.0}
    return {"type": "SHOT", **place, **shot}


def label_rows_of(scene: dict[str, dict[str, list[float]]]) -> Iterator[list[dict]]:
    """The engine's rows for detections: by time in ms and by class, the score of each instance."""
    import numpy as np
    import supervision as sv

    from rekognition_dagster.engine.detectors.coco import NAMES
    from rekognition_dagster.engine.frame import Frame
    from rekognition_dagster.engine.labels import label_rows

    image = np.zeros((100, 100, 3), np.uint8)
    for time_ms, classes in scene.items():
        scores = [(NAMES.index(name), s) for name, own in classes.items() for s in own]
        found = sv.Detections(
            xyxy=np.array([[10, 10, 30, 30]] * len(scores), np.float32),
            class_id=np.array([class_id for class_id, _ in scores]),
            confidence=np.array([score for _, score in scores], np.float32),
        )
        yield label_rows(
            found, Frame.from_image(image, 0, int(time_ms)), dict(enumerate(NAMES)), 0.1
        )


ROWS = {
    "person_tracking": person_row,
    "face_detection": face_row,
    "label_detection": label_row,
    "segment_detection": segment_row,
}


def _kill_or_hang(script: dict) -> None:
    if once := script.get("crash_once"):
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    if script.get("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if script.get("hang") == "interpreter":
        ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock, as some libraries do
    if script.get("hang") == "decoder":
        time.sleep(600)
    if mebibytes := script.get("memory"):
        held = [bytearray(b"x" * (1 << 20)) for _ in range(mebibytes)]
        time.sleep(5)
        del held


def _raise(script: dict, source_path, video) -> None:
    if (pixels := script.get("pixels")) and pixels > max_pixels():
        raise VideoError(str(video), f"has frames of {pixels} pixels", "Scale it down")
    if error := script.get("error"):
        raise VideoError(str(video), error.format(path=source_path), "Re-encode it")
    if number := script.get("errno"):
        raise OSError(number, os.strerror(number))
    if error := script.get("bug"):
        raise ZeroDivisionError(error)


def analyze(
    source_path,
    sinks,
    *,
    detector=None,
    sample_fps=None,
    face_attributes="default",
    black_frames=None,
    progress=None,
    video=None,
) -> VideoMetadata:
    """Follow the script: ``rows``, ``scene``, ``seconds``, ``error``, ``crash``, ``hang`` ..."""
    script = json.loads(Path(source_path).read_bytes().rpartition(b"\n")[2])
    if log := script.get("log"):
        with open(log, "a") as file:
            file.write(f"{video}\n")
    _kill_or_hang(script)
    _raise(script, source_path, video)
    for rows in label_rows_of(script.get("scene", {})):
        sinks["label_detection"](rows)
    rows = script.get("rows", 0 if "scene" in script else 10)
    steps = max(1, -(-rows // BATCH))
    for start in range(0, rows, BATCH):
        for name, sink in sinks.items():
            sink([ROWS[name](i) for i in range(start, min(start + BATCH, rows))])
        wait = script.get("seconds", 0) / steps
        until = time.monotonic() + wait
        while time.monotonic() < until:
            time.sleep(min(0.05, wait))
            if progress:
                progress(start / rows)
    return VideoMetadata(
        "h264",
        "QuickTime / MOV",
        script.get("duration_ms", 1000),
        25.0,
        640,
        480,
        script.get("color_range", "LIMITED"),
        warning=script.get("warning"),
        audio=tuple(AudioMetadata("aac", 1000, 48_000, n) for n in script.get("channels", ())),
    )
