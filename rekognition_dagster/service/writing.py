"""Write a job's results: the rows that its request selects, in each order of its Get.

One Parquet file per order, so that any page of any order is a slice. Reading is in ``results``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute

from rekognition_dagster.engine import SampleFps
from rekognition_dagster.lake.writer import TableWriter
from rekognition_dagster.operations import (
    FACE_DETECTION,
    LABEL_DETECTION,
    PERSON_TRACKING,
    SEGMENT_DETECTION,
    TIMESTAMP,
    Operation,
)
from rekognition_dagster.service.requests import completed
from rekognition_dagster.service.results import Results, path_of
from rekognition_dagster.service.store import Job

pc: Any = pyarrow.compute  # its functions are made at run time, type checkers see none


ROW_GROUP_ROWS = 4096
"""A page's 1,000 rows are a slice of one or two groups; larger groups cost each page more,
smaller ones make the footer of a large file heavy."""

TIMESTAMPS, SEGMENTS = "TIMESTAMPS", "SEGMENTS"

SEGMENT_GAP_MS = 1000
"""A label that is absent for longer than this starts a new segment when it returns; where frames
are sampled less than twice a second, one sample without it does not end its segment."""

# Columns that results are sorted by beside the table's own: files are sorted upwards.
_DERIVED: Mapping[str, tuple[pa.DataType, Callable[[pa.Table, Mapping[str, Any]], Any]]] = {
    "unsureness": (pa.float32(), lambda rows, request: pc.negate(rows["confidence"])),
    "type_rank": (
        pa.int32(),
        lambda rows, request: pc.index_in(rows["type"], pa.array(request["SegmentTypes"])),
    ),
}

_DEFAULT_ATTRIBUTES = ("bounding_box", "confidence", "landmarks", "pose", "quality")
_NEVER_IN_VIDEO = ("face_occluded", "eye_direction")

Rows = Iterable[Mapping[str, Any]]


def orders_of(operation: Operation) -> tuple[str, ...]:
    """Every order that the operation's Get can ask for."""
    orders = tuple(operation.page_orders)
    if operation.is_aggregated:
        orders += tuple(f"{SEGMENTS}-{order}" for order in orders)
    return orders


def order_of(request: Mapping[str, Any]) -> str:
    """The order that a Get request asks for."""
    sort = request.get("SortBy", TIMESTAMP)
    return f"{SEGMENTS}-{sort}" if request.get("AggregateBy") == SEGMENTS else sort


class ResultsWriter:
    """Writes a job's rows in every order; a context manager.

    Leaving the ``with`` block normally publishes the files, leaving it by an exception none.

    Args:
        results: Where results lie.
        folder: The job's folder there.
        operation: The job's operation.
        job: The job; its request says which rows and attributes it wants.
        sample_fps: Frames per second that the rows come from, where it is not every frame.
        publish: What makes a complete file appear at its path; by default the storage does.
    """

    def __init__(
        self,
        results: Results,
        folder: str,
        operation: Operation,
        job: Job,
        sample_fps: SampleFps = None,
        publish: Callable[[IO[bytes], str], None] | None = None,
    ) -> None:
        self._operation, self._job = operation, job
        self._writers = {
            order: _writer(results, folder, operation, order, publish)
            for order in orders_of(operation)
        }
        self._select = _selection(operation, job.request)
        self._segments = _Segments(_gap_ms(sample_fps)) if operation.is_aggregated else None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ResultsWriter:
        for writer in self._writers.values():
            self._stack.enter_context(writer)
        return self

    def write(self, rows: Rows) -> None:
        """Add rows as the engine makes them: dicts by the lake's columns, in order of time."""
        selected = list(self._select(rows))
        self._write(selected, segments=False)
        if self._segments is not None:
            self._write(list(self._segments.ended_by(selected)), segments=True)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None and self._segments is not None:
            self._write(list(self._segments.rest()), segments=True)
        self._stack.__exit__(kind, error, trace)

    @property
    def orders(self) -> dict[str, int]:
        """Rows in each order; complete once the block is left."""
        return {order: writer.rows for order, writer in self._writers.items()}

    def _write(self, rows: Rows, *, segments: bool) -> None:
        whose = {"video": self._job.video, "job_id": self._job.job_id}
        table = pa.Table.from_pylist(
            [{**row, **whose} for row in rows], schema=self._operation.schema
        )
        if not table.num_rows:
            return
        for order, writer in self._writers.items():
            if order.startswith(SEGMENTS) != segments:
                continue
            extended = table
            for name in writer.schema.names[table.num_columns :]:
                extended = extended.append_column(name, _DERIVED[name][1](table, self._job.request))
            writer.write(extended)


def _writer(
    results: Results,
    folder: str,
    operation: Operation,
    order: str,
    publish: Callable[[IO[bytes], str], None] | None,
) -> TableWriter:
    sort = operation.page_orders[order.removeprefix(f"{SEGMENTS}-")]
    schema = operation.schema
    for name in sort:
        if name in _DERIVED:
            schema = schema.append(pa.field(name, _DERIVED[name][0]))
    path = path_of(folder, order)
    return TableWriter(
        results.storage, path, schema, sort, row_group_rows=ROW_GROUP_ROWS, publish=publish
    )


def _selection(operation: Operation, request: Mapping[str, Any]) -> Callable[[Rows], Rows]:
    """What of the engine's rows the request asks for."""
    select = _SELECTIONS.get(operation.name)
    if select is None:
        return lambda rows: rows
    whole = completed(operation, request)
    return lambda rows: select(rows, whole)


def _faces(rows: Rows, request: Mapping[str, Any]) -> Rows:
    if request.get("FaceAttributes") == "ALL":
        return (_with_face(row, lambda name: name not in _NEVER_IN_VIDEO) for row in rows)
    return (_with_face(row, _DEFAULT_ATTRIBUTES.__contains__) for row in rows)


def _segments(rows: Rows, request: Mapping[str, Any]) -> Rows:
    """Select segments by their type, and by the least confidence that its filter names."""
    filters = request["Filters"]
    least = {
        "TECHNICAL_CUE": filters["TechnicalCueFilter"]["MinSegmentConfidence"],
        "SHOT": filters["ShotFilter"]["MinSegmentConfidence"],
    }
    wanted = {name: least[name] for name in request["SegmentTypes"]}
    for row in rows:
        confidence = row.get("shot_confidence", row.get("cue_confidence", 0.0))
        if row["type"] in wanted and confidence >= wanted[row["type"]]:
            yield row


def _with_face(row: Mapping[str, Any], wanted: Callable[[str], bool]) -> Mapping[str, Any]:
    face = row.get("face")
    return {**row, "face": {k: v for k, v in face.items() if wanted(k)}} if face else row


def _labels(rows: Rows, request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Select labels by their own confidence, name and categories.

    The API has each ancestor as a label of its own, so filters do not reach from one label to
    another: without ``Vehicle`` there is still ``Car``. A name or a category is enough to include
    a label; an exclusion wins over an inclusion.
    """
    least = request["MinConfidence"]
    filters = request.get("Settings", {}).get("GeneralLabels", {})
    included, included_categories, excluded, excluded_categories = (
        frozenset(filters.get(f"Label{kind}Filters", ()))
        for kind in ("Inclusion", "CategoryInclusion", "Exclusion", "CategoryExclusion")
    )
    everything = not (included or included_categories)
    for row in rows:
        name, categories = row["name"], row.get("categories") or ()
        if row["confidence"] < least:
            continue
        if name in excluded or excluded_categories.intersection(categories):
            continue
        if everything or name in included or included_categories.intersection(categories):
            instances = row.get("instances") or ()
            kept = [i for i in instances if (i.get("confidence") or 0.0) >= least]
            yield {**row, "instances": kept}


_SELECTIONS: Mapping[str, Callable[[Rows, Mapping[str, Any]], Rows]] = {
    PERSON_TRACKING.name: _faces,
    FACE_DETECTION.name: _faces,
    LABEL_DETECTION.name: _labels,
    SEGMENT_DETECTION.name: _segments,
}


def _gap_ms(sample_fps: SampleFps) -> float:
    if isinstance(sample_fps, str) or not sample_fps:
        return SEGMENT_GAP_MS
    return max(SEGMENT_GAP_MS, 2000 / sample_fps + 1)  # sampled times are whole milliseconds


@dataclass
class _Segments:
    """Merge detections of a label that follow each other closely into one row.

    Memory holds one open segment per label. A segment's confidence is its highest.
    """

    gap_ms: float
    _open: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ended_by(self, rows: Rows) -> Iterator[dict[str, Any]]:
        """Take rows, later than all before, and return the segments that have ended."""
        for row in rows:
            now, name = row["timestamp_ms"], row["name"]
            segment = self._open.get(name)
            if segment is not None and now - segment["end_timestamp_ms"] > self.gap_ms:
                yield _closed(self._open.pop(name))
                segment = None
            if segment is None:
                taxonomy = {k: row.get(k) for k in ("parents", "categories", "aliases")}
                self._open[name] = {
                    **taxonomy,
                    "name": name,
                    "timestamp_ms": now,
                    "start_timestamp_ms": now,
                    "end_timestamp_ms": now,
                    "confidence": row["confidence"],
                }
            else:
                segment["end_timestamp_ms"] = max(now, segment["end_timestamp_ms"])
                segment["confidence"] = max(row["confidence"], segment["confidence"])

    def rest(self) -> Iterator[dict[str, Any]]:
        """Return the segments that are open at the video's end."""
        while self._open:
            yield _closed(self._open.popitem()[1])


def _closed(segment: dict[str, Any]) -> dict[str, Any]:
    start, end = segment["start_timestamp_ms"], segment["end_timestamp_ms"]
    return {**segment, "duration_ms": end - start}
