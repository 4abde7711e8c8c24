"""Small real videos, made on the spot."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def make_video(path: Path, frames: int = 20, size: tuple[int, int] = (128, 96)) -> Path:
    """An mp4 of a white square on grey that moves, at 10 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            image = np.full((size[1], size[0], 3), 90, np.uint8)
            image[40:56, 4 * index % 100 : 4 * index % 100 + 16] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
