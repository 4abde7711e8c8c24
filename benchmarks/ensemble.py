r"""The tracker on an ensemble: sequences x perturbations x detectors, mean and spread.

    python -m benchmarks ensemble [--detector SPEC ...] [--only TEXT] [--save NAME] [--against NAME]

Constants may be chosen on the half "chosen on" alone. The other has other scenes and detectors'
habits, and the second half of the sample street. The first call looks at all pictures, which takes
an hour and more; what detectors find is kept in the user's cache folder, and later calls track
anew in about two minutes. ``--save`` keeps the scores by a name and ``--against`` prints the
differences from those, run by run, as mean and standard error.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing import get_context

import click
import numpy as np

from benchmarks.tracking.__main__ import (
    STREET,
    STREET_TRUTH,
    material,
    people_in,
    read_truth,
    short,
    tracks_of,
)
from benchmarks.tracking.measure import Score, Tracks, score
from benchmarks.tracking.perturbed import PERTURBATIONS, Observed, folder, kept, observe
from benchmarks.tracking.rendered import RENDERED, RENDERED_HELD_OUT, Stock, render
from benchmarks.tracking.scenes import (
    BOLD,
    HELD_OUT,
    OFFICES,
    SCENES,
    SHARP,
    SHY,
    WEAK,
    Eye,
    Scene,
    make,
)
from rekognition_dagster.engine import open_detector, sampling
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import Detector
from rekognition_dagster.engine.faces import FACE
from rekognition_dagster.engine.looking import Look
from rekognition_dagster.engine.tracking.camera import Camera
from rekognition_dagster.engine.tracking.motion import STILL
from rekognition_dagster.engine.tracking.tracks import PersonTracks

HALVES = ("chosen on", "held out")
WHOLE = "whole street"
_MADE = tuple(zip((SCENES, HELD_OUT), ((SHARP, WEAK), (SHY, BOLD)), OFFICES, strict=True))
_PAUSE_MS = 600_000
_STREET_FPS, _STREET_FRAMES = 10.0, 795


@dataclass(frozen=True)
class Run:
    """One sequence as one detector sees it, and how it is derived from what is kept."""

    half: str
    kind: str
    kept: str
    derived: str = ""
    part: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return f"{self.half}: {self.kept} {self.part or ''} {self.derived}"


def track(s: Observed, fps: float) -> tuple[Tracks, float]:
    """The engine's tracks, and the processor's milliseconds a frame for them."""
    people, no_faces = PersonTracks(s.scores, fps), np.zeros(0, FACE)
    begin = time.process_time()
    camera = Camera()
    for n, (stamp, found) in enumerate(s.seen):
        scene, motion = 0, STILL
        if s.greys is not None:
            boxes = np.zeros((0, 4)) if found is None else found.xyxy / np.tile(s.size, 2)
            scene, motion = camera.update(s.greys[n], boxes, s.size[0], stamp)
        people.add(found, no_faces, Look(stamp, *s.size), scene=scene, motion=motion)
    tracks = tracks_of(people, s.size)
    people.close()
    return tracks, 1000 * (time.process_time() - begin) / len(s.seen)


def derive(s: Observed, how: str) -> tuple[Observed, float]:
    """A sequence looked at more rarely, or with a pause, and its looks a second by the header."""
    if how == "auto":
        seen = [(t, d if n else None) for (t, d), n in zip(s.seen, s.needed, strict=True)]
        return replace(s, seen=seen), min(s.fps, sampling.MOVING_FPS)
    if how == "pause":
        paused = _paused(s)
        return paused, 1000 * len(s.seen) / paused.seen[-1][0]  # the average, as a header has it
    step = {"half rate": 2, "fifth rate": 5, "tenth rate": 10}.get(how, 1)
    truth = dict(list(s.truth.items())[::step])
    greys = None if s.greys is None else s.greys[::step]
    return replace(s, truth=truth, seen=s.seen[::step], greys=greys), s.fps / step


def _paused(s: Observed) -> Observed:
    """With a pause of ten minutes in the middle, after which nobody is who was there before."""
    begin = s.seen[len(s.seen) // 2][0]
    truth = {
        t + _PAUSE_MS * (t >= begin): (ids + 10_000 * (t >= begin), boxes)
        for t, (ids, boxes) in s.truth.items()
    }
    return replace(s, truth=truth, seen=[(t + _PAUSE_MS * (t >= begin), d) for t, d in s.seen])


def _part(s: Observed, begin: int, end: int) -> Observed:
    truth = dict(list(s.truth.items())[begin:end])
    greys = None if s.greys is None else s.greys[begin:end]
    return replace(s, truth=truth, seen=s.seen[begin:end], greys=greys, needed=s.needed[begin:end])


def judge(run: Run) -> tuple[Score, float] | None:
    """Track one run from the cache; None where it is not kept."""
    observed = kept(run.kept, None)
    if observed is None:
        return None
    if run.part:
        observed = _part(observed, *run.part)
    observed, fps = derive(observed, run.derived)
    found, spent = track(observed, fps)
    return score(observed.truth, found), spent


def made(scene: Scene, eye: Eye) -> Observed:
    """A made scene as a detector of given habits would see it."""
    truth, found = make(scene, eye)
    known = dict(zip(truth.times_ms, zip(truth.ids, truth.boxes, strict=True), strict=True))
    seen = list(zip(truth.times_ms, found, strict=True))
    return Observed(known, seen, None, np.ones(len(seen), bool), eye.scores, scene.fps, scene.size)


def runs(specs: Sequence[str | None]) -> Iterator[Run]:
    """The ensemble."""
    yield from _made_runs()
    for spec in specs:
        if spec == specs[0]:
            yield from _rendered_runs(short(spec))
        yield from _street_runs(short(spec))


def _made_runs() -> Iterator[Run]:
    for half, (scenes, eyes, office) in zip(HALVES, _MADE, strict=True):
        for scene, eye in product((*scenes, office), eyes):
            key = f"made-{eye.name}-{scene.name}"
            if scene is office:
                yield Run(half, "seated", key)
                continue
            for how in ("", "fifth rate") if scene.fps >= 10 else ("",):
                yield Run(half, f"made {how}".strip(), key, how)


def _rendered_runs(detector: str) -> Iterator[Run]:
    for half, scenes in zip(HALVES, (RENDERED, RENDERED_HELD_OUT), strict=True):
        for scene, how in product(scenes, ("", "half rate", "fifth rate", "auto", "pause")):
            yield Run(half, f"rendered {how}".strip(), f"rendered-{scene.name}-{detector}", how)


def _street_runs(detector: str) -> Iterator[Run]:
    middle = _STREET_FRAMES // 2
    parts = ((0, middle), (middle, _STREET_FRAMES), None)
    for half, part in zip((*HALVES, WHOLE), parts, strict=True):
        for name in PERTURBATIONS:
            yield Run(half, f"street {name}", f"street-{name}-{detector}", part=part)
        for how in ("half rate", "fifth rate", "tenth rate", "auto", "pause"):
            yield Run(half, f"street {how}", f"street-plain-{detector}", how, part)


def fill(specs: Sequence[str | None]) -> None:
    """Detect what is not kept yet."""
    for scenes, eyes, office in _MADE:
        for scene, eye in product((*scenes, office), eyes):
            kept(f"made-{eye.name}-{scene.name}", lambda s=scene, e=eye: made(s, e))
    if not STREET.exists():
        click.echo(f"no {STREET.name} in {STREET.parent}: made scenes alone", err=True)
        return
    truth, cut_out = read_truth(STREET_TRUTH, _STREET_FRAMES), None
    detectors = {spec: open_detector(spec) for spec in specs}
    for name in PERTURBATIONS:
        for spec, detector in detectors.items():
            key = f"street-{name}-{short(spec)}"
            kept(key, lambda n=name, d=detector: _look_at_street(n, d, truth))
            if name == "plain" and spec == specs[0]:
                cut_out = cut_out or material()
                _fill_rendered(spec, detector, cut_out)


def _look_at_street(name: str, detector: Detector, truth: Tracks) -> Observed:
    with open_video(STREET) as opened:
        frames = opened.frames()
        return observe(frames, truth, _STREET_FPS, detector, PERTURBATIONS[name], people_in)


def _fill_rendered(spec: str | None, detector: Detector, cut_out: Stock) -> None:
    for scene in (*RENDERED, *RENDERED_HELD_OUT):
        quick = replace(scene, fps=30 if scene.fps == 30 else 25, seconds=16)

        def look(quick: Scene = quick) -> Observed:
            truth, frames = render(quick, cut_out)
            known = dict(zip(truth.times_ms, zip(truth.ids, truth.boxes, strict=True), strict=True))
            plain = PERTURBATIONS["plain"]
            return observe(iter(frames), known, quick.fps, detector, plain, people_in)

        kept(f"rendered-{scene.name}-{short(spec)}", look)


@click.command()
@click.option("--detector", "specs", multiple=True, help="As for analyze; may be repeated.")
@click.option("--only", default="", help="Only runs whose name contains this.")
@click.option("--save", help="Keep the scores by this name.")
@click.option("--against", help="Print the differences from the scores kept by this name.")
@click.option("--each", is_flag=True, help="Print each run, too.")
@click.option("--cached", is_flag=True, help="Skip what is not in the cache.")
def main(
    specs: tuple[str, ...],
    only: str,
    save: str | None,
    against: str | None,
    each: bool,
    cached: bool,
) -> None:
    """Print a line for each half and perturbation: means over sequences and detectors."""
    wanted = specs or (None,)
    if not cached:
        fill(wanted)
    chosen = [run for run in runs(wanted) if only in run.name]
    if not chosen:
        return
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        judged = zip(chosen, pool.map(judge, chosen), strict=True)
        found = {run: result for run, result in judged if result is not None}
    before = json.loads(_scores(against).read_text()) if against else {}
    if save:
        kept_scores = {run.name: asdict(s) for run, (s, _) in found.items()}
        _scores(save).write_text(json.dumps(kept_scores))
    click.echo(f"{'':34}runs   HOTA (spread)   AssA   IDF1  switches  identities / true  CPU ms")
    for half in (*HALVES, WHOLE):
        in_half = {run: result for run, result in found.items() if run.half == half}
        for kind in dict.fromkeys(run.kind for run in in_half):
            these = {run: result for run, result in in_half.items() if run.kind == kind}
            _print(f"{half:12} {kind}", these, before)
            for run, result in these.items() if each else ():
                _print(f"  {run.kept}", {run: result}, before)
        if in_half:
            _print(f"{half:12} ALL", in_half, before)


def _scores(name: str):
    return folder() / f"scores-{name}.json"


def _print(title: str, these: dict[Run, tuple[Score, float]], before: dict) -> None:
    scores = [s for s, _ in these.values()]
    hota, assa, idf1 = (np.array([getattr(s, n) for s in scores]) for n in ("hota", "assa", "idf1"))
    identities, true = sum(s.identities for s in scores), sum(s.true_identities for s in scores)
    line = (
        f"{title:34.34}{len(scores):4}  {hota.mean():.3f} ({hota.std():.3f})  {assa.mean():.3f}  "
        f"{idf1.mean():.3f} {sum(s.switches for s in scores):7}  {identities:6} / {true} = "
        f"{identities / true:.2f}  {np.mean([ms for _, ms in these.values()]):.2f}"
    )
    pairs = [(before[run.name], s) for run, (s, _) in these.items() if run.name in before]
    if pairs:
        less = np.array([s.hota - old["hota"] for old, s in pairs])
        error = less.std() / np.sqrt(len(less))
        line += f"  HOTA {less.mean():+.4f} ± {error:.4f}"
        line += f", identities {sum(old['identities'] for old, _ in pairs)} before"
    click.echo(line)


if __name__ == "__main__":
    main()
