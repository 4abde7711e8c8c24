"""What is derived from weights is kept, and verified before it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from rekognition_dagster.engine import models
from rekognition_dagster.engine.detectors.inference import stored


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ov.Model]:
    monkeypatch.setattr(models, "cache_folder", lambda: tmp_path)
    return []


def network(made: list[ov.Model]) -> ov.Model:
    def make() -> ov.Model:
        given = ops.parameter([1, 4], np.float32)
        weights = ops.constant(np.arange(4000, dtype=np.float32).reshape(4, 1000))
        made.append(ov.Model([ops.matmul(given, weights, False, False)], [given], "tiny"))  # pyright: ignore[reportGeneralTypeIssues]
        return made[-1]

    return stored(Path("tiny.tflite"), "4", make)


def test_a_network_is_made_once(made: list[ov.Model]) -> None:
    for _ in range(3):
        network(made)
    assert len(made) == 1


@pytest.mark.parametrize("suffix", [".bin", ".xml", ".sums"])
@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_a_damaged_network_is_made_anew(
    made: list[ov.Model], tmp_path: Path, suffix: str, damage: str
) -> None:
    network(made)
    (path,) = (tmp_path / "compiled").glob(f"*{suffix}")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    network(made)
    assert len(made) == 2
    network(made)
    assert len(made) == 2
