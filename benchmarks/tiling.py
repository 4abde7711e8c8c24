"""Small people: how many of them a detector finds in a large picture, and what that costs.

The pictures are a real street with known people (``benchmarks/tracking``), a hundred moments of it
side by side: two by two make pictures of 1536x1152, three by three of 2304x1728. A person is found
if a box that is more likely right than wrong overlaps theirs by half.

    python -m benchmarks tiling [--detector SPEC ...] [--sides 1 --sides 2 --sides 3]
"""

from __future__ import annotations

import time

import click
import numpy as np
import supervision as sv

from benchmarks.tracking.__main__ import STREET, STREET_TRUTH, read_truth
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import open_detector
from rekognition_dagster.engine.frame import Frame

_MOMENTS = 144
_SPECS = ("embedded", "embedded:fine", "tiled", "tiled:10", "tiled:17")
_HALF = 0.5


def mosaics(sides: int) -> list[tuple[Frame, np.ndarray]]:
    """Pictures of ``sides`` by ``sides`` moments, with everybody's boxes."""
    truth = read_truth(STREET_TRUTH, 795)
    with open_video(STREET) as opened:
        moments = [
            (frame.image, truth[frame.index][1])
            for frame in opened.frames()
            if frame.index % (795 // _MOMENTS) == 0 and len(truth[frame.index][1])
        ]
    made = []
    for start in range(0, len(moments) - sides**2 + 1, sides**2):
        some = moments[start : start + sides**2]
        height, width = some[0][0].shape[:2]
        picture = np.empty((height * sides, width * sides, 3), np.uint8)
        boxes = []
        for n, (image, people) in enumerate(some):
            x, y = n % sides * width, n // sides * height
            picture[y : y + height, x : x + width] = image
            boxes.append(people + np.array([x, y, x, y]))
        made.append((Frame.from_image(picture), np.concatenate(boxes)))
    return made


def measure(spec: str, pictures: list[tuple[Frame, np.ndarray]]) -> tuple[float, float, float]:
    """Recall, precision, and CPU milliseconds a picture."""
    detector = open_detector(spec)
    wanted = [i for i, name in detector.labels.items() if name == "person"]
    next(detector.detect([pictures[0][0]]))
    begin = time.process_time()
    found = list(detector.detect(frame for frame, _ in pictures))
    cpu_s = time.process_time() - begin
    hits = people = boxes = right = 0
    for seen, (_, true) in zip(found, pictures, strict=True):
        assert seen.confidence is not None
        sure = (seen.confidence >= detector.scores.sure) & np.isin(
            np.asarray(seen.class_id), wanted
        )
        same = sv.box_iou_batch(true.astype(np.float32), seen.xyxy[sure]) >= _HALF
        hits += int(same.any(axis=1).sum())
        right += int(same.any(axis=0).sum())
        people, boxes = people + len(true), boxes + int(sure.sum())
    return hits / people, right / max(boxes, 1), cpu_s / len(pictures) * 1000


@click.command()
@click.option("--detector", "specs", multiple=True, default=_SPECS, show_default=True)
@click.option("--sides", multiple=True, default=(1, 2, 3), show_default=True)
def main(specs: tuple[str, ...], sides: tuple[int, ...]) -> None:
    """Print a line for each detector and size of picture."""
    if not STREET.exists():
        raise click.ClickException(f"{STREET} is not there")
    for side in sides:
        pictures = mosaics(side)
        frame = pictures[0][0]
        click.echo(f"{frame.width}x{frame.height}, {len(pictures)} pictures")
        base = None
        for spec in specs:
            recall, precision, cost = measure(spec, pictures)
            base = base or cost
            click.echo(
                f"  {spec:24} recall {recall:.2f} precision {precision:.2f} "
                f"{cost:6.1f} ms CPU a picture ({cost / base:.1f} x)"
            )


if __name__ == "__main__":
    main()
