"""Boxes lie where the rows say and frames are when they were, whatever the video is like."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from pictures.conftest import box, colored, edges, person, read, write

from rekognition_dagster.errors import OutputError
from rekognition_dagster.outputs import check_writable
from rekognition_dagster.pictures.drawing import Filmed, draw
from rekognition_dagster.pictures.encoding import new_video
from rekognition_dagster.pictures.overlay import Look
from rekognition_dagster.pictures.style import color_of, plain

Film = Callable[..., Filmed]
STILL = box(0.4, 0.3, 0.4, 0.5)
EVERY = range(0, 2000, 40)


def drawn(filmed: Filmed, name: str = "out.mp4", look: Look | None = None, **how) -> Path:
    return draw(filmed, look or Look(), filmed.path.with_name(name), **how)


def test_a_box_is_in_the_colour_of_its_person_and_every_frame_at_its_time(
    film: Film, tmp_path: Path
) -> None:
    path = write(tmp_path / "video.mp4", EVERY)
    times, images = read(drawn(film(path, person_detections=[person(t, STILL) for t in EVERY])))
    assert times == list(EVERY)
    left, right = edges(images[20], 0.6)
    assert (left, right) == (pytest.approx(0.4, abs=0.01), pytest.approx(0.8, abs=0.01))
    number = images[20][round(0.3 * 240) - 4, round(0.4 * 320) + 2].astype(int)
    far = [np.abs(number - color_of(n).as_bgr()).sum() for n in range(8)]  # they are painted as RGB
    assert int(np.argmin(far)) == 3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_upright_and_its_boxes_too(
    film: Film, tmp_path: Path, rotation: int
) -> None:
    path = write(tmp_path / "video.mp4", range(0, 400, 40), rotation=rotation)
    where = box(0.3, 0.4, 0.3, 0.5)
    rows = [person(t, where) for t in range(0, 400, 40)]
    _, images = read(drawn(film(path, person_detections=rows)))
    assert images[5].shape[:2] == ((320, 240) if rotation != 180 else (240, 320))
    assert edges(images[5], 0.65) == (pytest.approx(0.3, abs=0.02), pytest.approx(0.6, abs=0.02))


def test_wide_pixels_become_a_wide_picture(film: Film, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", range(0, 400, 40), pixel=Fraction(2))
    rows = [person(t, STILL) for t in range(0, 400, 40)]
    _, images = read(drawn(film(path, person_detections=rows)))
    assert images[5].shape[:2] == (240, 640)
    assert edges(images[5], 0.6) == (pytest.approx(0.4, abs=0.01), pytest.approx(0.8, abs=0.01))


def test_uneven_times_and_gaps_stay(film: Film, tmp_path: Path) -> None:
    times = [0, 40, 100, 110, 300, 5000, 5040, 9000]
    path = write(tmp_path / "video.mp4", times)
    filmed = film(path, person_detections=[person(t, STILL) for t in times])
    assert read(drawn(filmed))[0] == times
    part, images = read(drawn(filmed, "part.mp4", from_ms=110, until_ms=9000))
    assert part == [0, 190, 4890, 4930]
    assert all(colored(image).any() for image in images)


def test_a_box_moves_between_samples_and_not_over_long_gaps(film: Film, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", range(0, 8000, 40))
    seen = [(0, 0.3), (200, 0.4), (400, 0.5), (6000, 0.5)]
    filmed = film(path, person_detections=[person(t, box(x, 0.3, 0.2, 0.5)) for t, x in seen])
    images = dict(zip(*read(drawn(filmed)), strict=True))
    assert edges(images[120], 0.6)[0] == pytest.approx(0.36, abs=0.01)
    assert edges(images[320], 0.6)[0] == pytest.approx(0.46, abs=0.01)
    assert not colored(images[3000], 80).any()
    assert colored(images[6000], 80).any()


def test_faces_and_labels_are_drawn_where_they_are_asked_for(film: Film, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", range(0, 400, 40))
    face = {"bounding_box": STILL, "landmarks": [{"type": "nose", "x": 0.6, "y": 0.55}]}
    label = {"timestamp_ms": 0, "name": "Dog", "instances": [{"bounding_box": STILL}]}
    tables = {
        "face_detections": [{"timestamp_ms": t, "face": face} for t in (0, 200)],
        "label_detections": [label, {"timestamp_ms": 0, "name": "Straße"}],
    }
    filmed = film(path, **tables)
    plain_video = read(drawn(filmed))[1]
    faces = read(drawn(filmed, "faces.mp4", Look(faces=True)))[1]
    labels = read(drawn(filmed, "labels.mp4", Look(labels=True)))[1]
    assert not colored(plain_video[0]).any()
    nose = faces[3][round(0.55 * 240), round(0.6 * 320)].astype(int)  # held until the next sample
    assert nose[0] > nose[2] + 60
    assert colored(labels[0]).any()
    corner = labels[0][-12:, 4:30].astype(int)  # the text of a label without a place
    assert corner.min() < 40
    assert plain("Straße, Küche") == "Strasse, Kuche"


def test_a_sheet_shows_the_whole_video_with_trails(film: Film, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", range(0, 4000, 40))
    rows = [person(t, box(0.2 + t / 8000, 0.3, 0.2, 0.4)) for t in range(0, 4000, 40)]
    sheet = cv2.imread(str(drawn(film(path, person_detections=rows), "sheet.png")))
    assert sheet is not None
    assert sheet.shape == (4 * (360 + 24), 3 * 480, 3)
    last = sheet[3 * 384 : 3 * 384 + 360, 960:][:, :, ::-1]
    trail = colored(last)[round(0.7 * 360) - 3 : round(0.7 * 360) + 4]
    assert trail[:, 100:380].any(axis=0).mean() > 0.5  # from where the person came


def test_the_file_plays_in_browsers_while_it_loads(film: Film, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", EVERY, size=(321 - 1, 241 - 1), beep_ms=500)
    output = drawn(film(path, person_detections=[person(0, STILL)]))
    content = output.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.audio[0].codec_context.codec.canonical_name == "aac"


def test_a_full_disk_leaves_no_file_under_the_name(film: Film, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", EVERY)
    filmed = film(path, person_detections=[person(0, STILL)])
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"out.mp4 cannot be written: File too large"):
            drawn(filmed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "video.mp4"]


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A file system that cannot be written."""
    folder = Path(tempfile.mkdtemp())
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 1, b""):
        folder.rmdir()
        pytest.skip("a file system can be mounted by root only")
    yield folder
    libc.umount2(bytes(folder), 2)
    folder.rmdir()


def test_a_read_only_file_system_is_named_with_the_output(read_only: Path) -> None:
    output = read_only / "out.mp4"
    said = rf"^{output} cannot be written: Read-only file system. Choose another place"
    with pytest.raises(OutputError, match=said), new_video(output, "v.mp4"):
        pass  # FFmpeg opens it when it has something to write
    with pytest.raises(OutputError, match=said):
        check_writable(output)


def test_an_error_on_the_way_keeps_the_file_of_before(film: Film, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", EVERY)
    filmed = film(path, person_detections=[person(0, STILL)])
    whole = drawn(filmed).read_bytes()

    def stop(done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn(filmed, progress=stop)
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "out.mp4", "video.mp4"]


def test_another_kind_of_file_is_refused(film: Film, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", [0, 40])
    with pytest.raises(ValueError, match="png"):
        drawn(film(path), "out.gif")


def test_hours_take_no_more_memory_than_minutes(film: Film, tmp_path: Path) -> None:
    def peak(minutes: int) -> int:
        folder = tmp_path / str(minutes)
        folder.mkdir()
        times = range(0, minutes * 60_000, 30_000)
        path = write(folder / "video.mp4", times, size=(64, 48))
        rows = [person(t, STILL, n) for t in range(0, minutes * 60_000, 500) for n in range(2)]
        filmed = film(path, person_detections=rows)
        del rows
        tracemalloc.start()
        drawn(filmed)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # what is loaded once
    few, many = peak(3), peak(60)
    assert many < few + 500_000  # an hour's 14,400 rows take several megabytes
