"""Keys, partitions and tokens: reversible, readable, and equal for equal work only."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekognition_dagster.videos import Partitioning, Video, idempotency_token, is_video_key

# What Dagster refuses in a partition key.
FORBIDDEN = ["...", *"\a\b\f\n\r\t\v\0"]

keys = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300),
    st.lists(
        st.sampled_from(
            ["...", ".", "%", "%2E", "+", " ", "/", "\n", "\x7f", "é", "日本", "a", ".mp4"]
        ),
        min_size=1,
    ).map("".join),
).filter(lambda key: len(key.encode()) <= 1024)
buckets = st.from_regex(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", fullmatch=True).filter(
    lambda b: ".." not in b
)


@given(buckets, keys)
def test_every_legal_key_comes_back_from_its_partition(bucket: str, key: str) -> None:
    partition = Video(bucket, key).partition_key
    assert Video.from_partition_key(partition) == Video(bucket, key)
    assert not any(part in partition for part in FORBIDDEN)
    assert partition == partition.strip()


@given(st.tuples(buckets, keys), st.tuples(buckets, keys))
def test_two_objects_never_share_a_partition_or_a_file(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    same = one == other
    assert (Video(*one).partition_key == Video(*other).partition_key) is same
    assert (Video(*one).id == Video(*other).id) is same


def test_a_key_of_1024_bytes_is_a_partition() -> None:
    key = "\x01" * 1024
    assert Video.from_partition_key(Video("bucket", key).partition_key).key == key


def test_ordinary_keys_stay_readable() -> None:
    video = Video("cameras", "lobby/2026-01-31/08 00 + 09 00 (été).mp4")
    assert video.partition_key == "cameras/lobby/2026-01-31/08 00 + 09 00 (été).mp4"


@pytest.mark.parametrize("text", ["", "bucket", "bucket/", "b/%", "b/%zz", "b/a%41", "b/%FF", "/k"])
def test_what_is_no_partition_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"partition key|codec"):
        Video.from_partition_key(text)


def test_a_local_file_is_a_partition_too() -> None:
    video = Video.from_uri("/videos/a b.mp4")
    assert video.partition_key == "file:/videos/a b.mp4"
    assert video.uri == "file:///videos/a b.mp4"
    assert Video.from_partition_key(video.partition_key) == video


work = st.tuples(
    st.sampled_from(["person_tracking", "face_detection", "label_detection"]),
    st.builds(Video, buckets, keys, version_id=st.none() | st.text("abc", min_size=1, max_size=9)),
    st.dictionaries(st.sampled_from(["FaceAttributes", "JobTag"]), st.text("AB", max_size=3)),
    st.integers(1, 3),
)


@given(work, work)
def test_tokens_are_equal_for_equal_work_and_for_no_other(one: tuple, other: tuple) -> None:
    assert (idempotency_token(*one) == idempotency_token(*other)) is (one == other)


@given(work)
def test_tokens_fit_the_documented_pattern(one: tuple) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9\-_]{1,64}", idempotency_token(*one))


@given(buckets, keys)
def test_file_names_are_safe_anywhere(bucket: str, key: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9\-]{16,96}", Video(bucket, key).id)


@pytest.mark.parametrize(
    ("key", "day"),
    [
        ("cam/2026/01/31/a.mp4", date(2026, 1, 31)),
        ("cam-7_20260131T0800.mp4", date(2026, 1, 31)),
        ("date=2026-01-31/a.mp4", date(2026, 1, 31)),
        ("2026-13-45/a.mp4", date(2025, 6, 7)),
        ("a.mp4", date(2025, 6, 7)),
        ("1202601311.mp4", date(2025, 6, 7)),
    ],
)
def test_the_day_of_recording_is_in_the_key_or_else_the_upload(key: str, day: date) -> None:
    uploaded = datetime(2025, 6, 7, 23, 59, tzinfo=timezone.utc)
    assert Video("b", key, last_modified=uploaded).recorded_on() == day


@pytest.mark.parametrize(
    ("key", "expected"),
    [("a.mp4", True), ("a.MOV", True), ("a.txt", False), ("a.mp4/", False), ("mp4", False)],
)
def test_video_keys_are_told_by_their_suffix(key: str, expected: bool) -> None:
    assert is_video_key(key) is expected


@pytest.mark.parametrize(
    ("pattern", "key", "partition"),
    [
        (None, "cam/2026-01-31/a.mp4", "b/cam/2026-01-31/a.mp4"),
        ("{camera}/{date}", "cam/2026-01-31/0815.mp4", "b/cam/2026-01-31"),
        ("{camera}/{date}", "site/cam/20260131_0815.mp4", "b/site/cam/20260131"),
        ("{camera}/{date}", "cam/0815.mp4", "b/cam/0815.mp4"),
        ("{camera}_{date}", "x/cam 1_20260131T08.mp4", "b/x/cam 1_20260131"),
        ("{site}/{camera}", "s/c/d/e.mp4", "b/s/c"),
        ("{year}/{month}/{camera}", "2026/01/cam/31/a.mp4", "b/2026/01/cam"),
        ("{camera}/{year}/{month}", "cam/2026/013/a.mp4", "b/cam/2026/013/a.mp4"),
        ("{camera}/{date}", "c...m/2026-01-31/a.mp4", "b/c..%2Em/2026-01-31"),
    ],
)
def test_a_pattern_puts_videos_into_one_partition(
    pattern: str | None, key: str, partition: str
) -> None:
    assert Partitioning(pattern).partition_of(Video("b", key)) == partition


@pytest.mark.parametrize("pattern", ["", "camera", "{camera", "{camera}}", "{}"])
def test_a_pattern_without_a_field_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="no pattern over keys"):
        Partitioning(pattern)
