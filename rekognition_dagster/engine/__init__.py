"""The local engine: decode a video, detect, track, and hand out rows of the lake's tables.

Knows neither Dagster nor AWS. Importing this package loads none of the heavy libraries; they come
with the ``engine`` extra and load with the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from rekognition_dagster.engine.black_frames import BlackFrames
from rekognition_dagster.engine.metadata import VideoMetadata
from rekognition_dagster.engine.specs import SPECS
from rekognition_dagster.errors import ModelError

if TYPE_CHECKING:
    from rekognition_dagster.engine.detectors import Detector
    from rekognition_dagster.engine.spans import Source
    from rekognition_dagster.engine.workers import Workers

__all__ = [
    "AUTO",
    "SPECS",
    "BlackFrames",
    "FaceAttributes",
    "SampleFps",
    "VideoMetadata",
    "analyze",
    "open_detector",
    "open_workers",
    "parse_sample_fps",
    "read_metadata",
]

AUTO: Final = "auto"

FaceAttributes: TypeAlias = Literal["default", "all"]
"""Attributes of faces to report: box, landmarks, pose and quality; or all that models estimate."""

SampleFps: TypeAlias = "float | Literal['auto'] | None"
"""Frames to look at in a second of video; None is every frame, auto what the scene needs."""

Sink = Callable[[list[dict[str, Any]]], None]
"""Takes a batch of rows: dicts with an operation's lake columns, less ``video`` and ``job_id``."""


def analyze(
    source: str | Path | Source,
    sinks: Mapping[str, Sink],
    *,
    detector: str | None = None,
    sample_fps: SampleFps = None,
    face_attributes: FaceAttributes = "default",
    black_frames: BlackFrames | None = None,
    progress: Callable[[float], None] | None = None,
    video: str | None = None,
    workers: Workers | None = None,
) -> VideoMetadata:
    """Analyse one video; several operations decode it once.

    Memory does not grow with the video's length: what must wait for the end lies on disk.

    Args:
        source: A video file on this machine; with ``workers``, also what lends one to them.
        sinks: For each operation, by its name in the table of operations, the function that takes
            its rows, in batches, in the operation's sort order; segments come as they end.
        detector: What finds people and labels, as a spec; :data:`SPECS` tells which there are.
        sample_fps: Frames to look at in a second of video; every frame by default. ``"auto"``
            looks when the scene needs it, and fills people's rows in for the frames between.
        face_attributes: ``"all"`` also estimates age, gender, expression, eyes, occlusion and
            thirty landmarks of each face. Rows of ``face_detection`` then come at the end, since
            age and gender are averaged over the time for which a face is seen.
        black_frames: What ``segment_detection`` takes for a black frame; the API's defaults where
            none is given. It reads every frame, whatever ``sample_fps`` says.
        progress: Called with the fraction done, 0 to 1.
        video: The video's name in errors; the path by default.
        workers: Processes that share the work; see :func:`open_workers`. None is this process.

    Returns:
        What is known of the video.

    Raises:
        VideoError: The video is missing, empty, no video, has no frames, or is damaged. Rows of
            what could be decoded were delivered; ``rows_kept`` counts them.
        ModelError: The detector cannot be had.
        ValueError: An unknown operation, a ``sample_fps`` that is neither positive nor auto, or
            ``face_attributes`` that are neither default nor all.

    Example:
        >>> rows: list[dict] = []
        >>> analyze("street.mp4", {"person_tracking": rows.extend})  # doctest: +SKIP
        VideoMetadata(codec='h264', ...)
    """
    try:
        from rekognition_dagster.engine import pipeline
    except ImportError as error:
        raise _missing(error) from error
    return pipeline.analyze(
        source,
        sinks,
        detector=detector,
        sample_fps=sample_fps,
        face_attributes=face_attributes,
        black_frames=black_frames or BlackFrames(),
        progress=progress,
        video=video,
        workers=workers,
    )


def open_workers(
    count: int | None = None, *, ray: str | None = None, detector: str | None = None
) -> Workers:
    """Processes that share the work of one or several :func:`analyze`, to be used with ``with``.

    Each video is looked at in spans of half a minute, side by side; the rows are those that one
    process gives.

    Args:
        count: How many; by default one for each core, or for each GPU of a Ray cluster where the
            detector runs on GPUs.
        ray: The address of a Ray cluster to run them on, as ``ray.init`` takes it; this machine by
            default. Its nodes must have the videos, too: see ``source`` of :func:`analyze`.
        detector: What they will be asked to look with.

    Raises:
        ModelError: An extra is not installed.
        ConfigurationError: There is no such cluster.

    Example:
        >>> with open_workers(4) as workers:  # doctest: +SKIP
        ...     analyze("street.mp4", {"person_tracking": rows.extend}, workers=workers)
    """
    try:
        from rekognition_dagster.engine import on_ray, workers
    except ImportError as error:
        raise _missing(error) from error
    return on_ray.workers(ray, count, detector) if ray else workers.processes(count)


def parse_sample_fps(value: float | str | None) -> SampleFps:
    """What somebody wrote for ``sample_fps``, as a value.

    Raises:
        ValueError: It is neither a positive number nor ``auto``.
    """
    if value is None or value == AUTO:
        return None if value is None else AUTO
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"sample_fps is {value}; it must be a positive number, or {AUTO}")
    return number


def open_detector(spec: str | None = None) -> Detector:
    """The detector that ``spec`` names; see :func:`analyze`.

    Raises:
        ModelError: The spec is unknown, or what it names cannot be used.
    """
    try:
        from rekognition_dagster.engine import detectors
    except ImportError as error:
        raise _missing(error) from error
    return detectors.open_detector(spec)


def read_metadata(source: str | Path, video: str | None = None) -> VideoMetadata:
    """A video's properties from its headers, without decoding it.

    Raises:
        VideoError: The file is missing, empty or no video.
    """
    try:
        from rekognition_dagster.engine import decode
    except ImportError as error:
        raise _missing(error) from error
    with decode.open_video(source, video) as opened:
        return opened.metadata


def read_pauses_ms(source: str | Path) -> float:
    """How long pauses of over ten seconds between a video's pictures are in all.

    Reads the file as far as it can be read, and decodes nothing.
    """
    try:
        from rekognition_dagster.engine import decode
    except ImportError as error:
        raise _missing(error) from error
    return decode.pauses_ms(source)


def _missing(error: ImportError) -> ModelError:
    return ModelError(
        f"the engine needs {error.name or error}, which is not installed. "
        "Run pip install 'rekognition-dagster[engine]'"
    )
