"""An upload that fails on its way leaves the object that was there."""

from __future__ import annotations

import io
import os

import pytest

from rekognition_dagster.lake import Storage, storage

GOOD = b"good"
LONG = os.urandom(3 * 1024 * 1024)


class FailingFile(io.BytesIO):
    """A file on a disk that fails after some megabytes."""

    def __init__(self, content: bytes, error: BaseException):
        super().__init__(content)
        self._error = error

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 0:
            raise self._error
        return super().read(size)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()])
@pytest.mark.parametrize("length", [3 * 1024 * 512, 3 * 1024 * 1024])
def test_a_file_that_cannot_be_read_to_its_end_replaces_nothing(
    bucket: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, length: int
) -> None:
    monkeypatch.setattr(storage, "_CHUNK_BYTES", 1024 * 1024)
    place = Storage.at(f"s3://{bucket}/lake")
    place.write("a.bin", GOOD)
    with pytest.raises(type(error)):
        place.publish(FailingFile(LONG[:length], error), "a.bin")
    assert place.read("a.bin") == GOOD
    assert place.files() == ["a.bin"]


def test_a_long_file_is_uploaded_whole_and_alone(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_CHUNK_BYTES", 1024 * 1024)
    place = Storage.at(f"s3://{bucket}/lake")
    for content in (LONG, LONG[: 2 * 1024 * 1024], b""):
        place.write("a.bin", content)
        assert place.read("a.bin") == content
        assert place.files() == ["a.bin"]
