"""What a face's networks say, as probabilities: expression, eyes, age, gender, occlusion.

Guesses about appearance. The figures behind each constant are in docs/faces.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as ops
from openvino import op

from rekognition_dagster.engine.faces.mesh import SIDE, Mesh
from rekognition_dagster.engine.faces.record import EMOTIONS
from rekognition_dagster.engine.frame import Image, Luma

LEAST_HEIGHT = 16
"""Pixels of a face's height, below which nothing more is known of it."""

_FULL_HEIGHT = 40  # from here on, a taller face tells no more
_BLIND_HEIGHT = 12  # here it is even odds
_EYES_HEIGHT = 32  # pixels; eyes of smaller faces are neither open nor closed: unknown

# Where each score means even odds, and how steeply it decides (scripts: benchmarks/faces).
_SMILES = 0.62, 10.0
_CLOSES = 0.47, 20.0
_MOUTH_OPENS = 0.14, 35.0
_FITS_BADLY = 8.0, 0.5  # the mesh's presence
_OUTSIDE = 0.12, 40.0  # part of the mesh that is outside the frame

# Blend shapes, as ARKit numbers them.
_BROWS_DOWN, _BROWS_UP = [1, 2], [3, 4, 5]
_BLINKS = [9, 10]
_JAW = 25
_SMILE = [44, 45]

_NETWORKS_EMOTIONS = ("ANGRY", "DISGUSTED", "FEAR", "HAPPY", "SAD", "SURPRISED", "CALM")
_IN_ORDER = [_NETWORKS_EMOTIONS.index(name) for name in EMOTIONS]

CHIP = 64
"""Pixels of the squares that the networks for age, gender and emotions see."""

# Where dlib's average face has its eyes' corners and the nose's base, in a square around it that
# is a fifth wider on each side (source: dlib, get_face_chip_details), and the mesh's points there.
_PADDING = 0.2
_AVERAGE = np.array(
    [(0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278)]
)
_AVERAGE_POINTS = [263, 362, 33, 133, 2]
_MEANS = (122.782, 117.001, 104.298)
_LIT, _BRIGHTENED = 100.0, 4.0  # darker faces are brightened, at most so much
_FACE_HALF = 83  # half the side of the part of the mesh's square that emotions are seen in

_AGES = np.arange(81)
_AGE_HEIGHT = 26  # pixels; smaller faces look like children's to the network
_AGE_ERROR = 6.0  # years; the network is surer of itself than it is right
_SMALL_AGE_ERROR = 8.0  # years more for the smallest faces


def trust(height: float) -> float:
    """Return how much of a score is left, 1 to 0, for a face so many pixels tall."""
    return float(np.clip((height - _BLIND_HEIGHT) / (_FULL_HEIGHT - _BLIND_HEIGHT), 0, 1))


def flags(mesh: Mesh, height: float, outside: float) -> dict[str, float]:
    """Return the probabilities of smile, open eyes, open mouth and occlusion; NaN is unknown.

    Args:
        mesh: The face's.
        height: Pixels of the face in the frame.
        outside: Which part of the mesh is outside the frame.
    """
    shapes, sure = mesh.expressions, trust(height)
    likely = {
        "smile": _odds(shapes[_SMILE].mean(), _SMILES),
        "eyes_open": 1 - _odds(shapes[_BLINKS].mean(), _CLOSES),
        "mouth_open": _odds(mesh.lips_apart, _MOUTH_OPENS),
        "face_occluded": max(1 - _odds(mesh.presence, _FITS_BADLY), _odds(outside, _OUTSIDE)),
    }
    found = {name: 0.5 + (p - 0.5) * sure for name, p in likely.items()}
    return found if height >= _EYES_HEIGHT else {**found, "eyes_open": np.nan}


def _odds(score: float, even_and_slope: tuple[float, float]) -> float:
    even, slope = even_and_slope
    return float(1 / (1 + np.exp(np.clip(slope * (even - score), -50, 50))))


def eye_direction(mesh: Mesh, eyes_open: float, height: float) -> tuple[float, float, float]:
    """Return yaw, pitch and confidence; NaN where the eyes are closed or too small."""
    if not eyes_open >= 0.5:
        return np.nan, np.nan, np.nan
    return *mesh.gaze, 100 * (2 * eyes_open - 1) * trust(height)


def age(ages: npt.NDArray, height: float) -> tuple[float, float]:
    """Return the mean and the spread, in years, of the network's 81 probabilities; NaN for small
    faces."""
    if height < _AGE_HEIGHT:
        return np.nan, np.nan
    mean = float(ages @ _AGES)
    own = float(ages @ (_AGES - mean) ** 2)
    small = _SMALL_AGE_ERROR * (1 - trust(height))
    return mean, float(np.sqrt(own + _AGE_ERROR**2 + small**2))


def female(genders: npt.NDArray, height: float) -> float:
    """Return the probability that the network calls the face female."""
    return float(0.5 + (genders[0] - 0.5) * trust(height))


def emotions(scores: npt.NDArray, mesh: Mesh, height: float) -> npt.NDArray:
    """Return a probability for each of ``EMOTIONS``: the network's, corrected by the mesh.

    The network takes plain faces for fearful, sad or angry ones: these need a moved face, here.
    """
    shapes = mesh.expressions
    smile, brows_up = shapes[_SMILE].mean(), shapes[_BROWS_UP].max()
    brows_down, jaw = shapes[_BROWS_DOWN].mean(), shapes[_JAW]
    moved = min(1.0, max(smile, brows_up, jaw))
    weight = {
        "HAPPY": 0.1 + 2 * smile**2,
        "SAD": 0.7,
        "ANGRY": 0.4 + brows_down,
        "DISGUSTED": 1.0,
        "SURPRISED": 0.4 + 2 * max(brows_up, jaw / 2),
        "CALM": 4 - 3 * moved,
        "FEAR": 0.06 + 0.5 * brows_up,
    }
    likely = scores[_IN_ORDER] * [weight[name] for name in EMOTIONS]
    likely = likely / max(likely.sum(), 1e-6)
    return 1 / len(EMOTIONS) + (likely - 1 / len(EMOTIONS)) * trust(height)


def aligned(image: Image, mesh: Mesh) -> Image:
    """Return the face as the age and gender networks know it, shape (64, 64, 3)."""
    target = (_AVERAGE + _PADDING) / (1 + 2 * _PADDING) * CHIP
    half = np.asarray(cv2.resize(image, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA))
    matrix = similarity(mesh.points[_AVERAGE_POINTS, :2] / 2, target)
    chip = np.asarray(cv2.warpAffine(half, matrix, (CHIP, CHIP)), np.float32)
    lit = np.clip(_LIT / max(float(chip.mean()), 1.0), 1.0, _BRIGHTENED)
    return np.clip(chip * lit, 0, 255).astype(np.uint8)


def grey_face(image: Image) -> Luma:
    """Return the face as the emotions' network knows it, shape (64, 64, 1)."""
    near, far = SIDE // 2 - _FACE_HALF, SIDE // 2 + _FACE_HALF
    grey = cv2.cvtColor(image[near:far, near:far], cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (CHIP, CHIP), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)[..., None]


def similarity(source: npt.NDArray, target: npt.NDArray) -> npt.NDArray:
    """Return the turn, scale and shift, shape (2, 3), that best lays points on others (n, 2).

    Least squares (Umeyama 1991).
    """
    middle, aim = source.mean(axis=0), target.mean(axis=0)
    a, b = source - middle, target - aim
    u, strengths, v = np.linalg.svd(b.T @ a)
    mirror = np.array([1.0, np.sign(np.linalg.det(u @ v))])
    scale = (strengths * mirror).sum() / max((a**2).sum(), 1e-9)
    turn = scale * (u * mirror) @ v
    return np.column_stack([turn, aim - turn @ middle])


def age_and_gender_network(read: Callable[[str], ov.Model]) -> ov.Model:
    """Build one network of those for age and gender.

    Args:
        read: Reads the model of a name.

    Returns:
        Input [1, 3, 64, 64], RGB from 0 to 255. Outputs: probabilities of 81 ages [1, 81], and of
        female and male [1, 2].
    """
    image = ops.parameter([1, 3, CHIP, CHIP], np.float32, name="image")
    means = np.array(_MEANS, np.float32).reshape(1, 3, 1, 1)
    scaled = ops.divide(ops.subtract(image, means), np.float32(256))
    half = ops.avg_pool(
        scaled, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=False, rounding_type="floor"
    )
    results = []
    for name, source in (("face-age", scaled), ("face-gender", half)):
        model = read(name)
        model.reshape(list(source.output(0).shape))
        for reader in model.get_parameters()[0].output(0).get_target_inputs():
            reader.replace_source_output(source.output(0))
        results.append(model.output(0).get_node().input_value(0))
    return ov.Model(results, [image], "age-and-gender")  # pyright: ignore[reportGeneralTypeIssues]


def emotions_network(path: Path) -> ov.Model:
    """Read the network for emotions.

    Returns:
        Input [1, 64, 64, 1], grey from -1 to 1. Output: probabilities [1, 7].
    """
    model = ov.Core().read_model(path)
    # OpenVINO 2026.4 computes nonsense of 8-bit weights where several streams share them.
    for node in model.get_ops():
        if node.get_type_name() == "Convert" and isinstance(
            stored := node.input_value(0).get_node(), op.Constant
        ):
            weights = ops.constant(stored.data.astype(np.float32))
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(weights.output(0))
    return model
