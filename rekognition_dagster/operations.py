"""The one table of operations: all that the command line, service, lake and pipeline need of one.

An operation ties together what AWS calls it, where its results lie in a Get response, and the
Parquet table they become. The API's rows are described once, as Arrow types with the API's names
(source: the Amazon Rekognition API reference; PersonDetection, FaceDetection, LabelDetection,
SegmentDetection).
The lake's schema follows by rule: snake_case names, and a list of ``{Name}`` becomes a list of
strings. Both directions are structural renames of Arrow arrays, without a Python object per row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa


def _struct(**fields: pa.DataType) -> pa.StructType:
    return pa.struct(list(fields.items()))


_F32, _I64, _STR = pa.float32(), pa.int64(), pa.string()
_NAMES = pa.list_(_struct(Name=_STR))
_FLAG = _struct(Value=pa.bool_(), Confidence=_F32)

BOUNDING_BOX = _struct(Left=_F32, Top=_F32, Width=_F32, Height=_F32)
FACE_DETAIL = _struct(
    BoundingBox=BOUNDING_BOX,
    Confidence=_F32,
    Landmarks=pa.list_(_struct(Type=_STR, X=_F32, Y=_F32)),
    Pose=_struct(Roll=_F32, Yaw=_F32, Pitch=_F32),
    Quality=_struct(Brightness=_F32, Sharpness=_F32),
    AgeRange=_struct(Low=_I64, High=_I64),
    Smile=_FLAG,
    Eyeglasses=_FLAG,
    Sunglasses=_FLAG,
    Gender=_struct(Value=_STR, Confidence=_F32),
    Beard=_FLAG,
    Mustache=_FLAG,
    EyesOpen=_FLAG,
    MouthOpen=_FLAG,
    Emotions=pa.list_(_struct(Type=_STR, Confidence=_F32)),
    FaceOccluded=_FLAG,
    EyeDirection=_struct(Yaw=_F32, Pitch=_F32, Confidence=_F32),
)
_INSTANCE = _struct(
    BoundingBox=BOUNDING_BOX,
    Confidence=_F32,
    DominantColors=pa.list_(
        _struct(
            Red=_I64,
            Blue=_I64,
            Green=_I64,
            HexCode=_STR,
            CSSColor=_STR,
            SimplifiedColor=_STR,
            PixelPercent=_F32,
        )
    ),
)


MIN_CONFIDENCE = 50.0
"""Confidence from which labels and segments are returned where a request does not say."""


@dataclass(frozen=True)
class Column:
    """One column of a results table and where it lies in an API row.

    Args:
        name: The column's name in the lake.
        path: Member names from the API row down, e.g. ``("Person", "Index")``.
        type: Its Arrow type with the API's names.
        description: What it says, with its unit.
    """

    name: str
    path: tuple[str, ...]
    type: pa.DataType
    description: str


TIMESTAMP = "TIMESTAMP"
"""The order of results that each Get has without ``SortBy``."""


@dataclass(frozen=True)
class Operation:
    """One kind of analysis.

    Args:
        name: snake_case name, the stem of asset names: ``person_tracking``.
        api: AWS's name without its verb: ``PersonTracking``.
        results: The member of a Get response that holds the rows: ``Persons``.
        table: The lake's table: ``person_detections``.
        row: What one row is.
        finds: What the local engine finds, and with what, for the documentation.
        columns: The table's columns after ``video`` and ``job_id``.
        identity: SQL expressions that, with the time, tell two rows of a video apart.
        time: The column with a row's time, in milliseconds.
        box: SQL expression of a row's bounding box, where rows have one.
        expected: Name and description of a check that warns of a video without rows, if that is
            unusual.
        highlights: A SELECT with a row a video of ``videos``: what people want to know of its rows.
            Each column is shown under its name; one that ends in ``_ms`` as a time.
        request_members: Members of the Start request that change the results.
        ordered_members: Those that are lists whose order counts.
        always: Those that each Start needs, with the values that the pipeline sends.
        defaults: What an absent member means.
        sort_by: Sent as ``SortBy`` with each Get, where the API has it.
        sort_columns: Columns that the table's files are sorted by.
        orders: Other orders that a Get can ask for, and the columns that each sorts by;
            ``TIMESTAMP`` sorts like the table unless it is given here.
        is_aggregated: Whether a Get can ask for segments, with ``AggregateBy``.
        is_detected: Whether the detector and the rate of samples change the rows; else every frame
            is read, and no detector.
    """

    name: str
    api: str
    results: str
    table: str
    row: str
    finds: str = field(repr=False)
    columns: tuple[Column, ...] = field(repr=False)
    identity: tuple[str, ...] = field(repr=False)
    time: str = field(default="timestamp_ms", repr=False)
    box: str | None = field(default=None, repr=False)
    expected: tuple[str, str] | None = field(default=None, repr=False)
    highlights: str | None = field(default=None, repr=False)
    request_members: tuple[str, ...] = ()
    ordered_members: tuple[str, ...] = ()
    always: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    sort_by: str | None = None
    sort_columns: tuple[str, ...] = field(default=("timestamp_ms",), repr=False)
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, hash=False)
    is_aggregated: bool = field(default=False, repr=False)
    is_detected: bool = field(default=True, repr=False)

    @property
    def cli_name(self) -> str:
        """The name on the command line: ``person-tracking``."""
        return self.name.replace("_", "-")

    @property
    def start_api(self) -> str:
        """``StartPersonTracking``, as completion messages name it."""
        return f"Start{self.api}"

    @property
    def get_api(self) -> str:
        """``GetPersonTracking``."""
        return f"Get{self.api}"

    @property
    def start_method(self) -> str:
        """boto3's method: ``start_person_tracking``."""
        return f"start_{self.name}"

    @property
    def get_method(self) -> str:
        """boto3's method: ``get_person_tracking``."""
        return f"get_{self.name}"

    @property
    def page_orders(self) -> dict[str, tuple[str, ...]]:
        """Every order that a Get can ask for, and the columns that it sorts by."""
        return {TIMESTAMP: self.sort_columns, **self.orders}

    @property
    def has_faces(self) -> bool:
        """Whether its rows have faces, and so face attributes."""
        return any(c.type == FACE_DETAIL for c in self.columns)

    @cached_property
    def row_type(self) -> pa.StructType:
        """The Arrow type of one API row, built from the columns' paths."""
        return _nest({c.path: c.type for c in self.columns})

    @cached_property
    def schema(self) -> pa.Schema:
        """The lake's schema: ``video``, ``job_id`` and the columns, in snake_case."""
        return pa.schema(
            [("video", pa.string()), ("job_id", pa.string())]
            + [(c.name, lake_type(c.type)) for c in self.columns]
        )

    @property
    def descriptions(self) -> dict[str, str]:
        """What each column of the lake's table says."""
        return {
            "video": "The video, as s3://bucket/key or file:///path.",
            "job_id": "The job that found it.",
            **{c.name: c.description for c in self.columns},
        }

    def to_lake(
        self, rows: Sequence[Mapping[str, Any]] | pa.StructArray, *, video: str, job_id: str
    ) -> pa.Table:
        """API rows (as boto3 returns them, or an Arrow struct array of ``row_type``) as lake rows.

        Members that the API added since are ignored; members that are absent are null.
        """
        wire = rows if isinstance(rows, pa.Array) else pa.array(rows, type=self.row_type)
        arrays = [
            pa.repeat(pa.scalar(video, pa.string()), len(wire)),
            pa.repeat(pa.scalar(job_id, pa.string()), len(wire)),
        ]
        members: dict[tuple[str, ...], pa.Array] = {(): wire}
        arrays += [_to_lake_array(_member(members, c.path)) for c in self.columns]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def to_wire(self, table: pa.Table) -> list[dict[str, Any]]:
        """Lake rows as API rows. Null members are absent, as AWS leaves them out."""
        columns = {
            c.path: _to_wire_array(_one_chunk(table.column(c.name)), c.type)
            for c in self.columns
            if c.name in table.column_names
        }
        return [_without_nulls(row) for row in _nest_arrays(columns, table.num_rows).to_pylist()]


PERSON_TRACKING = Operation(
    name="person_tracking",
    api="PersonTracking",
    results="Persons",
    table="person_detections",
    row="a person at a time",
    finds="people, with the detector, as paths; faces with YuNet",
    columns=(
        Column("timestamp_ms", ("Timestamp",), _I64, "Milliseconds since the start of the video."),
        Column("person_index", ("Person", "Index"), _I64, "Which person of this video, from 0."),
        Column(
            "bounding_box",
            ("Person", "BoundingBox"),
            BOUNDING_BOX,
            "Where, in ratios of the frame.",
        ),
        Column(
            "confidence",
            ("Person", "Confidence"),
            _F32,
            "0 to 100, from the local engine where it saw them; the API has none.",
        ),
        Column(
            "interpolated",
            ("Person", "Interpolated"),
            pa.bool_(),
            "Whether the local engine filled the box in, between two times at which it saw them; "
            "the API does not tell.",
        ),
        Column(
            "face",
            ("Person", "Face"),
            FACE_DETAIL,
            "Their face, where it was seen; see face_detections.",
        ),
        Column(
            "face_interpolated",
            ("Person", "FaceInterpolated"),
            pa.bool_(),
            "Whether the face was seen at another time, within a second of this one, and moved "
            "with the person's head; null without a face, and from the API.",
        ),
    ),
    identity=("person_index",),
    box="bounding_box",
    expected=(
        "has_people",
        "People are found in the video; a video of an empty place only warns.",
    ),
    highlights="""
        WITH people AS (
            SELECT video, person_index, max(timestamp_ms) - min(timestamp_ms) AS stay_ms,
                bool_or(face IS NOT NULL) AS has_face,
                count(interpolated) AS known, count(*) FILTER (interpolated) AS filled
            FROM person_detections GROUP BY video, person_index
        ),
        moments AS (
            SELECT video, timestamp_ms, count(*) AS people
            FROM person_detections GROUP BY video, timestamp_ms
        ),
        busiest AS (
            SELECT video, max(people) AS people,
                arg_max(timestamp_ms, (people, -timestamp_ms)) AS ms
            FROM moments GROUP BY video
        )
        SELECT v.video, count(person_index) AS people,
            count(*) FILTER (has_face) AS people_with_a_face, max(stay_ms) AS longest_stay_ms,
            any_value(b.people) AS most_people_at_once, any_value(b.ms) AS busiest_moment_ms,
            round(sum(filled) / nullif(sum(known), 0), 3) AS share_interpolated
        FROM videos v LEFT JOIN people USING (video) LEFT JOIN busiest b USING (video)
        GROUP BY v.video
    """,
    sort_by=TIMESTAMP,
    sort_columns=("timestamp_ms", "person_index"),
    orders={"INDEX": ("person_index", "unsureness", "timestamp_ms")},
)
FACE_DETECTION = Operation(
    name="face_detection",
    api="FaceDetection",
    results="Faces",
    table="face_detections",
    row="a face at a time",
    finds="faces, with YuNet, whatever the detector",
    columns=(
        Column("timestamp_ms", ("Timestamp",), _I64, "Milliseconds since the start of the video."),
        Column(
            "face",
            ("Face",),
            FACE_DETAIL,
            "Box and landmarks in ratios of the frame, pose in degrees, the rest 0 to 100.",
        ),
    ),
    identity=("face.bounding_box",),
    box="face.bounding_box",
    highlights="""
        WITH moments AS (
            SELECT video, timestamp_ms, count(*) AS faces
            FROM face_detections GROUP BY video, timestamp_ms
        )
        SELECT v.video, coalesce(sum(faces), 0)::BIGINT AS faces,
            max(faces) AS most_faces_at_once,
            arg_max(timestamp_ms, (faces, -timestamp_ms)) AS busiest_moment_ms
        FROM videos v LEFT JOIN moments USING (video) GROUP BY v.video
    """,
    request_members=("FaceAttributes",),
    defaults={"FaceAttributes": "DEFAULT"},
)
LABEL_DETECTION = Operation(
    name="label_detection",
    api="LabelDetection",
    results="Labels",
    table="label_detections",
    row="a label at a time",
    finds="every class of the detector, and its ancestors",
    columns=(
        Column("timestamp_ms", ("Timestamp",), _I64, "Milliseconds since the start of the video."),
        Column("name", ("Label", "Name"), _STR, "What it is, e.g. Person or Car."),
        Column("confidence", ("Label", "Confidence"), _F32, "0 to 100."),
        Column(
            "instances",
            ("Label", "Instances"),
            pa.list_(_INSTANCE),
            "Each one in the frame, with its box, where the detector has boxes.",
        ),
        Column("parents", ("Label", "Parents"), _NAMES, "More general labels."),
        Column("categories", ("Label", "Categories"), _NAMES, "What kind of label it is."),
        Column("aliases", ("Label", "Aliases"), _NAMES, "Other names for it."),
        Column(
            "start_timestamp_ms",
            ("StartTimestampMillis",),
            _I64,
            "Start of its segment, where labels are aggregated by segments.",
        ),
        Column("end_timestamp_ms", ("EndTimestampMillis",), _I64, "End of its segment."),
        Column("duration_ms", ("DurationMillis",), _I64, "Length of its segment."),
    ),
    identity=("name",),
    highlights="""
        WITH named AS (
            SELECT video, name, count(*) AS times FROM label_detections GROUP BY video, name
        )
        SELECT v.video, count(name) AS labels,
            array_to_string(
                list(name ORDER BY times DESC, name) FILTER (name IS NOT NULL)[:5], ', '
            ) AS most_often
        FROM videos v LEFT JOIN named USING (video) GROUP BY v.video
    """,
    request_members=("MinConfidence", "Features", "Settings"),
    defaults={"MinConfidence": MIN_CONFIDENCE, "Features": ["GENERAL_LABELS"]},
    sort_by=TIMESTAMP,
    sort_columns=("timestamp_ms", "name"),
    orders={"NAME": ("name", "timestamp_ms")},
    is_aggregated=True,
)
SEGMENT_DETECTION = Operation(
    name="segment_detection",
    api="SegmentDetection",
    results="Segments",
    table="segment_detections",
    row="a segment of a video: a shot, or a run of black frames",
    finds="shots and black frames, from small grey pictures of every frame, without a network",
    columns=(
        Column("type", ("Type",), _STR, "SHOT or TECHNICAL_CUE."),
        Column(
            "start_timestamp_ms",
            ("StartTimestampMillis",),
            _I64,
            "Time of its first frame, in milliseconds since the start of the video.",
        ),
        Column("end_timestamp_ms", ("EndTimestampMillis",), _I64, "Time of its last frame."),
        Column("duration_ms", ("DurationMillis",), _I64, "From its first frame to its last."),
        Column(
            "start_timecode_smpte",
            ("StartTimecodeSMPTE",),
            _STR,
            "Its first frame as HH:MM:SS:FF, with ; before FF where numbers are dropped.",
        ),
        Column("end_timecode_smpte", ("EndTimecodeSMPTE",), _STR, "Its last frame, likewise."),
        Column("duration_smpte", ("DurationSMPTE",), _STR, "Its length, likewise."),
        Column("start_frame_number", ("StartFrameNumber",), _I64, "Its first frame, from 0."),
        Column("end_frame_number", ("EndFrameNumber",), _I64, "Its last frame."),
        Column("duration_frames", ("DurationFrames",), _I64, "The one less the other."),
        Column("shot_index", ("ShotSegment", "Index"), _I64, "Which shot of the video, from 0."),
        Column("shot_confidence", ("ShotSegment", "Confidence"), _F32, "50 to 100."),
        Column(
            "cue_type",
            ("TechnicalCueSegment", "Type"),
            _STR,
            "BlackFrames from the local engine; AWS has others, too.",
        ),
        Column("cue_confidence", ("TechnicalCueSegment", "Confidence"), _F32, "50 to 100."),
    ),
    identity=("type", "cue_type"),
    time="start_timestamp_ms",
    expected=("has_segments", "Every video has a shot at least."),
    highlights="""
        SELECT v.video, count(*) FILTER (type = 'SHOT') AS shots,
            max(s.duration_ms) FILTER (type = 'SHOT') AS longest_shot_ms,
            coalesce(sum(s.duration_ms) FILTER (cue_type = 'BlackFrames'), 0)::BIGINT AS black_ms
        FROM videos v LEFT JOIN segment_detections s USING (video) GROUP BY v.video
    """,
    request_members=("SegmentTypes", "Filters"),
    ordered_members=("SegmentTypes",),  # segments are sorted by it
    always={"SegmentTypes": ["TECHNICAL_CUE", "SHOT"]},
    defaults={
        "Filters": {
            "TechnicalCueFilter": {
                "MinSegmentConfidence": MIN_CONFIDENCE,
                "BlackFrame": {"MaxPixelThreshold": 0.2, "MinCoveragePercentage": 99.0},
            },
            "ShotFilter": {"MinSegmentConfidence": MIN_CONFIDENCE},
        }
    },
    sort_columns=("start_timestamp_ms", "type"),
    orders={TIMESTAMP: ("type_rank", "start_timestamp_ms")},
    is_detected=False,
)

OPERATIONS: Mapping[str, Operation] = {
    o.name: o for o in (PERSON_TRACKING, FACE_DETECTION, LABEL_DETECTION, SEGMENT_DETECTION)
}
"""Every operation by its name."""


def operation(name: str) -> Operation:
    """The operation called ``name``: ``person_tracking``, ``person-tracking``,
    ``PersonTracking``, ``StartPersonTracking`` or ``GetPersonTracking``.

    Raises:
        KeyError: No operation has that name; the text lists those there are.
    """
    for o in OPERATIONS.values():
        if name in (o.name, o.cli_name, o.api, o.start_api, o.get_api):
            return o
    known = ", ".join(o.cli_name for o in OPERATIONS.values())
    raise KeyError(f"unknown operation {name!r}; there are {known}")


# -- structural renames ---------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def snake_case(name: str) -> str:
    """``BoundingBox`` -> ``bounding_box``, ``CSSColor`` -> ``css_color``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@lru_cache(maxsize=1024)
def _is_name_struct(type_: pa.DataType) -> bool:
    return pa.types.is_struct(type_) and [f.name for f in type_] == ["Name"]


@lru_cache(maxsize=1024)
def lake_type(wire: pa.DataType) -> pa.DataType:
    """The lake's Arrow type for an API type: snake_case members, ``{Name}`` as a string."""
    if _is_name_struct(wire):
        return pa.string()
    if pa.types.is_struct(wire):
        return pa.struct([(snake_case(f.name), lake_type(f.type)) for f in wire])
    if pa.types.is_list(wire):
        return pa.list_(lake_type(wire.value_type))
    return wire


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def _list_like(array: pa.ListArray, values: pa.Array) -> pa.ListArray:
    offsets = array.offsets  # of a slice, these still index into the whole of array.values
    return pa.ListArray.from_arrays(offsets, values, mask=_mask(array))


def _compact(array: pa.Array) -> pa.Array:
    """The array without an offset: ListArray.from_arrays takes no mask beside sliced offsets."""
    return (
        pa.concat_arrays([array]) if array.offset == 0 else array.take(pa.array(range(len(array))))
    )


def _to_lake_array(array: pa.Array) -> pa.Array:
    wire = array.type
    if _is_name_struct(wire):
        return array.field(0)
    if pa.types.is_struct(wire):
        return pa.StructArray.from_arrays(
            [_to_lake_array(array.field(i)) for i in range(wire.num_fields)],
            fields=list(lake_type(wire)),
            mask=_mask(array),
        )
    if pa.types.is_list(wire):
        array = _compact(array)
        return _list_like(array, _to_lake_array(array.values))
    return array


def _to_wire_array(array: pa.Array, wire: pa.DataType) -> pa.Array:
    if _is_name_struct(wire):
        return pa.StructArray.from_arrays([array], fields=list(wire), mask=_mask(array))
    if pa.types.is_struct(wire):
        by_name = {f.name: i for i, f in enumerate(array.type)}
        return pa.StructArray.from_arrays(
            [_to_wire_array(array.field(by_name[snake_case(f.name)]), f.type) for f in wire],
            fields=list(wire),
            mask=_mask(array),
        )
    if pa.types.is_list(wire):
        array = _compact(array)
        return _list_like(array, _to_wire_array(array.values, wire.value_type))
    return array


def _groups(paths: Iterable[tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    grouped: dict[str, list[tuple[str, ...]]] = {}
    for head, *tail in paths:
        grouped.setdefault(head, []).append(tuple(tail))
    return grouped


def _nest(types: Mapping[tuple[str, ...], pa.DataType]) -> pa.StructType:
    return pa.struct(
        [
            (head, types[(head,)])
            if tails == [()]
            else (head, _nest({t: types[(head, *t)] for t in tails}))
            for head, tails in _groups(types).items()
        ]
    )


def _nest_arrays(arrays: Mapping[tuple[str, ...], pa.Array], length: int) -> pa.StructArray:
    children, names = [], []
    for head, tails in _groups(arrays).items():
        names.append(head)
        children.append(
            arrays[(head,)]
            if tails == [()]
            else _nest_arrays({t: arrays[(head, *t)] for t in tails}, length)
        )
    return pa.StructArray.from_arrays(children, names=names)


def _member(members: dict[tuple[str, ...], pa.Array], path: tuple[str, ...]) -> pa.Array:
    """A member of nested structs, null wherever a struct above it is null.

    ``members`` has the outermost struct as ``()`` and keeps what was flattened on the way."""
    if path not in members:
        parent = _member(members, path[:-1])
        for member, array in zip(parent.type, parent.flatten(), strict=True):
            members[(*path[:-1], member.name)] = array
        if path not in members:
            raise KeyError(f"the API row has no member {path[-1]!r}; it has {parent.type}")
    return members[path]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value
