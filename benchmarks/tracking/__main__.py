"""Tracks in two passes beside plain ByteTrack on the same detections.

    python -m benchmarks tracking                       made scenes, two detectors
    python -m benchmarks tracking --video V --truth gt.txt [--detector SPEC]

The truth is in MOT format: frame (from 1), identity, left, top, width, height in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import tee
from pathlib import Path

import click
import numpy as np
import supervision as sv
from trackers import ByteTrackTracker

from benchmarks.tracking.measure import Score, Tracks, score
from benchmarks.tracking.scenes import SCENES, SHARP, WEAK, make
from rekognition_dagster.engine import open_detector
from rekognition_dagster.engine.decode import Frame, open_video
from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.faces import FACE
from rekognition_dagster.engine.tracking.tracks import PersonTracks

Seen = Sequence[tuple[int, sv.Detections]]
"""Detections of each frame with its time in milliseconds."""


def bytetrack(seen: Seen, scores: ScoreScale, fps: float) -> Tracks:
    """The online baseline, with thresholds on the detector's scale and every match reported."""
    tracker = ByteTrackTracker(
        frame_rate=fps,
        track_activation_threshold=scores.sure,
        high_conf_det_threshold=scores.sure,
        minimum_consecutive_frames=1,
    )
    tracks = {}
    for time, detections in seen:
        found = tracker.update(detections, timestamp=time / 1000)
        ids = np.asarray(found.tracker_id if found.tracker_id is not None else [], int)
        tracks[time] = ids[ids >= 0], found.xyxy[ids >= 0]
    return tracks


def two_passes(seen: Seen, scores: ScoreScale, fps: float, size: tuple[int, int]) -> Tracks:
    """The engine's tracks."""
    people = PersonTracks(scores, fps)
    nobody, blank = np.zeros(0, FACE), np.zeros((8, 8, 3), np.uint8)
    for index, (time, detections) in enumerate(seen):
        people.add(detections, nobody, Frame(index, time, *size, None, 0, blank))
    tracks: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for records in people.people():
        for time in np.unique(records["timestamp_ms"]):
            those = records[records["timestamp_ms"] == time]
            tracks[int(time)] = those["index"].astype(int), those["box"] * np.array([*size, *size])
    people.close()
    return tracks


def compare(truth: Tracks, seen: Seen, scores: ScoreScale, fps: float, size: tuple[int, int]):
    """Scores of the baseline and of the engine."""
    return (
        score(truth, bytetrack(seen, scores, fps)),
        score(truth, two_passes(seen, scores, fps, size)),
    )


def made_scenes() -> list[tuple[str, Score, Score]]:
    """Both scores in every made scene, seen by a sharp and by a weak detector."""
    results = []
    for eye in (SHARP, WEAK):
        for scene in SCENES:
            truth, found = make(scene, eye)
            known = dict(zip(truth.times_ms, zip(truth.ids, truth.boxes, strict=True), strict=True))
            seen = list(zip(truth.times_ms, found, strict=True))
            both = compare(known, seen, eye.scores, scene.fps, scene.size)
            results.append((f"{eye.name}, {scene.name}", *both))
    return results


def real_video(video: Path, truth: Path, spec: str | None) -> list[tuple[str, Score, Score]]:
    """Both scores on a video with known truth."""
    rows = np.loadtxt(truth, delimiter=",", usecols=range(6), ndmin=2)
    detector = open_detector(spec)
    seen, known = [], {}
    with open_video(video) as opened:
        metadata = opened.metadata
        frames, ours = tee(opened.frames())
        for frame, found in zip(ours, detector.detect(frames), strict=False):
            people = np.isin(
                np.asarray(found.class_id), [i for i, n in detector.labels.items() if n == "person"]
            )
            seen.append((frame.timestamp_ms, found[people]))
            those = rows[rows[:, 0] == frame.index + 1]
            corners = np.concatenate([those[:, 2:4], those[:, 2:4] + those[:, 4:6]], axis=1)
            known[frame.timestamp_ms] = those[:, 1].astype(int), corners
    size = (metadata.width, metadata.height)
    both = compare(known, seen, detector.scores, metadata.frame_rate, size)
    return [(video.name, *both)]


@click.command()
@click.option("--video", type=click.Path(exists=True, path_type=Path))
@click.option("--truth", type=click.Path(exists=True, path_type=Path), help="In MOT format.")
@click.option("--detector", default=None, help="As for analyze.")
def main(video: Path | None, truth: Path | None, detector: str | None) -> None:
    """Print a line for each sequence, and the mean."""
    if (video is None) != (truth is None):
        raise click.UsageError("name both --video and --truth, or neither")
    results = real_video(video, truth, detector) if video and truth else made_scenes()
    head = "HOTA  DetA  AssA  IDF1  MOTA  switches identities"
    click.echo(f"{'':28} {'ByteTrack: ' + head:60} two passes: {head}  of")
    for name, online, ours in results:
        click.echo(f"{name:28} {_line(online):60} {_line(ours)} {ours.true_identities:4}")
    gain = np.mean([ours.hota - online.hota for _, online, ours in results])
    switches = [
        sum(s) for s in zip(*[(a.switches, b.switches) for _, a, b in results], strict=True)
    ]
    people = sum(b.identities for *_, b in results) / sum(b.true_identities for *_, b in results)
    click.echo(
        f"HOTA {gain:+.3f} in the mean, switches {switches[0]} -> {switches[1]}, "
        f"{people:.2f} identities for each true one"
    )


def _line(s: Score) -> str:
    return (
        f"{s.hota:.3f} {s.deta:.3f} {s.assa:.3f} {s.idf1:.3f} {s.mota:6.3f} "
        f"{s.switches:6} {s.identities:8}"
    )


if __name__ == "__main__":
    main()
