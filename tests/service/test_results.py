"""Pages: the rows that were written, whatever they hold, as the JSON that AWS would send."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service import scripted_engine

from rekognition_dagster.operations import (
    LABEL_DETECTION,
    OPERATIONS,
    PERSON_TRACKING,
    Operation,
)
from rekognition_dagster.service import results, writing
from rekognition_dagster.service.results import Results, json_rows
from rekognition_dagster.service.store import Job


def values(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """What a lake column of one type may hold, nulls at every depth."""
    if pa.types.is_struct(type_):
        return st.none() | st.fixed_dictionaries({f.name: values(f.type) for f in type_})
    if pa.types.is_list(type_):
        return st.none() | st.lists(values(type_.value_type), max_size=3)
    if pa.types.is_string(type_):
        return st.none() | st.text(max_size=8)
    if pa.types.is_boolean(type_):
        return st.none() | st.booleans()
    if pa.types.is_floating(type_):
        return st.none() | st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf])
    return st.none() | st.integers(-(2**62), 2**62)


def table_of(operation: Operation) -> st.SearchStrategy[pa.Table]:
    row = st.fixed_dictionaries({f.name: values(f.type) for f in operation.schema})
    rows = st.lists(row, max_size=4)
    return rows.map(lambda r: pa.Table.from_pylist(r, schema=operation.schema))


def plain(value: Any) -> Any:
    """A wire row without what says nothing, its floats as the lake keeps them."""
    if isinstance(value, dict):
        kept = {k: plain(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None and v != {}}
    if isinstance(value, list):
        return [{} if (p := plain(v)) is None else p for v in value]
    if isinstance(value, float):
        return float(np.float32(value)) if math.isfinite(value) else None
    return value


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: o.name)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_json_rows_are_the_operations_wire_rows(operation, data):
    table = data.draw(table_of(operation))
    expected = operation.to_wire(table)
    for row in expected:
        for own in ("Confidence", "Interpolated", "FaceInterpolated"):  # the API has none of them
            row.get("Person", {}).pop(own, None)
    assert plain(json.loads(json_rows(operation, table))) == plain(expected)


def a_job(operation: Operation) -> Job:
    return Job(
        "j", operation.name, "default", "footage", "clip.mp4", None, None, None, {}, "IN_PROGRESS",
        None, 0.0, None, 9e9, 0, 0, 1, None, 0.0, None, None, None,
    )  # fmt: skip


def test_pages_of_any_size_put_together_are_all_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "ROW_GROUP_ROWS", 100)
    place = Results(str(tmp_path))
    with writing.ResultsWriter(place, "j/1", PERSON_TRACKING, a_job(PERSON_TRACKING)) as writer:
        writer.write(scripted_engine.person_row(i) for i in range(620))
    assert writer.orders == {"TIMESTAMP": 620, "INDEX": 620}
    for size in (7, 99, 100, 101, 1000):
        rows: list[Any] = []
        while page := json.loads(place.page(PERSON_TRACKING, "j/1", "TIMESTAMP", len(rows), size)):
            rows += page
        assert [r["Timestamp"] for r in rows] == [i // 7 * 40 for i in range(620)]


def test_a_page_reads_no_more_than_the_row_groups_it_lies_in(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "ROW_GROUP_ROWS", 1000)
    place = Results(str(tmp_path))
    with writing.ResultsWriter(place, "j/1", PERSON_TRACKING, a_job(PERSON_TRACKING)) as writer:
        for start in range(0, 20_000, 500):
            writer.write(scripted_engine.person_row(i) for i in range(start, start + 500))
    results._group.cache_clear()
    place.page(PERSON_TRACKING, "j/1", "TIMESTAMP", 18_500, 1000)
    assert results._group.cache_info().misses == 2


def test_rows_that_end_in_an_error_leave_no_file(tmp_path):
    place = Results(str(tmp_path))
    writer = writing.ResultsWriter(place, "j/1", PERSON_TRACKING, a_job(PERSON_TRACKING))
    with pytest.raises(pa.ArrowInvalid), writer:
        writer.write([scripted_engine.person_row(0), {"timestamp_ms": "no number"}])
    assert place.storage.files() == []


@pytest.mark.parametrize(
    ("sample_fps", "times_ms", "segments"),
    [
        (None, [0, 1000], [(0, 1000)]),
        (None, [0, 1001], [(0, 0), (1001, 1001)]),
        ("auto", [0, 400, 1401], [(0, 400), (1401, 1401)]),
        (25, [0, 1001], [(0, 0), (1001, 1001)]),
        (1, [0, 1001, 2002, 4004], [(0, 2002), (4004, 4004)]),
        (0.5, [0, 2002, 4004], [(0, 4004)]),
    ],
)
def test_a_segment_lasts_from_sample_to_sample(tmp_path, sample_fps, times_ms, segments):
    place = Results(str(tmp_path))
    job = a_job(LABEL_DETECTION)
    with writing.ResultsWriter(place, "j/1", LABEL_DETECTION, job, sample_fps) as writer:
        for time_ms in times_ms:
            writer.write([{"timestamp_ms": time_ms, "name": "Car", "confidence": 90.0}])
    rows = json.loads(place.page(LABEL_DETECTION, "j/1", "SEGMENTS-TIMESTAMP", 0, 1000))
    assert [(r["StartTimestampMillis"], r["EndTimestampMillis"]) for r in rows] == segments
