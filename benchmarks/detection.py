"""Detectors of people: average precision, recall, precision and CPU time on several sequences.

The sequences are the sample street as it is, with people half as tall, darkened, noisy and
compressed, and mirrored; and two rendered scenes. All show people of the one street.

    python -m benchmarks detection [--detector SPEC ...] [--frames 60] [--noise SCORE]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import islice

import click
import cv2
import numpy as np
import supervision as sv

from benchmarks.tiling import mosaics
from benchmarks.tracking.__main__ import STREET, STREET_TRUTH, material, read_truth
from benchmarks.tracking.rendered import RENDERED, render
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import Detector, open_detector
from rekognition_dagster.engine.detectors.boxes import Boxes
from rekognition_dagster.engine.frame import Frame, Image

Pictures = list[tuple[Frame, Boxes]]
"""Frames, each with the true boxes of the people in it, in pixels."""

_EVERY = 10  # frames
_OVERLAP = 0.5
_GAMMA = 2.5
_GRAIN = 10.0  # grey levels, standard deviation
_JPEG_QUALITY = 30
_SCENES = ("yard", "crowd")
_SPECS = ("embedded", "embedded:fine")


@dataclass(frozen=True)
class Quality:
    """A detector's figures on one sequence.

    Args:
        ap: Average precision: the area under the interpolated precision-recall curve.
        recall: Of detections from the detector's ``sure`` score on.
        precision: Of the same detections.
        cpu_ms: CPU time of an image, in milliseconds.
    """

    ap: float
    recall: float
    precision: float
    cpu_ms: float


def sequences(frames: int) -> Iterator[tuple[str, Pictures]]:
    """Yield each sequence's name and at most ``frames`` of its frames."""
    street = _spread(_street(), frames)
    yield "street", street
    yield "half size", _spread(mosaics(2), frames)
    yield "dark", _changed(street, _darkened)
    yield "noisy JPEG", _changed(street, _compressed)
    yield "mirrored", [_mirrored(*pair) for pair in street]
    people = material()
    for scene in (s for s in RENDERED if s.name in _SCENES):
        truth, pictures = render(scene, people)
        pairs = zip(pictures, truth.boxes, strict=True)
        yield f"rendered {scene.name}", _spread(list(islice(pairs, 0, None, _EVERY)), frames)


def measure(detector: Detector, sequence: Pictures) -> Quality:
    """Measure a detector on one sequence."""
    person = [i for i, name in detector.labels.items() if name == "person"]
    next(iter(detector.detect([sequence[0][0]])))  # compiles the network
    begin = time.process_time()
    detections = list(detector.detect(frame for frame, _ in sequence))
    cpu_s = time.process_time() - begin
    scores: list[np.ndarray] = []
    correct: list[np.ndarray] = []
    for found, (_, true) in zip(detections, sequence, strict=True):
        assert found.confidence is not None
        people = np.isin(np.asarray(found.class_id), person)
        boxes, confidence = found.xyxy[people], found.confidence[people]
        order = np.argsort(-confidence, kind="stable")
        scores.append(confidence[order])
        correct.append(matched(boxes[order], true))
    return _quality(
        np.concatenate(scores),
        np.concatenate(correct),
        sum(len(true) for _, true in sequence),
        detector.scores.sure,
        cpu_s / len(sequence) * 1000,
    )


def matched(boxes: Boxes, true: Boxes) -> np.ndarray:
    """Match detections, best score first, each to the free true box that it overlaps most.

    Returns:
        Whether each detection is matched, shape (len(boxes),).
    """
    overlap = sv.box_iou_batch(boxes, true) if len(true) else np.zeros((len(boxes), 1))
    correct = np.zeros(len(boxes), bool)
    for i in range(len(boxes)):
        best = int(overlap[i].argmax())
        correct[i] = overlap[i, best] >= _OVERLAP
        if correct[i]:
            overlap[:, best] = 0
    return correct


def _quality(
    scores: np.ndarray, correct: np.ndarray, true: int, sure: float, cpu_ms: float
) -> Quality:
    order = np.argsort(-scores, kind="stable")
    hits = correct[order].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    kept = int((scores >= sure).sum())
    sure_hits = int(hits[kept - 1]) if kept else 0
    ap = float(envelope[correct[order]].sum()) / true
    return Quality(ap, sure_hits / true, sure_hits / max(kept, 1), cpu_ms)


def _street() -> Pictures:
    truth = read_truth(STREET_TRUTH, 795)
    with open_video(STREET) as opened:
        return [
            (Frame.from_image(frame.image), truth[frame.index][1])
            for frame in opened.frames()
            if frame.index % _EVERY == 0
        ]


def _spread(sequence: Pictures, frames: int) -> Pictures:
    """Take at most ``frames`` of a sequence, evenly."""
    at = np.linspace(0, len(sequence) - 1, min(frames, len(sequence))).round().astype(int)
    return [sequence[i] for i in at]


def _changed(sequence: Pictures, change: Callable[[Image], Image]) -> Pictures:
    return [(Frame.from_image(change(frame.image)), boxes) for frame, boxes in sequence]


def _darkened(image: Image) -> Image:
    levels = (np.arange(256) / 255) ** _GAMMA * 255
    return levels.round().astype(np.uint8)[image]


def _compressed(image: Image) -> Image:
    noise = np.random.default_rng(0).normal(0, _GRAIN, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    _, stored = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))[..., ::-1])


def _mirrored(frame: Frame, boxes: Boxes) -> tuple[Frame, Boxes]:
    image = np.ascontiguousarray(frame.image[:, ::-1])
    swapped = boxes[:, [2, 1, 0, 3]]
    return Frame.from_image(image), np.abs(swapped - np.array([frame.width, 0, frame.width, 0]))


def _means(qualities: Iterable[Quality]) -> Quality:
    return Quality(*np.mean([astuple(q) for q in qualities], axis=0).tolist())


def _line(sequence: str, spec: str, quality: Quality, first: Quality) -> str:
    name = spec.rpartition("/")[2]
    return (
        f"{sequence:15} {name:30} {quality.ap:5.3f} {quality.recall:7.3f} "
        f"{quality.precision:10.3f} {quality.cpu_ms:7.1f} {quality.cpu_ms / first.cpu_ms:9.2f}"
    )


@click.command()
@click.option("--detector", "specs", multiple=True, default=_SPECS, show_default=True)
@click.option("--frames", default=60, show_default=True, help="Of each sequence, at most.")
@click.option(
    "--noise",
    type=float,
    help="Evaluate detections from this score on, not from each detector's own: the same for AP. "
    "More boxes cost more: read the cost from a run without it.",
)
def main(specs: Sequence[str], frames: int, noise: float | None) -> None:
    """Print a line for each sequence and detector, then each detector's means."""
    if not STREET.exists():
        raise click.ClickException(f"{STREET} does not exist")
    detectors = {spec: open_detector(spec) for spec in specs}
    if noise is not None:
        for detector in detectors.values():
            detector.scores = replace(detector.scores, noise=noise)
    click.echo(f"{'sequence':15} {'detector':30}    AP  recall  precision  CPU ms  relative")
    results: dict[str, list[Quality]] = {spec: [] for spec in specs}
    for name, sequence in sequences(frames):
        for spec, detector in detectors.items():
            results[spec].append(measure(detector, sequence))
            click.echo(_line(name, spec, results[spec][-1], results[specs[0]][-1]))
    for spec in specs:
        click.echo(_line("mean", spec, _means(results[spec]), _means(results[specs[0]])))


if __name__ == "__main__":
    main()
