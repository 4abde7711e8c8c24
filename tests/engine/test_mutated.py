"""Damaged files never crash, hang or grow: they give frames, or an error that says what is wrong.

Bounded by default; ``REKOGNITION_DAGSTER_FUZZ=1000`` tries that many mutations of each container.
"""

from __future__ import annotations

import os
import resource
import time

import numpy as np
import pytest

from rekognition_dagster.engine.decode import DamagedVideo, open_video
from rekognition_dagster.errors import VideoError

from .conftest import write_video

TRIES = int(os.environ.get("REKOGNITION_DAGSTER_FUZZ", "25"))
SECONDS = 10  # no single small file may take longer
MEGABYTES = 300  # nor all of them together need more


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The file with one kind of damage."""
    changed = bytearray(data)
    at = int(random.integers(len(changed)))
    length = int(random.integers(1, max(2, len(changed) // 4)))
    kind = random.integers(6)
    if kind == 0:
        return bytes(changed[:at])
    if kind == 1:
        changed[at : at + length] = random.bytes(length)
    elif kind == 2:
        del changed[at : at + length]
    elif kind == 3:
        changed[at:at] = random.bytes(length)
    elif kind == 4:
        changed[at : at + length] = bytes(len(changed[at : at + length]))
    else:
        for place in random.integers(len(changed), size=20):
            changed[place] ^= 1 << int(random.integers(8))
    return bytes(changed)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "libx264")],
)
def test_mutated_files_give_frames_or_an_error_in_bounded_time_and_memory(tmp_path, name, codec):
    path = write_video(tmp_path / name, range(0, 1200, 40), codec=codec, size=(64, 48))
    data = path.read_bytes()
    random = np.random.default_rng(11)
    said: set[str] = set()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(TRIES):
        path.write_bytes(mutated(data, random))
        begin = time.monotonic()
        times: list[int] = []
        try:
            with open_video(path) as video:
                for frame in video.frames():
                    assert frame.image.shape == (frame.height, frame.width, 3)
                    times.append(frame.timestamp_ms)
                    assert len(times) < 10_000
        except (VideoError, DamagedVideo) as error:
            said.add(str(error))
        assert times == sorted(set(times))
        assert time.monotonic() - begin < SECONDS
    assert all(said)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES
