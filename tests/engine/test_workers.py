"""Processes share the work on a video, and its rows are those of one process."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from rekognition_dagster.engine import analyze, open_workers, spans, workers
from rekognition_dagster.errors import ModelError, VideoError

from . import scripted
from .conftest import write_video

SPOT = f"{scripted.__name__}:Spot"
DEADLY = f"{scripted.__name__}:Deadly"
LABELS = "label_detection"
OPERATIONS = ("person_tracking", LABELS)


def rows_of(path, *operations, **how):
    how.setdefault("detector", SPOT)
    rows = {name: [] for name in operations or OPERATIONS}
    try:
        analyze(path, {name: found.extend for name, found in rows.items()}, **how)
    except VideoError as error:
        return rows, str(error)
    return rows, None


class InThread(workers.Worker):
    """Looks at spans in this process, and dies as it is told to: in which spans, after how much."""

    def __init__(self, deaths=()):
        self.looker = workers.Looker(1)
        self.deaths = deaths

    def run(self, span):
        self.looker.begin(span)
        done = 0
        while True:
            if (span.begin_ms, done) in self.deaths:
                self.deaths.remove((span.begin_ms, done))
                raise workers.Lost("told to")
            if not (chunk := self.looker.more()):
                return
            yield chunk
            done += 1

    def close(self):
        with suppress(ValueError):  # it is at work in its own thread
            self.looker.close()


@pytest.fixture(autouse=True)
def scripted_faces(monkeypatch):
    monkeypatch.setattr(spans, "face_detector", lambda detailed: scripted.HeadOfFirst())


@pytest.fixture
def short_spans(monkeypatch):
    monkeypatch.setattr(workers, "SPAN_MS", 500)
    monkeypatch.setattr(workers, "_CHUNK", 4)


@contextmanager
def threads(count=3, deaths=()):
    deaths = list(deaths)
    with workers.Workers(lambda: InThread(deaths), count) as pool:
        yield pool


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Four seconds."""
    path = tmp_path_factory.mktemp("videos") / "video.mp4"
    return write_video(path, range(0, 4000, 40))


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """Seventy seconds: three spans, as long as they are."""
    path = tmp_path_factory.mktemp("videos") / "long.mp4"
    return write_video(path, range(0, 70_000, 100), gop=40)


def test_rows_are_those_of_one_process(long_video):
    told: list[float] = []
    with open_workers(2) as pool:
        shared = rows_of(long_video, LABELS, workers=pool, progress=told.append)
        again = rows_of(long_video, LABELS, workers=pool, sample_fps=3)
    assert json.dumps(shared) == json.dumps(rows_of(long_video, LABELS))
    assert json.dumps(again) == json.dumps(rows_of(long_video, LABELS, sample_fps=3))
    assert len(shared[0][LABELS]) == 6 * 700  # a person, a dog and its four ancestors
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_spans_are_looked_at_as_often_as_their_scene_needs(tmp_path):
    path = write_video(tmp_path / "quick.mp4", range(0, 62_000, 50), size=(64, 48), gop=35)
    whole = rows_of(path, sample_fps="auto")
    with threads() as pool:
        assert rows_of(path, sample_fps="auto", workers=pool) == whole
    people, things = (whole[0][name] for name in OPERATIONS)
    assert len({row["timestamp_ms"] for row in people}) > 1000  # of 1240
    assert 600 < len({row["timestamp_ms"] for row in things}) < 630


@pytest.mark.usefixtures("short_spans")
def test_what_a_lost_process_was_at_is_done_again(video):
    whole = rows_of(video)
    assert len(whole[0]["person_tracking"]) > 90  # of a hundred frames
    with threads(deaths=[(0, 0), (1500, 1), (1500, 1), (2000, 2)]) as pool:
        assert rows_of(video, workers=pool) == whole


@pytest.mark.usefixtures("short_spans")
def test_a_span_that_ends_every_process_fails_its_video_alone(video):
    with threads(deaths=[(1000, 0)] * 4) as pool:
        _, said = rows_of(video, workers=pool, video="s3://films/deadly.mp4")
        assert said is not None
        assert said.startswith("s3://films/deadly.mp4: looking at it from 1 s to 1.5 s ended 4")
        assert rows_of(video, workers=pool) == rows_of(video)


def test_a_process_that_is_killed_by_a_video_is_told_with_its_exit_code(tmp_path, long_video):
    deadly = tmp_path / "deadly.avi"
    write_video(deadly, range(0, 400, 40), codec="ffv1", size=(scripted.Deadly.width, 16))
    with open_workers(1) as pool:
        _, said = rows_of(deadly, LABELS, workers=pool, detector=DEADLY)
        assert said is not None
        assert "ended 4 processes (exit code -9)" in said
        assert rows_of(long_video, LABELS, workers=pool, sample_fps=1)[1] is None


def broken(path, kind):
    data = bytearray(path.read_bytes())
    if kind == "damaged":
        middle = len(data) * 6 // 10
        data[middle : middle + 300] = np.random.default_rng(1).bytes(300)
    elif kind == "truncated":
        del data[len(data) * 6 // 10 :]
    elif kind == "joined":
        return bytes(data) * 2
    return bytes(data)


@pytest.mark.usefixtures("short_spans")
@pytest.mark.parametrize("kind", ["damaged", "truncated", "joined"])
@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".ts", "libx264"), (".avi", "mpeg4")]
)
def test_a_bad_video_gives_the_rows_and_the_error_of_one_process(tmp_path, kind, suffix, codec):
    path = write_video(tmp_path / f"bad{suffix}", range(0, 4000, 40), codec=codec)
    path.write_bytes(broken(path, kind))
    with threads() as pool:
        assert rows_of(path, workers=pool) == rows_of(path)


@pytest.mark.usefixtures("short_spans")
def test_several_videos_share_the_processes(tmp_path, video):
    paths = [video, tmp_path / "none.mp4", write_video(tmp_path / "short.mp4", [0, 40, 80])]
    found = {}
    with threads(2) as pool:
        doing = [
            threading.Thread(target=lambda p=p: found.update({p: rows_of(p, workers=pool)}))
            for p in paths
        ]
        for thread in doing:
            thread.start()
        for thread in doing:
            thread.join()
    assert found == {path: rows_of(path) for path in paths}


@pytest.mark.usefixtures("short_spans")
def test_no_more_is_looked_at_than_may_wait(video):
    begun = []

    class Counting(InThread):
        def run(self, span):
            begun.append(span.begin_ms)
            return super().run(span)

    with workers.Workers(Counting, 1) as pool:
        messages = pool.look_at(spans.Span(video, "v", OPERATIONS, SPOT))
        for _ in range(3):
            next(messages)
        time.sleep(0.5)
        assert begun in ([0], [0, 500])
        messages.close()


def test_what_is_wrong_is_told_as_by_one_process(tmp_path, video):
    with threads(1) as pool:
        with pytest.raises(ModelError, match="unknown detector"):
            analyze(video, {"person_tracking": print}, detector="magic", workers=pool)
        with pytest.raises(VideoError, match="no such file") as error:
            analyze(tmp_path / "none.mp4", {"person_tracking": print}, workers=pool)
    assert error.value.remedy


def test_a_sink_that_fails_leaves_the_processes_usable(video):
    def full(rows):
        raise OSError("disk full")

    with threads(1) as pool:
        with pytest.raises(OSError, match="disk full"):
            analyze(video, {"label_detection": full}, detector=SPOT, workers=pool)
        assert rows_of(video, workers=pool) == rows_of(video)


def test_processes_end_with_their_owner(long_video):
    with open_workers(2) as pool:
        rows_of(long_video, LABELS, workers=pool, sample_fps=1)
        assert [p.name for p in multiprocessing.active_children()] == ["looking"] * 2
    assert multiprocessing.active_children() == []
