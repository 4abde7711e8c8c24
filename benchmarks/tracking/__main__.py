r"""Tracks after the first pass and after both, beside plain ByteTrack on the same detections.

    python -m benchmarks tracking                        made, rendered and real sequences
    python -m benchmarks tracking --video V --truth gt.txt [--detector SPEC]
    python -m benchmarks tracking --truth gt.txt --detections det.txt --fps 30 --size 1920 1080 \
                                  [--scores 0.1 0.5] [--video V]

Truth and detections are in MOT format: frame (from 1), identity, left, top, width, height in
pixels, confidence; in the truth, lines of confidence 0 or another class than 1 do not count.
Appearances are told from the video, if it is given.

Single runs decide little: ``python -m benchmarks ensemble`` judges changes of the tracker.

Constants of the tracker may be chosen on the sets ``made`` and ``rendered`` alone. The sets that
are held out have other seeds, another way to walk, other cameras and other detectors' habits, and
nothing is chosen on them, nor on the real video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any

import click
import numpy as np
import supervision as sv
from trackers import ByteTrackTracker

from benchmarks.tracking.measure import Score, Tracks, score
from benchmarks.tracking.rendered import RENDERED, RENDERED_HELD_OUT, Stock, render, stock
from benchmarks.tracking.scenes import BOLD, HELD_OUT, SCENES, SHARP, SHY, WEAK, make
from rekognition_dagster.engine import models, open_detector
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import Detector, ScoreScale
from rekognition_dagster.engine.faces import FACE
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.looking import Look
from rekognition_dagster.engine.tracking.appearance import APPEARANCE, describe
from rekognition_dagster.engine.tracking.online import Association, Crowd
from rekognition_dagster.engine.tracking.tracks import PersonTracks

STREET = Path(__file__).resolve().parents[2].parent / "shared" / "videos" / "vtest.avi"
"""OpenCV's sample of pedestrians; also in Debian's package opencv-doc."""

STREET_TRUTH = Path(__file__).with_name("vtest.txt")
"""Who is where in it: told by eye, boxes at some frames as in MOT format, lines between them."""

Seen = Sequence[tuple[int, sv.Detections]]
"""Detections of each frame with its time in milliseconds."""


@dataclass(frozen=True)
class Clip:
    """What there is to track in, and what is true."""

    name: str
    truth: Tracks
    seen: Seen
    scores: ScoreScale
    fps: float
    size: tuple[int, int]


def bytetrack(s: Clip) -> Tracks:
    """The online baseline, with thresholds on the detector's scale and every match reported."""
    tracker = ByteTrackTracker(
        frame_rate=s.fps,
        track_activation_threshold=s.scores.sure,
        high_conf_det_threshold=s.scores.sure,
        minimum_consecutive_frames=1,
    )
    tracks = {}
    for time, detections in s.seen:
        plain = replace(detections, data={})
        found = tracker.update(plain, timestamp=time / 1000)
        ids = np.asarray(found.tracker_id if found.tracker_id is not None else [], int)
        tracks[time] = ids[ids >= 0], found.xyxy[ids >= 0]
    return tracks


def first_pass(s: Clip) -> Tracks:
    """The engine's tracklets, before they are joined."""
    association = Association(s.scores)
    tracks = {}
    for time, detections in s.seen:
        numbers = association.update(Crowd(detections), time)
        tracks[time] = numbers[numbers >= 0], detections.xyxy[numbers >= 0]
    return tracks


def two_passes(s: Clip) -> Tracks:
    """The engine's tracks."""
    people = PersonTracks(s.scores, s.fps)
    no_faces = np.zeros(0, FACE)
    for time, detections in s.seen:
        people.add(detections, no_faces, Look(time, *s.size))
    tracks = tracks_of(people, s.size)
    people.close()
    return tracks


def tracks_of(people: PersonTracks, size: tuple[int, int]) -> Tracks:
    """What was tracked, in pixels."""
    tracks: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for records in people.people():
        times, starts = np.unique(records["timestamp_ms"], return_index=True)
        for time, those in zip(times.tolist(), np.split(records, starts[1:]), strict=True):
            tracks[time] = those["index"].astype(int), those["box"] * np.tile(size, 2)
    return tracks


TRACKERS: dict[str, Callable[[Clip], Tracks]] = {
    "ByteTrack": bytetrack,
    "first pass": first_pass,
    "two passes": two_passes,
}


def made(scenes: Sequence[Any], eyes: Sequence[Any]) -> Iterator[Clip]:
    """Made scenes as detectors with given habits would see them."""
    for eye in eyes:
        for scene in scenes:
            truth, found = make(scene, eye)
            known = dict(zip(truth.times_ms, zip(truth.ids, truth.boxes, strict=True), strict=True))
            seen = list(zip(truth.times_ms, found, strict=True))
            yield Clip(f"{eye.name}, {scene.name}", known, seen, eye.scores, scene.fps, scene.size)


def rendered(
    scenes: Sequence[Any], material: Stock, detectors: dict[str, Detector]
) -> Iterator[Clip]:
    """Made scenes as pictures, seen by real detectors."""
    for name, detector in detectors.items():
        for scene in scenes:
            truth, frames = render(scene, material)
            known = dict(zip(truth.times_ms, zip(truth.ids, truth.boxes, strict=True), strict=True))
            seen = list(people_in(frames, detector))
            yield Clip(f"{name}, {scene.name}", known, seen, detector.scores, scene.fps, scene.size)


def real(video: Path, truth: Tracks, detector: Detector, name: str) -> Clip:
    """A real video with known truth."""
    with open_video(video) as opened:
        metadata = opened.metadata
        seen = list(people_in(opened.frames(), detector))
    known = dict(zip((t for t, _ in seen), truth.values(), strict=False))
    size = (metadata.width, metadata.height)
    return Clip(name, known, seen, detector.scores, metadata.frame_rate, size)


def people_in(frames: Iterator[Frame], detector: Detector) -> Iterator[tuple[int, sv.Detections]]:
    """The people that a detector finds in frames, with the frames' times."""
    wanted = [i for i, name in detector.labels.items() if name == "person"]
    ours, theirs = tee(frames)
    for found in detector.detect(theirs):
        frame = next(ours)
        people = found[np.isin(np.asarray(found.class_id), wanted)]
        assert isinstance(people, sv.Detections)
        people.data[APPEARANCE] = describe(frame, people.xyxy)
        yield frame.timestamp_ms, people


def read_truth(path: Path, frames: int | None = None) -> Tracks:
    """Truth in MOT format by frame from 0; with ``frames``, on lines between the boxes given."""
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
    if rows.shape[1] > 7:
        rows = rows[(rows[:, 6] != 0) & (rows[:, 7] == 1)]
    if frames is not None:
        rows = np.concatenate([_between(rows[rows[:, 1] == i]) for i in np.unique(rows[:, 1])])
    boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    count = frames or int(rows[:, 0].max())
    at = [np.flatnonzero(rows[:, 0] == n + 1) for n in range(count)]
    return {n: (rows[which, 1].astype(int), boxes[which]) for n, which in enumerate(at)}


def _between(rows: np.ndarray) -> np.ndarray:
    frames = np.arange(rows[0, 0], rows[-1, 0] + 1)
    columns = [np.interp(frames, rows[:, 0], rows[:, c]) for c in range(1, 6)]
    return np.stack([frames, *columns], axis=1)


def told(
    truth: Path,
    detections: Path,
    video: Path | None,
    fps: float,
    size: tuple[int, int],
    scores: ScoreScale,
) -> Clip:
    """A sequence of which truth and detections are given."""
    known = read_truth(truth)
    rows = np.loadtxt(detections, delimiter=",", usecols=range(7), ndmin=2)
    rows = rows[rows[:, 6] > scores.noise]
    seen = []
    for n in range(max(known) + 1):
        those = rows[rows[:, 0] == n + 1]
        boxes = np.concatenate([those[:, 2:4], those[:, 2:4] + those[:, 4:6]], axis=1)
        found = sv.Detections(
            xyxy=boxes.astype(np.float32),
            confidence=those[:, 6].astype(np.float32),
            class_id=np.zeros(len(those), int),
        )
        seen.append((round(1000 * n / fps), found))
    if video is not None:
        with open_video(video) as opened:
            for frame, (_, found) in zip(opened.frames(), seen, strict=False):
                found.data[APPEARANCE] = describe(frame, found.xyxy)
    timed = {time: known[n] for n, (time, _) in enumerate(seen)}
    return Clip(detections.name, timed, seen, scores, fps, size)


def all_sets(specs: Sequence[str | None]) -> Iterator[tuple[str, Iterator[Clip]]]:
    """Each set's name and its sequences."""
    yield "made", made(SCENES, (SHARP, WEAK))
    yield "made, held out", made(HELD_OUT, (SHY, BOLD))
    if not STREET.exists():
        click.echo(f"no {STREET.name} in {STREET.parent}: nothing is rendered", err=True)
        return
    detectors = {short(spec): open_detector(spec) for spec in specs}
    truth = read_truth(STREET_TRUTH, 795)
    cut_out = material()
    yield "rendered", rendered(RENDERED, cut_out, detectors)
    yield "rendered, held out", rendered(RENDERED_HELD_OUT, cut_out, detectors)
    yield "real: vtest", (real(STREET, truth, d, name) for name, d in detectors.items())


def material() -> Stock:
    """People cut out of the street, and places for them."""
    with open_video(models.path("bikes.mp4")) as opened:
        places = {f"bikes {f.index}": f.image for f in opened.frames() if f.index in (160, 230)}
    return stock(STREET, read_truth(STREET_TRUTH, 795), places)


def short(spec: str | None) -> str:
    """A detector's name in tables."""
    return Path((spec or "embedded").rpartition(":")[2]).name.partition("_")[0]


@click.command()
@click.option("--video", type=click.Path(exists=True, path_type=Path))
@click.option("--truth", type=click.Path(exists=True, path_type=Path), help="In MOT format.")
@click.option(
    "--detector", "specs", multiple=True, help="As for analyze; may be repeated. Embedded if none."
)
@click.option("--detections", type=click.Path(exists=True, path_type=Path), help="In MOT format.")
@click.option("--fps", type=float, help="Of the detections.")
@click.option("--size", type=(int, int), help="Width and height of their frames.")
@click.option("--scores", type=(float, float), default=(0.1, 0.5), help="Noise and sure.")
@click.option("--only", default="", help="Only sets whose name contains this.")
def main(
    video: Path | None,
    truth: Path | None,
    specs: tuple[str, ...],
    detections: Path | None,
    fps: float | None,
    size: tuple[int, int] | None,
    scores: tuple[float, float],
    only: str,
) -> None:
    """Print a line for each sequence and tracker, then a table of the sets."""
    wanted = specs or (None,)
    sets: Iterable[tuple[str, Iterable[Clip]]]
    if truth and detections:
        if fps is None or size is None:
            raise click.UsageError("name --fps and --size of the detections")
        scale = ScoreScale(*scores)
        sets = [(truth.stem, [told(truth, detections, video, fps, size, scale)])]
    elif truth and video:
        known = read_truth(truth)
        sets = [(video.name, (real(video, known, open_detector(s), short(s)) for s in wanted))]
    elif truth or video or detections:
        raise click.UsageError("name --truth with --video or --detections, or none of them")
    else:
        sets = ((n, s) for n, s in all_sets(wanted) if only in n)
    lines = []
    for name, sequences in sets:
        results: dict[str, list[Score]] = {tracker: [] for tracker in TRACKERS}
        for sequence in sequences:
            for tracker, track in TRACKERS.items():
                found = score(sequence.truth, track(sequence))
                results[tracker].append(found)
                click.echo(f"{name:18} {sequence.name:30} {tracker:10} {score_line([found])}")
        lines += [f"{name:18} {tracker:10} {score_line(of)}" for tracker, of in results.items()]
    click.echo(f"\n{'':29}  HOTA  DetA  AssA  IDF1   MOTA switches identities / true")
    click.echo("\n".join(lines))


def score_line(scores: Sequence[Score]) -> str:
    means = [
        float(np.mean([getattr(s, name) for s in scores]))
        for name in ("hota", "deta", "assa", "idf1", "mota")
    ]
    switches, found, true = (
        sum(getattr(s, name) for s in scores)
        for name in ("switches", "identities", "true_identities")
    )
    texts = " ".join(f"{value:.3f}" for value in means[:4])
    return f"{texts} {means[4]:6.3f} {switches:8} {found:10} / {true} = {found / true:.2f}"


if __name__ == "__main__":
    main()
