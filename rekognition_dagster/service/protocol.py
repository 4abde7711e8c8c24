"""The wire protocol, read from botocore's own service model: AWS JSON 1.1 with its errors.

One interpreter over the model checks any request and shapes any response. Which operations are
served and what they do is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import botocore.loaders
import orjson
from botocore.model import OperationModel, ServiceModel, Shape

TARGET_PREFIX = "RekognitionService."
CONTENT_TYPE = "application/x-amz-json-1.1"

STATUS_CODES: Mapping[str, int] = {
    "InternalServerError": 500,
    "ThrottlingException": 500,
    "RequestEntityTooLargeException": 413,
}
"""HTTP statuses of errors, where they are not 400 (source: the API reference, Errors)."""


class ApiError(Exception):
    """An error that a client is told.

    Args:
        code: AWS's name of it, e.g. ``InvalidParameterException``.
        message: What happened, to which member or video, and what to do.
    """

    def __init__(self, code: str, message: str):
        self.code, self.message = code, message
        self.status = STATUS_CODES.get(code, 400)
        super().__init__(f"{code}: {message}")


@cache
def service_model() -> ServiceModel:
    """Rekognition's service model, as the installed botocore has it."""
    loader = botocore.loaders.create_loader()
    return ServiceModel(loader.load_service_model("rekognition", "service-2"), "rekognition")


@cache
def operation_model(name: str) -> OperationModel:
    """The model of one operation, e.g. ``StartPersonTracking``."""
    return service_model().operation_model(name)


def request_of(operation: str, body: bytes) -> dict[str, Any]:
    """The checked request in ``body``. Members that the model does not know are left out.

    Raises:
        ApiError: ``SerializationException`` where the body is no JSON object,
            ``InvalidParameterException`` where a member is missing or out of its constraint.
    """
    try:
        value = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ApiError("SerializationException", f"the request is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError("SerializationException", "the request must be a JSON object")
    shape: Shape = operation_model(operation).input_shape  # type: ignore[assignment]
    return checked(shape, value, "")


def checked(shape: Shape, value: Any, path: str) -> Any:
    """``value`` as ``shape`` allows it: known members only, nulls left out.

    Args:
        shape: botocore's shape.
        value: Parsed JSON.
        path: Where in the request, for the error.

    Raises:
        ApiError: ``InvalidParameterException``, naming the member.
    """
    return _CHECKS[shape.type_name](shape, value, path)


def _refuse(path: str, value: Any, constraint: str) -> ApiError:
    shown = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    shown = shown if len(shown) <= 64 else shown[:61] + "..."
    return ApiError(
        "InvalidParameterException",
        f"1 validation error detected: Value '{shown}' at '{path}' failed to satisfy constraint: "
        f"{constraint}",
    )


def _structure(shape: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refuse(path, value, "Member must be a structure")
    for name in shape.required_members:
        if value.get(name) is None:
            where = f"{path}.{name}" if path else name
            raise ApiError(
                "InvalidParameterException",
                f"1 validation error detected: Value null at '{where}' failed to satisfy "
                "constraint: Member must not be null",
            )
    return {
        name: checked(member, value[name], f"{path}.{name}" if path else name)
        for name, member in shape.members.items()
        if value.get(name) is not None
    }


def _list(shape: Any, value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise _refuse(path, value, "Member must be a list")
    _length(shape, value, path)
    return [checked(shape.member, item, f"{path}.{i + 1}.member") for i, item in enumerate(value)]


def _map(shape: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refuse(path, value, "Member must be a map")
    _length(shape, value, path)
    return {
        checked(shape.key, k, path): checked(shape.value, v, f"{path}.{k}")
        for k, v in value.items()
    }


def _string(shape: Any, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _refuse(path, value, "Member must be a string")
    _length(shape, value, path)
    if shape.enum and value not in shape.enum:
        raise _refuse(path, value, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    pattern = shape.metadata.get("pattern")
    if pattern is not None and not _compiled(pattern).fullmatch(value):
        raise _refuse(path, value, f"Member must satisfy regular expression pattern: {pattern}")
    return value


def _number(shape: Any, value: Any, path: str) -> int | float:
    whole = shape.type_name in ("integer", "long")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise _refuse(path, value, f"Member must be {'an integer' if whole else 'a number'}")
    bits = {"integer": 31, "long": 63}.get(shape.type_name)
    least = shape.metadata.get("min", -(2**bits) if bits else None)
    most = shape.metadata.get("max", 2**bits - 1 if bits else None)
    if least is not None and value < least:
        raise _refuse(path, value, f"Member must have value greater than or equal to {least}")
    if most is not None and value > most:
        raise _refuse(path, value, f"Member must have value less than or equal to {most}")
    return value


def _boolean(shape: Any, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _refuse(path, value, "Member must be a boolean")
    return value


def _opaque(shape: Any, value: Any, path: str) -> Any:
    return value


_CHECKS = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "character": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "boolean": _boolean,
    "blob": _opaque,
    "timestamp": _opaque,
}


def _length(shape: Any, value: Any, path: str) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        raise _refuse(path, value, f"Member must have length greater than or equal to {least}")
    if most is not None and len(value) > most:
        raise _refuse(path, value, f"Member must have length less than or equal to {most}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)  # the services' \w and \d are ASCII's


def shaped(shape: Shape, value: Any) -> Any:
    """``value`` with the members that ``shape`` has; what is None is absent, as AWS leaves it."""
    if shape.type_name == "structure":
        members = shape.members  # type: ignore[attr-defined]
        return {
            name: shaped(members[name], member)
            for name, member in value.items()
            if member is not None and name in members
        }
    if shape.type_name == "list":
        return [shaped(shape.member, item) for item in value]  # type: ignore[attr-defined]
    return value


BACKEND_HEADER = "X-Rekognition-Dagster-Backend"
"""Header of a Get response: what did the work, and the software's version, separated by ``;``."""


class Answer(bytes):
    """A response's body, with headers of its own."""

    headers: dict[str, str]

    @classmethod
    def of(cls, body: bytes, headers: dict[str, str]) -> Answer:
        """A body with headers."""
        answer = cls(body)
        answer.headers = headers
        return answer


def response_body(
    operation: str, value: Mapping[str, Any], rows: tuple[str, bytes] | None = None
) -> bytes:
    """The response as JSON.

    Args:
        operation: Its name.
        value: Members to be shaped by the model.
        rows: A member that is shaped and JSON already: its name, and its text.
    """
    output: Shape = operation_model(operation).output_shape  # type: ignore[assignment]
    body = orjson.dumps(shaped(output, value))
    if rows is None:
        return body
    name, text = rows
    comma = b"," if len(body) > 2 else b""
    return b'%s%s"%s":%s}' % (body[:-1], comma, name.encode(), text)


def error_body(error: ApiError, request_id: str) -> bytes:
    """An error as AWS writes it: its type, and Rekognition's Message, Code and Logref."""
    return orjson.dumps(
        {
            "__type": error.code,
            "Message": error.message,
            "Code": error.code,
            "Logref": request_id,
        }
    )
