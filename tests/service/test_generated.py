"""Requests generated from botocore's shapes, valid and not: never a fault of the service's own."""

from __future__ import annotations

import json
import os
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.serving import BUCKET, until

from rekognition_dagster.operations import OPERATIONS, operation
from rekognition_dagster.service.protocol import ApiError, operation_model, request_of
from rekognition_dagster.service.requests import completed, engine_options, request_hash

pytestmark = pytest.mark.xdist_group("generated")

APIS = [api for o in OPERATIONS.values() for api in (o.start_api, o.get_api)]
EXAMPLES = int(os.environ.get("REKOGNITION_DAGSTER_EXAMPLES", "100"))

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)


def valid(shape: Any) -> st.SearchStrategy[Any]:
    """Values that ``shape`` allows."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    match shape.type_name:
        case "structure":
            members = {name: valid(member) for name, member in shape.members.items()}
            required = {n: s for n, s in members.items() if n in shape.required_members}
            optional = {n: s for n, s in members.items() if n not in shape.required_members}
            found = st.fixed_dictionaries(required, optional=optional)
        case "list":
            found = st.lists(valid(shape.member), min_size=least or 0, max_size=min(most or 3, 3))
        case "string" if shape.enum:
            found = st.sampled_from(shape.enum)
        case "string" if pattern := shape.metadata.get("pattern"):
            text = st.from_regex(pattern, fullmatch=True, alphabet=string.printable[:95])
            found = text.filter(lambda t: (least or 0) <= len(t) <= (most or 2048))
        case "string":
            letters = st.characters(exclude_categories=["Cs"])
            found = st.text(letters, min_size=least or 0, max_size=min(most or 40, 40))
        case "integer" | "long":
            found = st.integers(least or 0, most or 2**31 - 1)
        case "float" | "double":
            found = st.floats(least or 0, most or 1e6, allow_nan=False)
        case _:
            found = st.booleans()
    return found


def spoiled(request: Any, wrong: Any, path: list[int]) -> Any:
    """``request`` with one of its members replaced by ``wrong``."""
    if isinstance(request, dict) and request and path:
        name = sorted(request)[path[0] % len(request)]
        return {**request, name: spoiled(request[name], wrong, path[1:])}
    return wrong


@st.composite
def calls(draw: st.DrawFn, correct: bool) -> tuple[str, bytes]:
    api = draw(st.sampled_from(APIS))
    request = draw(valid(operation_model(api).input_shape))
    if "Video" in request and draw(st.booleans()):
        request["Video"] = {"S3Object": {"Bucket": BUCKET, "Name": "clip.mp4"}}
    if not correct:
        path = draw(st.lists(st.integers(0, 9), max_size=4))
        request = spoiled(request, draw(_JSON), path)
    return api, json.dumps(request).encode()


slow = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.filter_too_much,
    ],
)


@slow
@given(calls(correct=True))
def test_what_the_model_allows_passes_the_check(call):
    api, body = call
    assert request_of(api, body) == {k: v for k, v in json.loads(body).items() if v is not None}


@slow
@given(calls(correct=True))
def test_what_the_model_allows_has_one_meaning(call):
    api, body = call
    kind = operation(api)
    request = request_of(api, body)
    if api == kind.start_api:
        hashed = request_hash(kind, request)
        assert hashed == request_hash(kind, completed(kind, request))
        assert engine_options(kind, request)["face_attributes"] in ("default", "all")


@slow
@given(calls(correct=False))
def test_what_the_model_forbids_is_refused_and_nothing_else_happens(call):
    api, body = call
    code = "OK"
    try:
        request_of(api, body)
    except ApiError as error:
        code = error.code
    assert code in ("OK", "InvalidParameterException", "SerializationException")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory, aws_endpoint):
    """A service of this module's own, which may get full."""
    from service.serving import starter

    started: list = []
    service = starter(tmp_path_factory.mktemp("crowded"), aws_endpoint, started)(jobs_in_flight=5)
    yield service
    worker = until(service.children)
    assert worker
    assert "worker died" not in service.logged()
    service.stop()


CODES = {
    "OK",
    "InvalidParameterException",
    "SerializationException",
    "InvalidS3ObjectException",
    "IdempotentParameterMismatchException",
    "LimitExceededException",
    "ResourceNotFoundException",
}


@slow
@given(call=calls(correct=True) | calls(correct=False))
def test_no_request_is_a_fault_of_the_service(crowded, cloud, call):
    answer = crowded.post(*call)
    assert answer.status in (200, 400)
    assert answer.code in CODES
    assert b"Traceback" not in answer.body


@slow
@given(body=st.binary(max_size=200), target=st.text(string.printable[:95], max_size=40))
def test_no_bytes_are_a_fault_of_the_service(crowded, body, target):
    answer = crowded.post(target.strip(), body)
    assert answer.status == 400
    assert b"Traceback" not in answer.body
    assert "request failed" not in crowded.logged()
