"""The folder behind the local bucket: the same video has the same key at every start."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from rekognition_dagster.stack.videos import VideoFolder

NEW_YEAR = datetime(2026, 1, 1, 12, tzinfo=timezone.utc).timestamp()


@pytest.fixture
def folder(tmp_path: Path) -> VideoFolder:
    return VideoFolder(tmp_path / "home" / "videos")


def video(path: Path, content: bytes = b"frames") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (NEW_YEAR, NEW_YEAR))
    return path


def test_a_key_has_the_day_of_the_file(folder: VideoFolder, tmp_path: Path) -> None:
    path = video(tmp_path / "gate.mp4")
    assert folder.add(path)[1] == "2026-01-01/gate.mp4"
    assert [key for _, key in folder.files()] == ["2026-01-01/gate.mp4"]


def test_a_name_with_a_day_keeps_it(folder: VideoFolder, tmp_path: Path) -> None:
    assert folder.add(video(tmp_path / "gate 2025-12-24.mp4"))[1] == "gate 2025-12-24.mp4"


def test_adding_a_video_again_changes_nothing(folder: VideoFolder, tmp_path: Path) -> None:
    path = video(tmp_path / "gate.mp4")
    assert folder.add(path) == folder.add(path)
    assert len(list(folder.files())) == 1


def test_two_videos_of_one_name_are_two(folder: VideoFolder, tmp_path: Path) -> None:
    folder.add(video(tmp_path / "a" / "gate.mp4", b"north"))
    assert folder.add(video(tmp_path / "b" / "gate.mp4", b"south"))[1] == "2026-01-01/gate-2.mp4"


def test_a_video_can_be_called_otherwise(folder: VideoFolder, tmp_path: Path) -> None:
    assert folder.add(video(tmp_path / "x.mp4"), "gate.mp4")[1] == "2026-01-01/gate.mp4"


def test_a_video_that_was_removed_is_left_out(folder: VideoFolder, tmp_path: Path) -> None:
    path = video(tmp_path / "gate.mp4")
    folder.add(path)
    path.unlink()
    assert list(folder.files()) == []
    assert folder.add(video(path, b"another"))[1] == "2026-01-01/gate.mp4"


def test_another_file_never_takes_the_key_of_a_video_that_was_removed(
    folder: VideoFolder, tmp_path: Path
) -> None:
    path = video(tmp_path / "a" / "gate.mp4")
    folder.add(path)
    path.unlink()
    other = video(tmp_path / "b" / "gate.mp4", b"another")
    assert folder.add(other)[1] == "2026-01-01/gate-2.mp4"


def test_a_file_that_changed_keeps_its_key(folder: VideoFolder, tmp_path: Path) -> None:
    path = video(tmp_path / "gate.mp4")
    folder.add(path)
    path.write_bytes(b"recorded again on another day")
    assert folder.add(path)[1] == "2026-01-01/gate.mp4"
    assert [key for _, key in folder.files()] == ["2026-01-01/gate.mp4"]


def test_a_dropped_file_does_not_replace_another(folder: VideoFolder, tmp_path: Path) -> None:
    folder.add(video(tmp_path / "gate.mp4", b"north"))
    for content, key in ((b"south", "gate-2"), (b"west", "gate-3"), (b"south", "gate-2")):
        video(folder.folder / "gate.mp4", content)
        assert list(folder.settled_since()) == []
        assert [key for _, key in folder.settled_since()] == [f"2026-01-01/{key}.mp4"]
    for again in (folder, VideoFolder(folder.folder)):
        assert [path.read_bytes() for path, _ in again.files()] == [b"south", b"west", b"north"]
        assert list(again.settled_since()) == []


def test_files_dropped_in_are_given_once_they_no_longer_grow(folder: VideoFolder) -> None:
    assert list(folder.settled_since()) == []
    path = video(folder.folder / "by-hand.mp4", b"fra")
    video(folder.folder / "notes.txt")
    assert list(folder.settled_since()) == []
    path.write_bytes(b"frames")
    os.utime(path, (NEW_YEAR, NEW_YEAR))
    assert list(folder.settled_since()) == []
    own = folder.folder / "2026-01-01" / "by-hand.mp4"
    assert list(folder.settled_since()) == [(own, "2026-01-01/by-hand.mp4")]
    assert list(folder.settled_since()) == []
