"""The table of operations against AWS's own model, and API rows to lake rows and back."""

from __future__ import annotations

from typing import Any

import botocore.session
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekognition_dagster.operations import OPERATIONS, Operation, operation, snake_case

MODEL: Any = botocore.session.get_session().get_service_model("rekognition")


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=lambda o: o.name)
def test_every_documented_member_of_a_row_has_a_column(op: Operation) -> None:
    documented = MODEL.operation_model(op.get_api).output_shape.members[op.results].member
    assert _members(documented) - _arrow_members(op.row_type) == set()
    # What the local engine alone tells of a person has no member in the API.
    ours = {"Person.Confidence", "Person.Interpolated", "Person.FaceInterpolated"}
    extra = ours if op.name == "person_tracking" else set()
    assert _arrow_members(op.row_type) - _members(documented) == extra


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=lambda o: o.name)
def test_names_fit_the_api(op: Operation) -> None:
    start, get = MODEL.operation_model(op.start_api), MODEL.operation_model(op.get_api)
    assert set(op.request_members) < set(start.input_shape.members)
    assert op.sort_by is None or op.sort_by in get.input_shape.members["SortBy"].enum
    for name in (op.name, op.cli_name, op.api, op.start_api, op.get_api):
        assert operation(name) is op


def test_an_unknown_operation_is_told_what_there_is() -> None:
    with pytest.raises(KeyError, match="person-tracking, face-detection, label-detection"):
        operation("celebrity-recognition")


def _members(shape: Any) -> set[str]:
    """Dotted paths of a botocore shape's leaves."""
    if shape.type_name == "structure":
        return {
            f"{name}.{below}" if below else name
            for name, member in shape.members.items()
            for below in _members(member)
        }
    if shape.type_name == "list":
        return _members(shape.member)
    return {""}


def _arrow_members(type_: pa.DataType) -> set[str]:
    if pa.types.is_struct(type_):
        return {
            f"{f.name}.{below}" if below else f.name
            for f in type_
            for below in _arrow_members(f.type)
        }
    if pa.types.is_list(type_):
        return _arrow_members(type_.value_type)
    return {""}


def _values(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """API values of an Arrow type; a member is there or it is not."""
    if pa.types.is_struct(type_):
        members = {f.name: _values(f.type) for f in type_}
        return st.fixed_dictionaries({}, optional=members)
    if pa.types.is_list(type_):
        return st.lists(_values(type_.value_type), max_size=3)
    if pa.types.is_floating(type_):
        return st.floats(0, 100, width=32)
    if pa.types.is_integer(type_):
        return st.integers(0, 2**40)
    return st.booleans() if pa.types.is_boolean(type_) else st.text(max_size=5)


def _named(value: Any) -> bool:
    """Whether each one-member struct {Name} has its member, as the API always sends it."""
    if isinstance(value, list):
        return all(_named(v) and v != {} for v in value)
    if isinstance(value, dict):
        return all(_named(v) for v in value.values())
    return True


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=lambda o: o.name)
@given(data=st.data())
def test_rows_come_back_from_the_lake_as_they_went_in(op: Operation, data: st.DataObject) -> None:
    rows = data.draw(st.lists(_values(op.row_type).filter(_named), max_size=4))
    table = op.to_lake(rows, video="s3://b/k", job_id="j")
    assert table.schema == op.schema
    start = data.draw(st.integers(0, len(rows)))
    # A struct all of whose members are absent cannot be told from one that is there and empty.
    assert [_pruned(r) for r in op.to_wire(table.slice(start))] == [
        _pruned(r) for r in rows[start:]
    ]


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: p for k, v in value.items() if (p := _pruned(v)) != {}}
    return [_pruned(v) for v in value] if isinstance(value, list) else value


def test_members_that_aws_added_since_are_ignored() -> None:
    row = {"Timestamp": 1, "Person": {"Index": 2, "Shoes": "brown"}, "Weather": "fine"}
    table = OPERATIONS["person_tracking"].to_lake([row], video="v", job_id="j")
    assert table.select(["timestamp_ms", "person_index"]).to_pylist() == [
        {"timestamp_ms": 1, "person_index": 2}
    ]


def test_snake_case() -> None:
    assert [snake_case(n) for n in ("BoundingBox", "CSSColor", "X", "DurationMillis")] == [
        "bounding_box",
        "css_color",
        "x",
        "duration_millis",
    ]
