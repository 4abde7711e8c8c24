"""Pages go from the wire to Arrow without a Python object per row.

botocore's parser makes a dict of every row, which costs more than everything else that is done
with a page. So the rows are taken out of the response's body before it parses: botocore sees the
same response with an empty list, and hands out the rows as an Arrow array in its place.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json

from rekognition_dagster.operations import OPERATIONS, Operation

_BESIDE_THE_ROWS = pa.schema(
    [("JobStatus", pa.string()), ("StatusMessage", pa.string()), ("NextToken", pa.string())]
)
_VIDEO_METADATA = pa.struct(
    [
        ("Codec", pa.string()),
        ("DurationMillis", pa.int64()),
        ("Format", pa.string()),
        ("FrameRate", pa.float64()),
        ("FrameHeight", pa.int64()),
        ("FrameWidth", pa.int64()),
        ("ColorRange", pa.string()),
    ]
)


def parse_rows_with_arrow(client: Any) -> None:
    """Make a boto3 ``rekognition`` client give Get responses whose rows are a ``pa.StructArray``
    of :attr:`Operation.row_type`. Doing so twice changes nothing more."""
    for operation in OPERATIONS.values():
        output = client.meta.service_model.operation_model(operation.get_api).output_shape
        is_list = output.members["VideoMetadata"].type_name == "list"
        metadata = pa.list_(_VIDEO_METADATA) if is_list else _VIDEO_METADATA
        schema = _BESIDE_THE_ROWS.append(pa.field("VideoMetadata", metadata)).append(
            pa.field(operation.results, pa.list_(operation.row_type))
        )
        client.meta.events.register(
            f"before-parse.rekognition.{operation.get_api}",
            partial(_take_rows, operation, schema),
            unique_id=f"rekognition-dagster-{operation.name}",
        )


def _take_rows(
    operation: Operation,
    schema: pa.Schema,
    response_dict: dict[str, Any],
    customized_response_dict: dict[str, Any],
    **_: Any,
) -> None:
    if response_dict["status_code"] != 200:
        return
    body = response_dict["body"]
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(body),
            # One block, for the whole body is one record.
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(body) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, newlines_in_values=True, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid:
        return  # no JSON, or none that was foreseen: botocore may tell, or read it
    rows = table.column(operation.results).combine_chunks().flatten()
    beside = table.drop_columns(operation.results).to_pylist()
    if len(beside) != 1:
        return
    response_dict["body"] = orjson.dumps(_known(beside[0]))
    customized_response_dict[operation.results] = rows


def _known(value: Any) -> Any:
    """The value without members that are null."""
    if isinstance(value, dict):
        return {k: _known(v) for k, v in value.items() if v is not None}
    return [_known(v) for v in value] if isinstance(value, list) else value
