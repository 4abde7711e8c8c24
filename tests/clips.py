"""Short videos for tests, cut from the sample, and what can be wrong with a video."""

from __future__ import annotations

from pathlib import Path

import av

from rekognition_dagster.engine import models


def write_clip(path: Path, *, first: int = 35, frames: int = 25) -> Path:
    """Some frames of the sample with people in a street, encoded anew; the suffix says as what."""
    with av.open(str(models.path("bikes.mp4"))) as source, av.open(str(path), "w") as clip:
        stream = source.streams.video[0]
        out = clip.add_stream("mpeg4", rate=25, bit_rate=3_000_000)
        out.width, out.height, out.pix_fmt = stream.width, stream.height, "yuv420p"
        for number, frame in enumerate(source.decode(stream)):
            if number >= first + frames:
                break
            if number >= first:
                image = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"))
                clip.mux(out.encode(image))
        clip.mux(out.encode())
    return path


def write_bad(path: Path, what: str) -> Path:
    """A file that is no video: ``empty``, ``noise`` or ``text``."""
    content = {"empty": b"", "noise": bytes(range(256)) * 200, "text": b"a shopping list\n" * 50}
    path.write_bytes(content[what])
    return path
