"""What the README shows of the demo's videos is what the engine finds in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rekognition_dagster.engine import analyze, models
from rekognition_dagster.errors import ModelError
from rekognition_dagster.operations import FACE_DETECTION, PERSON_TRACKING

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
MODEL = Path(__file__).resolve().parents[2] / "rekognition_dagster/analytics/person_paths.sql"
TOLERANCE = {
    "person": 0,
    "first_seen_ms": 250,
    "dwell_ms": 400,
    "path_in_frame_widths": 0.15,
    "sharpest": 10,
    "yaw": 10,
}
SAMPLES = ("bikes.mp4", "carphone_pristine.mp4")


@pytest.fixture(scope="module")
def found() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables that the README's queries read, of the two samples."""
    operations = (PERSON_TRACKING, FACE_DETECTION)
    tables: dict[str, list[Any]] = {o.table: [] for o in operations}
    videos = []
    for name in SAMPLES:
        try:
            path = models.path(name)
            rows: dict[str, list[dict[str, Any]]] = {o.name: [] for o in operations}
            metadata = analyze(path, {o.name: rows[o.name].extend for o in operations})
        except ModelError as error:
            pytest.skip(f"the embedded models cannot be fetched here: {error}")
        for o in operations:
            tables[o.table] += [{"video": f"s3://videos/{name}", **row} for row in rows[o.name]]
        videos.append((f"s3://videos/{name}", metadata.width, metadata.height))
    import pyarrow as pa

    connection = duckdb.connect()
    for o in operations:
        connection.register(o.table, pa.Table.from_pylist(tables[o.table], schema=o.schema))
    connection.execute("CREATE TABLE videos (video TEXT, width BIGINT, height BIGINT)")
    connection.executemany("INSERT INTO videos VALUES (?, ?, ?)", videos)
    connection.execute(f"CREATE VIEW person_paths AS {MODEL.read_text(encoding='utf-8')}")
    yield connection
    connection.close()


def shown(question: str) -> tuple[str, list[list[str]]]:
    """The query under a question of the README, and the cells of the answer below it."""
    block = README.split(question, 1)[1].split("```console\n", 1)[1].split("```", 1)[0]
    query = re.search(r'query "(.*?)"\n', block, re.DOTALL)
    assert query is not None
    lines = [line for line in block[query.end() :].splitlines() if line.startswith("│")]
    return query[1], [[cell.strip() for cell in line.strip("│").split("│")] for line in lines[2:]]


def test_the_demos_summary_counts_the_people_and_faces_that_are_found(found):
    summary = README.split("jobs took", 1)[1].split("```", 1)[0]
    for name in SAMPLES:
        line = re.search(rf"^{re.escape(name)}\s+[\d.]+ s\s+(\d+)\s+(\d+)\s+(\d+)", summary, re.M)
        assert line is not None
        people, at_once, faces = (
            found.execute(sql, [f"s3://videos/{name}"]).fetchall()[0][0]
            for sql in (
                "SELECT count(DISTINCT person_index) FROM person_detections WHERE video = ?",
                "SELECT max(n) FROM (SELECT count(*) AS n FROM person_detections WHERE video = ? "
                "GROUP BY timestamp_ms)",
                "SELECT max(n) FROM (SELECT count(*) AS n FROM face_detections WHERE video = ? "
                "GROUP BY timestamp_ms)",
            )
        )
        assert [int(n) for n in line.groups()] == [people, at_once, faces]


@pytest.mark.parametrize("question", ["Who stayed longest?", "When is each face sharpest"])
def test_the_answers_of_the_readme_are_those_of_the_engine(found, question):
    """Texts are equal; numbers lie within what another processor's arithmetic may change."""
    sql, expected = shown(question)
    answer = found.execute(sql)
    names = [column[0] for column in answer.description]
    rows = answer.fetchall()
    assert len(rows) == len(expected)
    for row, cells in zip(rows, expected, strict=True):
        for name, value, cell in zip(names, row, cells, strict=True):
            if isinstance(value, str):
                assert value == cell
            elif name != "at_ms":  # of two frames that are nearly as sharp, either may win
                assert abs(float(cell) - value) <= TOLERANCE[name], f"{name} of {row[0]}"
