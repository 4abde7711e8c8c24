"""Output fits an 80-column terminal without a cell being cut, and commands can be copied."""

from __future__ import annotations

import io
import shlex

import duckdb
import pytest

from rekognition_dagster.answers import write_answer
from rekognition_dagster.terminal import Right, command, text_table

COLUMNS = ("video", "rows", "took")
ROWS = [("s3://videos/a.mp4", 12, Right("4.0 s")), ("s3://videos/long/name.mp4", 3, None)]


def test_a_table_that_fits_is_aligned_with_numbers_on_the_right() -> None:
    assert list(text_table(COLUMNS, ROWS, 80)) == [
        "video                      rows   took",
        "s3://videos/a.mp4            12  4.0 s",
        "s3://videos/long/name.mp4     3",
    ]


def test_a_table_that_does_not_fit_is_turned() -> None:
    columns = ("operation", "waiting", "in flight", "unpaged", "done")
    counts = [("person_tracking", 0, 0, 0, 12), ("face_detection", 3, 1, 0, 4)]
    assert list(text_table(columns, counts, 45)) == [
        "operation  person_tracking  face_detection",
        "waiting                  0               3",
        "in flight                0               1",
        "unpaged                  0               0",
        "done                    12               4",
    ]


def test_where_that_does_not_fit_either_each_cell_has_a_line() -> None:
    assert list(text_table(COLUMNS, ROWS, 30)) == [
        "video  s3://videos/a.mp4",
        "rows   12",
        "took   4.0 s",
        "",
        "video  s3://videos/long/name.mp4",
        "rows   3",
    ]


def test_a_pipe_has_no_width() -> None:
    long = "reason " * 100
    [_, line] = text_table(("a", "b"), [("x", long)], None)
    assert line == f"x  {long}".rstrip()


def test_wide_letters_keep_the_columns_in_line() -> None:
    lines = list(text_table(("video", "n"), [("入口.mp4", 1), ("gate.mp4", 2)], 80))
    assert lines == ["video     n", "入口.mp4  1", "gate.mp4  2"]


def test_a_command_to_copy_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    line = command("dev", "--home", "my videos")
    assert line.endswith("rekognition-dagster dev --home 'my videos'")
    monkeypatch.setenv("PATH", "/nowhere")
    assert shlex.split(command("dev"))[0].endswith("bin/rekognition-dagster")


def test_a_result_that_is_wider_than_the_terminal_keeps_every_column() -> None:
    out = io.StringIO()
    columns = ", ".join(f"{i} AS column_number_{i}" for i in range(12))
    with duckdb.connect() as connection:
        write_answer(connection, f"SELECT {columns}", "table", out, width=60)
    lines = out.getvalue().splitlines()
    assert lines == [f"column_number_{i:<4}{i:>2}" for i in range(12)]
