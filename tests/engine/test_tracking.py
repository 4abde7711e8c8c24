"""Two passes: who is hidden stays who they are, what is no person is nobody."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.faces import FACE
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.spool import Spool
from rekognition_dagster.engine.tracking import appearance, smooth, tracks
from rekognition_dagster.engine.tracking.link import ENDS, Tracklet, link
from rekognition_dagster.engine.tracking.motion import STILL, Similarity
from rekognition_dagster.engine.tracking.tracks import PersonTracks

SIZE = (640, 480)
BLANK = np.zeros((8, 8, 3), np.uint8)
SCORES = ScoreScale(noise=0.1, sure=0.4)


def walker(x, y=200.0, height=100.0):
    return x - height * 0.2, y, x + height * 0.2, y + height


def clothes(colour):
    """What somebody in one colour looks like."""
    frame = Frame.from_image(np.full((50, 50, 3), colour, np.uint8))
    return appearance.describe(frame, np.array([[5, 5, 30, 45]]))


def tracked(frames, fps=10.0, cuts=(), times=None, motions=None):
    """Records of the people in frames, each a list of (box, score) or (box, score, appearance).

    ``cuts`` are frames with which another scene begins, or these with the scene's number;
    ``times`` in milliseconds are the frames' own, else they are ``fps`` a second; ``motions`` are
    the camera's in each frame."""
    people, scene = PersonTracks(SCORES, fps), 0
    begins = cuts if isinstance(cuts, dict) else {frame: n for n, frame in enumerate(cuts, 1)}
    for index, found in enumerate(frames):
        boxes = np.array([f[0] for f in found], np.float32).reshape(-1, 4)
        detections = sv.Detections(
            xyxy=boxes,
            confidence=np.array([f[1] for f in found], np.float32),
            class_id=np.zeros(len(found), int),
        )
        if found and len(found[0]) > 2:
            detections.data[appearance.APPEARANCE] = np.concatenate([f[2] for f in found])
        time = round(index * 1000 / fps) if times is None else times[index]
        frame = Frame(index, time, *SIZE, None, _image=BLANK)
        motion = STILL if motions is None else motions[index]
        scene = begins.get(index, scene)
        people.add(detections, np.zeros(0, FACE), frame, scene=scene, motion=motion)
    stretches = list(people.people())
    people.close()
    return np.concatenate(stretches) if stretches else np.zeros(0, tracks.PERSON)


def test_somebody_behind_a_post_stays_who_they_are_and_is_filled_in_without_a_confidence():
    frames = [[] if 220 < x < 300 else [(walker(x), 0.9)] for x in range(60, 560, 8)]
    found = tracked(frames)
    assert set(found["index"]) == {0}
    assert len(found) == len(frames)
    hidden = np.isnan(found["confidence"])
    assert hidden.tolist() == [not frame for frame in frames]
    centre = (found["box"][:, 0] + found["box"][:, 2]) / 2 * SIZE[0]
    assert centre == pytest.approx(np.arange(60, 560, 8), abs=4)


def test_two_who_cross_keep_their_numbers():
    frames = []
    for x in range(100, 540, 6):
        left, right = walker(x), walker(640 - x, y=190)
        near = abs(2 * x - 640) < 30
        frames.append([(left, 0.9)] if near else [(left, 0.9), (right, 0.8)])
    found = tracked(frames)
    assert set(found["index"]) == {0, 1}
    for index, rises in ((0, 1), (1, -1)):
        centre = found["box"][found["index"] == index][:, [0, 2]].mean(axis=1)
        assert np.all(np.diff(centre) * rises > -0.01)


@pytest.mark.parametrize("turn", [True, False])
def test_two_who_meet_and_stand_together_are_told_apart_by_what_they_wear(turn):
    red, blue = clothes((180, 30, 40)), clothes((60, 90, 170))
    ways = [*range(100, 310, 10)], [*range(540, 330, -10)]
    after = [
        w[::-1] if turn else [*range(w[-1], w[-1] + 210 * s, 10 * s)]
        for w, s in zip(ways, (1, -1), strict=True)
    ]
    frames = [[(walker(a), 0.9, red), (walker(b), 0.9, blue)] for a, b in zip(*ways, strict=True)]
    frames += [[(walker(320), 0.9, red)] for _ in range(15)]
    frames += [[(walker(a), 0.9, red), (walker(b), 0.9, blue)] for a, b in zip(*after, strict=True)]
    found = tracked(frames)
    assert set(found["index"]) == {0, 1}
    end = found[found["timestamp_ms"] == found["timestamp_ms"].max()]
    left = end["index"][end["box"][:, 0].argmin()]
    assert left == (0 if turn else 1)


def test_ghosts_of_a_frame_and_things_that_are_never_sure_are_nobody():
    frames = []
    for i in range(100):
        found = [(walker(100 + 3 * i), 0.9), (walker(600, y=20, height=80), 0.25)]
        if i % 30 == 7:
            found.append((walker(320, y=350), 0.9))
        if i % 12 == 3:
            found[1] = (found[1][0], 0.45)
        frames.append(found)
    found = tracked(frames)
    assert set(found["index"]) == {0}
    assert len(found) == 100


def test_a_pause_makes_nobody_of_ghosts_and_things():
    frames = []
    for i in range(200):
        found = [(walker(100 + 2 * i), 0.9)] if i < 100 else [(walker(700 - 3 * i, y=60), 0.9)]
        if i % 30 == 7:
            found.append((walker(320, y=350), 0.9))
        found.append((walker(600, y=20, height=80), 0.45 if i % 12 == 3 else 0.25))
        frames.append(found)
    times = [100 * i + 600_000 * (i >= 100) for i in range(200)]
    found = tracked(frames, fps=200 / 620, times=times)
    assert set(found["index"]) == {0, 1}
    assert len(found) == 200


def test_in_a_short_shot_somebody_is_seen_for_no_longer_than_it_lasts():
    shown = [[(walker(100 + 3 * i), 0.5)] if 40 <= i < 50 else [] for i in range(100)]
    assert len(tracked(shown)) == 0
    assert len(tracked(shown, cuts=(38, 54))) == 10


@pytest.mark.parametrize("frames", [1, 5, 40])
def test_who_was_there_before_another_scene_goes_on_after_it_and_is_not_in_it(frames):
    there = [(walker(300), 0.9, clothes((180, 30, 40)))]
    other = [(walker(320), 0.9, clothes((60, 90, 170)))]
    shown = [there] * 50 + [other] * frames + [there] * 50
    found = tracked(shown, cuts={50: 1, 50 + frames: 0})
    times = found["timestamp_ms"]
    between = (times >= 5000) & (times < 5000 + 100 * frames)
    assert set(found["index"][~between]) == {0}
    assert 0 not in found["index"][between]


def test_who_was_away_for_longer_than_an_absence_is_new_after_another_scene():
    shown = [[(walker(300), 0.9)]] * 50 + [[]] * 70 + [[(walker(420), 0.9)]] * 50
    assert set(tracked(shown, cuts={50: 1, 120: 0})["index"]) == {0, 1}


def test_who_sits_and_was_once_clearly_a_person_stays_one_and_a_statue_goes():
    frames = []
    for i in range(600):
        sits = 0.8 if 3 <= i < 15 else 0.45 if i % 25 == 0 else 0.25
        stands = 0.45 if i % 6 == 0 else 0.3
        frames.append([(walker(150), sits), (walker(450), stands)])
    found = tracked(frames)
    assert set(found["index"]) == {0}
    assert len(found) == 600
    assert found["box"][:, 0].max() < 0.3


def test_a_track_ends_where_it_was_sure_not_on_a_thing_beside_the_way():
    ways = [walker(60 + 6 * i) for i in range(50)]
    frames = [[(box, 0.9)] for box in ways]
    frames += [[(walker(365, y=205, height=95), 0.2)] for _ in range(15)]
    frames += [[] for _ in range(20)]
    found = tracked(frames)
    assert found["timestamp_ms"].max() < 5200


def test_a_camera_that_pans_away_and_back_shows_who_was_there_and_no_rows_meanwhile():
    shifts = 250 * np.sin(np.arange(120) / 10).clip(0, 1)
    frames = []
    for i, shift in enumerate(shifts):
        left, right = walker(170 - shift - 0.3 * i), walker(600 - shift, y=100)
        frames.append([(box, 0.9) for box in (left, right) if box[0] > -10 and box[2] < 650])
    found = tracked(frames, motions=[Similarity(1 + 0j, complex(shift, 0)) for shift in shifts])
    assert set(found["index"]) == {0, 1}
    out_of_view = np.flatnonzero(shifts > 240) * 100
    assert not (set(out_of_view) & set(found["timestamp_ms"][found["index"] == 0]))


def test_a_camera_that_zooms_in_and_out_loses_nobody_at_the_edge():
    scales, centre = 1 + 0.5 * np.sin(np.arange(100) / 15).clip(0, 1), 320 + 240j
    frames, motions = [], []
    for i, scale in enumerate(scales):
        motions.append(Similarity(1 / scale + 0j, centre - centre / scale))
        corners = [*walker(330), *walker(520 + 0.5 * i)]
        box, other = np.reshape((np.reshape(corners, (4, 2)) - (320, 240)) * scale, (2, 4))
        shown = [each + np.tile((320, 240), 2) for each in (box, other)]
        frames.append([(each, 0.9) for each in shown if each[2] < 650])
    assert min(map(len, frames)) == 1
    assert set(tracked(frames, motions=motions)["index"]) == {0, 1}


def test_two_boxes_on_one_person_are_one_person():
    frames = [
        [(walker(100 + 3 * i), 0.9), (walker(101 + 3 * i, y=205, height=90), 0.6)]
        for i in range(60)
    ]
    assert set(tracked(frames)["index"]) == {0}


@pytest.mark.parametrize("fps", [1.0, 2.0, 10.0])
def test_doubtful_detections_carry_on_what_sure_ones_began(fps):
    frames = [[(walker(60 + 5 * i), 0.9 if i % 4 == 0 else 0.2)] for i in range(80)]
    found = tracked(frames, fps)
    assert set(found["index"]) == {0}
    assert len(found) == 80
    assert not np.isnan(found["confidence"]).any()


def test_somebody_who_left_is_not_who_comes_later_elsewhere():
    away = [[] for _ in range(40)]
    first = [[(walker(x), 0.9)] for x in range(300, 650, 10)]
    second = [[(walker(x), 0.9)] for x in range(5, 300, 10)]
    assert set(tracked(first + away + second)["index"]) == {0, 1}


@pytest.mark.parametrize(("colour", "is_same"), [((180, 30, 40), True), ((60, 90, 170), False)])
def test_who_was_long_away_and_stands_there_again_is_the_same_if_the_clothes_are(colour, is_same):
    red, other = clothes((180, 30, 40)), clothes(colour)
    before, after = ([[(walker(300), 0.9, worn)] for _ in range(40)] for worn in (red, other))
    passes = [[(walker(60 + 5 * i, y=20), 0.9, other)] for i in range(100)]
    found = tracked(before + passes + [[]] * 50 + after)
    first, last = (found["index"][found["timestamp_ms"] == t] for t in (0, 22_900))
    assert (first == last).all() == is_same


def test_who_was_away_for_minutes_is_somebody_else():
    red = clothes((180, 30, 40))
    stands = [[(walker(300), 0.9, red)] for _ in range(40)]
    times = [100 * i + 120_000 * (i >= 40) for i in range(80)]
    assert set(tracked(stands * 2, times=times)["index"]) == {0, 1}


@pytest.mark.parametrize("fps", [1.0, 2.0, 5.0, 10.0, 30.0])
def test_numbers_do_not_depend_on_the_frame_rate(fps):
    frames = [
        [(walker(60 + 60 * i / fps), 0.9), (walker(580 - 60 * i / fps, y=60), 0.9)]
        for i in range(int(8 * fps))
    ]
    assert set(tracked(frames, fps)["index"]) == {0, 1}


@pytest.mark.parametrize("fps", [1.0, 2.0])
def test_few_frames_a_second_show_a_crowd_that_goes_to_and_fro(fps):
    times = np.arange(0, 30, 1 / fps)
    ways = [320 + 160 * np.sin(0.25 * times + k) for k in range(6)]
    frames = [
        [(walker(x, y=15 + 65 * k, height=60), 0.9) for k, x in enumerate(at)]
        for at in zip(*ways, strict=True)
    ]
    found = tracked(frames, fps)
    assert set(found["index"]) == set(range(6))
    assert len(found) == 6 * len(times)


def test_the_result_does_not_depend_on_where_stretches_begin(monkeypatch):
    random = np.random.default_rng(5)
    frames = []
    for i in range(300):
        found = [(walker(100 + i + random.normal(0, 2)), 0.9)] if i % 37 > 12 else []
        frames.append([*found, (walker(500 - i, y=60), 0.8)])
    whole = tracked(frames)
    monkeypatch.setattr(tracks, "_STRETCH_MS", 1700)
    pieces = tracked(frames)
    for name in whole.dtype.names or ():
        assert np.allclose(pieces[name], whole[name], equal_nan=True), name


def test_smoothing_takes_out_tremble_and_does_not_lag():
    random = np.random.default_rng(3)
    times = np.arange(0, 6000, 40)
    left = 100 + times * 0.05
    true = np.stack([left, left * 0 + 50, left + 40, left * 0 + 150], axis=1)
    shaken = true + random.normal(0, 2, true.shape)
    at, boxes, _ = smooth.path(times, times, shaken, np.full(len(times), 0.9))
    assert np.array_equal(at, times)
    assert np.abs(boxes - true).mean() < 0.6 * np.abs(shaken - true).mean()
    assert (boxes - true)[:, 0].mean() == pytest.approx(0, abs=0.3)
    assert boxes[0] == pytest.approx(true[0], abs=3)
    assert boxes[-1] == pytest.approx(true[-1], abs=3)


def test_a_gap_that_is_too_long_is_not_filled():
    times = np.arange(0, 20_000, 100)
    seen = np.concatenate([times[:30], times[-30:]])
    boxes = np.tile([10.0, 10.0, 50.0, 110.0], (60, 1))
    at, _, _ = smooth.path(times, seen, boxes, np.full(60, 0.9))
    assert np.array_equal(at, seen)


def peak_mb(minutes):
    """Most memory held while five new tracklets a second are kept, and linked at the end."""
    random = np.random.default_rng(7)
    look = clothes((180, 30, 40))[0]
    tracemalloc.start()
    try:
        with Spool(ENDS) as kept:
            crowd = []
            for number in range(300 * minutes):
                begin = number / 5
                place = np.tile(random.uniform(50, 400, 2), 2) + walker(0)
                one = Tracklet(number, begin, begin)
                for step in range(3):
                    one.add(begin + step / 10, (place + 2 * step).tolist(), 0.9, SCORES, look)
                one.close(kept)
                crowd.append(one)
            assert set(link(crowd, SIZE)) == set(range(300 * minutes))
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_memory_hardly_grows_with_the_length_of_a_crowded_video():
    peak_mb(1)  # what is loaded once
    assert peak_mb(10) < peak_mb(1) + 8
