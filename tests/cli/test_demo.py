"""``demo`` looks at its videos before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_bad
from command_line import Command


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere.mp4", "no such file"),
        ("folder.mp4", "folder"),
        ("empty.mp4", "empty"),
        ("notes.txt", "name"),
    ],
)
def test_a_path_that_is_no_video_is_told_and_nothing_is_started(
    command: Command, tmp_path: Path, name: str, told: str
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    write_bad(tmp_path / "empty.mp4", "empty")
    write_bad(tmp_path / "notes.txt", "text")
    result = command("demo", "--video", name, "--home", "home")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {name}")
    assert told in result.stderr
    assert not (tmp_path / "home").exists()


def test_a_home_that_cannot_be_made_is_told(command: Command, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = command("demo", "--video", clip, "--home", "file/home")
    assert result.exit_code == 1
    assert "file/home" in result.stderr
