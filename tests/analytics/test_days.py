"""Tables per day belong to the clock on the wall, and are computed again only where needed."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from walks import compute, rows, straight, walked, write_walks

from rekognition_dagster.analytics import SqlModel, daily, load_models
from rekognition_dagster.analytics.refresh import refresh
from rekognition_dagster.analytics.zones import parse_zones
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.lake.lake import DayPart
from rekognition_dagster.videos import Video

ZONE = """
cameras:
  - camera: "{camera}"
    zones: {{counter: [[0.4, 0.4], [0.6, 0.4], [0.6, {bottom}], [0.4, {bottom}]]}}
"""
STANDS = straight((0, 0.5, 0.5), (120, 0.5, 0.5))


def written(done: Collection[daily.Computed]) -> set[tuple[str, str, str | None]]:
    return {(c.model.name, str(c.day), camera) for c in done for camera in c.cameras}


def test_a_person_minute_belongs_to_the_hour_and_day_in_which_it_was(tmp_path: Path) -> None:
    lake = walked(tmp_path, "Europe/Zurich")
    # half a minute before midnight to a minute and a half after it, in Zurich
    write_walks(lake, "north/2026-01-31/235930.mp4", [STANDS], duration_s=120)
    compute(lake, ZONE.format(camera="north", bottom=0.6))
    found = rows(
        lake,
        "SELECT date::VARCHAR, strftime(hour_local, '%H'), people, person_seconds, recorded_s, "
        "most FROM activity_by_hour ORDER BY ALL",
    )
    assert found == [
        ("2026-01-31", "23", 1, 30.0, 30.0, 1),
        ("2026-02-01", "00", 1, 90.0, 90.0, 1),
    ]
    minutes = rows(
        lake,
        "SELECT zone, date::VARCHAR, strftime(starts_local, '%H:%M'), person_seconds, mean "
        "FROM occupancy WHERE period_minutes = 1 ORDER BY ALL",
    )
    days = [("2026-01-31", "23:59", 30.0), ("2026-02-01", "00:00", 60.0)]
    days += [("2026-02-01", "00:01", 30.0)]
    assert minutes == [(zone, *day, 1.0) for zone in ("counter", None) for day in days]
    visits = rows(lake, "SELECT date::VARCHAR, dwell_s, inside_at_end FROM zone_visits")
    assert visits == [("2026-01-31", 120.0, True)]


def test_an_hour_that_a_clock_shows_twice_is_two_hours(tmp_path: Path) -> None:
    lake = walked(tmp_path, "Europe/Zurich")
    # 02:59 summer time, and one minute later it is 02:00 winter time
    uploaded = datetime(2026, 10, 25, 0, 59, tzinfo=timezone.utc)
    key = "north/2026-10-25/025900.mp4"
    write_walks(lake, key, [STANDS], duration_s=120, last_modified=uploaded)
    compute(lake)
    found = rows(
        lake,
        "SELECT hour_at::VARCHAR, hour_local::VARCHAR, person_seconds FROM activity_by_hour "
        "ORDER BY ALL",
    )
    assert found == [
        ("2026-10-25 00:00:00+00", "2026-10-25 02:00:00", 60.0),
        ("2026-10-25 01:00:00+00", "2026-10-25 02:00:00", 60.0),
    ]
    assert rows(lake, "SELECT day::VARCHAR, person_seconds FROM activity_by_day") == [
        ("2026-10-25", 120.0)
    ]


def test_what_two_files_of_a_camera_show_counts_once(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    write_walks(lake, "north/2026-01-31/120000.mp4", [STANDS], duration_s=120)
    write_walks(lake, "north/2026-01-31/120130.mp4", [STANDS], duration_s=120)
    write_walks(lake, "south/2026-01-31/120130.mp4", [STANDS], duration_s=120)
    compute(lake)
    found = rows(
        lake, "SELECT camera, person_seconds, recorded_s, most FROM activity_by_day ORDER BY ALL"
    )
    assert found == [("north", 210.0, 210.0, 1), ("south", 120.0, 120.0, 1)]


def test_files_of_which_only_the_upload_is_known_do_not_hide_each_other(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    uploaded = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    for name in ("a", "b"):
        write_walks(lake, f"north/{name}.mp4", [STANDS], duration_s=120, last_modified=uploaded)
    compute(lake)
    assert rows(lake, "SELECT camera, person_seconds FROM activity_by_day") == [(None, 240.0)]


def test_occupancy_counts_the_most_at_once_and_who_came(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    people = [
        straight((0, 0.5, 0.5), (30, 0.5, 0.5)),
        straight((10, 0.0, 0.5), (14, 0.5, 0.5), (20, 0.5, 0.5), (24, 1.0, 0.5)),
        straight((26, 0.3, 0.5), (40, 0.3, 0.5)),
    ]
    write_walks(lake, "north/2026-01-31/120000.mp4", people)
    compute(lake, ZONE.format(camera="north", bottom=0.6))
    found = rows(
        lake,
        "SELECT zone, people, most, arrivals, begun_mid_picture, round(person_seconds, 1) "
        "FROM occupancy WHERE period_minutes = 60 ORDER BY ALL",
    )
    # in the zone: 30 s, and from 13.2 to 20.8; in the picture one came in from its side
    assert found == [("counter", 2, 2, 1, 1, 37.6), (None, 3, 2, 2, 1, 58.0)]


@pytest.mark.parametrize("key", ["120000", "235959", "235930"])
@pytest.mark.parametrize("gap", [0.3, 5, 3600])
def test_person_seconds_are_the_same_in_every_table(tmp_path: Path, key: str, gap: float) -> None:
    lake = walked(tmp_path, "Europe/Zurich")
    people = [
        STANDS,
        straight((0.07, 0.1, 0.5), (99.9, 0.9, 0.5), fps=3),
        straight((10.33, 0.1, 0.2), (90, 0.9, 0.8), fps=0.4),
        [*straight((0, 0.2, 0.5), (29.6, 0.4, 0.5)), *straight((33.9, 0.6, 0.5), (95.1, 0.8, 0.5))],
        [(61.2, 0.3, 0.3)],
    ]
    for file in (f"{key}", f"{key}.250"):  # the second one begins within a half second
        write_walks(lake, f"north/2026-01-31/{file}.mp4", people, duration_s=120)
    write_walks(lake, "south/2026-01-31/235800.mp4", people, duration_s=120)
    created = datetime(2026, 1, 31, 22, 59, 12, 345000, timezone.utc)
    write_walks(lake, "a.mp4", people, duration_s=120, container_created_at=created)
    compute(lake, f"gap: {gap}")
    by_table = {
        table: rows(
            lake,
            f"SELECT camera, {day}, round(sum(person_seconds) * 1000)::BIGINT FROM {table} "
            f"WHERE {where} GROUP BY ALL HAVING sum(person_seconds) > 0 ORDER BY ALL",
        )
        for table, day, where in (
            ("occupancy", "starts_local::DATE", "zone IS NULL AND period_minutes = 1"),
            ("heat", "day", "true"),
            ("activity_by_hour", "hour_local::DATE", "true"),
            ("activity_by_day", "day", "true"),
        )
    }
    days = {day for _, day, _ in by_table["occupancy"]}
    assert len(days) == 2
    assert {camera for camera, _, _ in by_table["occupancy"]} == {"north", "south", None}
    assert all(found == by_table["occupancy"] for found in by_table.values()), by_table
    (total,) = {sum(ms for c, _, ms in found if c == "south") for found in by_table.values()}
    walks = [path for path in people if len(path) > 1]
    if gap == 3600:
        assert total == sum(round((path[-1][0] - path[0][0]) * 1000) for path in walks)


def test_occupancy_says_how_far_to_trust_it(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    people = [
        straight((0, 0.5, 0.5), (20, 0.5, 0.5)),
        # lost for ten seconds, and joined again
        [*straight((0, 0.45, 0.5), (10, 0.45, 0.5)), *straight((20, 0.45, 0.5), (30, 0.45, 0.5))],
        straight((0, 0.1, 0.5), (20, 0.1, 0.5)),
    ]
    key = "north/2026-01-31/120000.mp4"
    write_walks(lake, key, people, filled=[(0, 0.0, 9.95), (2, 0.0, 20.0)])
    compute(lake, ZONE.format(camera="north", bottom=0.6))
    found = rows(
        lake,
        "SELECT zone, period_minutes, people, joined, round(interpolated_share, 2) "
        "FROM occupancy ORDER BY ALL",
    )
    # of 201, 202 and 201 detections 100, none and all
    expected = [("counter", n, 2, 1, 0.25) for n in (1, 60)]
    assert found == [*expected, *((None, n, 3, 1, 0.5) for n in (1, 60))]
    assert rows(lake, "SELECT round(interpolated_share, 2) FROM activity_by_day") == [(0.5,)]


def test_an_empty_video_is_zero_people_and_a_day_without_videos_nothing(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    write_walks(lake, "north/2026-01-31/120000.mp4", [])
    compute(lake, ZONE.format(camera="north", bottom=0.6))
    sql = "SELECT day::VARCHAR, people, person_seconds, most, busiest_at FROM activity_by_day"
    assert rows(lake, sql) == [("2026-01-31", 0, 0.0, 0, None)]
    for table in ("zone_visits", "line_crossings", "encounters", "heat"):
        assert rows(lake, f"SELECT * FROM {table}") == []
    assert rows(lake, "SELECT people FROM occupancy WHERE zone = 'counter'") == [(0,), (0,)]


def test_only_the_days_and_tables_that_a_change_concerns_are_computed_again(
    tmp_path: Path,
) -> None:
    lake = walked(tmp_path)
    for camera in ("north", "south"):
        for day in (30, 31):
            key = f"{camera}/2026-01-{day}/120000.mp4"
            write_walks(lake, key, [STANDS], duration_s=120)
    zones = ZONE.format(camera="*", bottom=0.6)
    assert len(written(compute(lake, zones))) == 2 * 2 * 7
    assert written(compute(lake, zones)) == set()
    # a zone of one camera, for one day
    moved = zones + ZONE.format(camera="south", bottom=0.7).split("cameras:\n")[1].replace(
        "counter", "door"
    )
    done = written(compute(lake, moved, since=date(2026, 1, 31)))
    uses_zones = {"zone_visits", "occupancy"}
    uses_zones |= {"activity_by_hour", "activity_by_day"}
    assert done == {(name, "2026-01-31", "south") for name in uses_zones}
    assert rows(lake, "SELECT camera, zone, count(*) FROM zone_visits GROUP BY ALL ORDER BY ALL")[
        -1
    ] == ("south", "door", 1)
    # other results of one video
    write_walks(lake, "north/2026-01-30/120000.mp4", [], job_id="again", duration_s=120)
    done = written(compute(lake, moved, since=date(2026, 1, 30), until=date(2026, 1, 30)))
    assert {(day, camera) for name, day, camera in done if name not in uses_zones} == {
        ("2026-01-30", "north")
    }
    assert rows(lake, "SELECT people FROM activity_by_day WHERE camera = 'north'") == [(0,), (1,)]


BOTH = """
cameras:
  - camera: north
    zones: {counter: [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]}
    lines: {gate: [[0.3, 0.0], [0.3, 1.0]]}
    ground: {points: [[0, 0], [1, 0], [1, 1], [0, 1]], metres: [[0, 0], [9, 0], [9, 9], [0, 9]]}
  - camera: south
    zones: {hall: [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]}
    lines: {exit: [[0.3, 0.0], [0.3, 1.0]]}
"""
ACTIVITY = {"activity_by_hour", "activity_by_day"}


@pytest.mark.parametrize(
    ("old", "new", "camera", "tables"),
    [
        ("[0.3, 1.0]]}\n    ground", "[0.35, 1.0]]}\n    ground", "north", {"line_crossings"}),
        ("exit:", "door:", "south", {"line_crossings"}),
        ("counter:", "desk:", "north", {"zone_visits", "occupancy"}),
        ("hall: [[0.4", "hall: [[0.3", "south", {"zone_visits", "occupancy"}),
        (
            "[9, 9], [0, 9]",
            "[9, 8], [0, 8]",
            "north",
            {"zone_visits", "occupancy", "line_crossings", "encounters"},
        ),
        ("  - camera: south", "  # moved\n  - camera: south", None, set()),
        ("camera: south", 'camera: ["south", "east"]', None, set()),
        ("cameras:", "settle: 0.5\ncameras:", None, set()),
    ],
    ids=["line", "line's name", "zone's name", "zone", "ground", "comment", "cameras", "default"],
)
def test_what_zones_do_not_change_is_not_computed_again(
    tmp_path: Path, old: str, new: str, camera: str | None, tables: set[str]
) -> None:
    lake = walked(tmp_path)
    for name in ("north", "south"):
        write_walks(lake, f"{name}/2026-01-31/120000.mp4", [STANDS], duration_s=120)
    assert {m for m, _, _ in written(compute(lake, BOTH))} == {
        *ACTIVITY,
        *("zone_visits", "line_crossings", "occupancy", "heat", "encounters"),
    }
    assert BOTH.count(old) == 1
    done = written(compute(lake, BOTH.replace(old, new)))
    assert done == {(t, "2026-01-31", camera) for t in tables | (ACTIVITY if tables else set())}


@pytest.mark.parametrize(
    ("table", "depends"),
    [
        ("shapes", {"line", "zone"}),
        ("edges", {"line", "zone"}),
        ("borders", {"line", "zone"}),
        ("zone_borders", {"zone"}),
        ("line_shapes", {"line"}),
        ("grounds", {"ground"}),
        ("samples", {"ground"}),
        ("halves", set()),
    ],
)
def test_a_model_of_one_s_own_depends_on_what_it_reads(
    tmp_path: Path, table: str, depends: set[str]
) -> None:
    lake = walked(tmp_path)
    path = straight((0, 0.2, 0.5), (10, 0.5, 0.5))
    write_walks(lake, "north/2026-01-31/120000.mp4", [path], duration_s=120)
    model = SqlModel(
        "mine",
        "-- per: day of day\nSELECT r.camera, DATE '2026-01-31' AS day, count(*) AS n "
        f"FROM {table} AS t JOIN recordings AS r ON r.recording = t.recording GROUP BY 1",
    )
    (done,) = compute(lake, BOTH, [model])
    assert done.rows == 1
    changes = {
        "zone": BOTH.replace("counter", "desk"),
        "line": BOTH.replace("gate", "door"),
        "ground": BOTH.replace("[9, 9]", "[9, 8]"),
    }
    found = {
        what
        for what, zones in changes.items()
        if daily.find_stale(lake, [model], parse_zones(zones)).units
    }
    assert found == depends


def test_rows_of_a_video_that_is_gone_go(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    video = write_walks(lake, "north/2026-01-31/120000.mp4", [STANDS], duration_s=120)
    write_walks(lake, "south/2026-01-31/120000.mp4", [STANDS], duration_s=120)
    compute(lake, ZONE.format(camera="*", bottom=0.6))
    lake.forget(video)
    assert rows(lake, "SELECT camera FROM zone_visits") == [("south",)]  # at once
    compute(lake)
    assert rows(lake, "SELECT camera FROM activity_by_day") == [("south",)]
    assert compute(lake) == []


def test_a_changed_pattern_moves_rows_without_looking_at_a_video(tmp_path: Path) -> None:
    from rekognition_dagster.analytics import compute_standard

    lake = walked(tmp_path)
    video = write_walks(lake, "north/2026-01-31/235930.mp4", [STANDS], duration_s=120)
    compute_standard(lake, [video])
    compute(lake)
    moved = Lake(lake.url, cameras=Cameras(lake.cameras.pattern, {}, "America/New_York"))
    list(refresh(moved, parse_zones("")))
    sql = "SELECT camera, first_seen_local::VARCHAR, first_seen_at::VARCHAR FROM person_paths"
    assert rows(Lake(lake.url), sql) == [("north", "2026-01-31 23:59:30", "2026-02-01 04:59:30+00")]
    hours = rows(lake, "SELECT hour_at::VARCHAR FROM activity_by_hour ORDER BY ALL")
    assert hours == [("2026-02-01 04:00:00+00",), ("2026-02-01 05:00:00+00",)]
    assert list(refresh(moved, parse_zones(""))) == []


def test_a_user_s_model_says_in_its_header_that_it_is_per_day(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    write_walks(lake, "north/2026-01-31/235930.mp4", [STANDS], duration_s=120)
    model = SqlModel(
        "queue",
        "-- A row a minute: who waits.\n-- per: day of starts_at\n"
        "SELECT camera, starts_at, people FROM occupancy WHERE zone = 'counter' "
        "AND period_minutes = 1",
    )
    compute(lake, ZONE.format(camera="north", bottom=0.6), [*load_models(), model])
    assert rows(lake, "SELECT date::VARCHAR, people FROM queue ORDER BY ALL") == [
        ("2026-01-31", 1),
        ("2026-02-01", 1),
        ("2026-02-01", 1),
    ]
    assert model.description.startswith("A row a minute: who waits.\n")


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("-- per: day of day\nSELECT 1 AS day FROM recordings", "has no column camera"),
        ("-- per: day of day\nSELECT camera FROM recordings", "has no column day"),
        ("-- per: hour\nSELECT camera FROM recordings", "per: hour' is not known"),
    ],
)
def test_a_model_per_day_that_cannot_work_is_refused(tmp_path: Path, sql: str, wrong: str) -> None:
    lake = walked(tmp_path)
    write_walks(lake, "north/2026-01-31/120000.mp4", [STANDS])
    with pytest.raises(ConfigurationError, match=wrong):
        compute(lake, "", [SqlModel("mine", sql)])


@pytest.mark.parametrize(
    "header",
    [
        "\n\n-- A row a day.\n-- per: day of day\n",
        "-- A row a day.\n-- Per: Day of day\n",
        "-- A row a day.\n\n  --per : day of day.\n\n",
    ],
)
def test_a_header_is_read_as_people_write_it(header: str) -> None:
    model = SqlModel("mine", f"{header}SELECT camera, day FROM minutes")
    assert model.day_column == "day"
    assert model.description.startswith("A row a day.\n")


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("SELECT camera,\n  dya AS day\nFROM minutes", r'mine.sql:5\) is wrong: .*"dya" not found'),
        ("SELECT camera, day FRM minutes", r"mine.sql:4\) is wrong: Parser Error: syntax error"),
        ("SELECT camera, day\nFROM minuets", r"mine.sql:5\) is wrong: .*minuets does not exist"),
        ("SELECT camera, 'x'::DATE AS day\nFROM minutes", r"mine.sql:4\) is wrong: .*'x'|\"x\""),
    ],
)
def test_a_mistake_in_a_model_names_it_and_its_file_and_line(
    tmp_path: Path, sql: str, wrong: str
) -> None:
    lake = walked(tmp_path)
    write_walks(lake, "north/2026-01-31/120000.mp4", [STANDS])
    path = tmp_path / "mine.sql"
    path.write_text(f"\n-- Mine.\n-- per: day of day\n{sql}\n")
    with pytest.raises(ConfigurationError, match=r"^the model mine \(/.*" + wrong):
        compute(lake, "", [SqlModel.read(path)])


def test_the_documented_columns_are_those_of_the_models_and_null_in_older_files(
    tmp_path: Path,
) -> None:
    import pyarrow.parquet as pq

    from rekognition_dagster.analytics import compute_standard
    from rekognition_dagster.lake.tables import ANALYTICS

    lake = walked(tmp_path)
    video = write_walks(lake, "north/2026-01-31/120000.mp4", [STANDS, STANDS])
    compute_standard(lake, [video])
    compute(lake, ZONE.format(camera="north", bottom=0.6))
    assert sorted(ANALYTICS) == sorted(m.name for m in load_models())
    for table, columns in ANALYTICS.items():
        registered = pq.read_schema(Path(lake.url) / ".tables" / f"{table}.parquet")
        assert registered.names == list(columns)
        found = dict(rows(lake, f"SELECT column_name, column_type FROM (DESCRIBE {table})"))
        assert {
            c: found[c].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for c in columns
        } == (columns)
    for path in (*Path(lake.url).glob("*/date=*/*"), *Path(lake.url).glob(".tables/*")):
        table = path.stem if path.parent.name == ".tables" else path.parts[-3]
        if table in ANALYTICS:
            former = pq.ParquetFile(path).read()
            kept = {"video", "camera", "person_index"}.intersection(former.column_names)
            pq.write_table(former.select(sorted(kept)), path)
    for table, columns in ANALYTICS.items():
        found = rows(lake, f"SELECT {', '.join(columns)} FROM {table}")
        assert table == "line_crossings" or found
    for call in ("people_between('*'", "visits_between('*', '*'", "crossings_between('*', '*'"):
        rows(lake, f"FROM {call}, TIMESTAMP '2026-01-31', TIMESTAMP '2026-02-01')")
    list(refresh(lake, parse_zones("")))


def test_the_day_of_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    write_walks(lake, "north/2026-01-31/120000.mp4", [STANDS])
    compute(lake)
    path = Path(lake.url) / lake.day_path("activity_by_day", date(2026, 1, 31))
    path.write_bytes(path.read_bytes()[:50])
    assert written(compute(lake)) == {("activity_by_day", "2026-01-31", "north")}
    assert rows(lake, "SELECT count(*) FROM activity_by_day") == [(1,)]


def test_a_day_s_file_in_s3_keeps_what_others_write_at_the_same_time(bucket: str) -> None:
    lakes = [Lake(f"s3://{bucket}/lake") for _ in range(3)]
    day, cameras = date(2026, 1, 31), ["north", "south", None]

    def write(lake: Lake, camera: str | None) -> None:
        rows = pa.table({"camera": pa.array([camera], pa.string()), "people": [1]})
        for n in range(2):
            lake.write_day("crowds", day, {camera: DayPart(rows, f"{camera} {n}")})

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(write, *pair) for pair in zip(lakes, cameras, strict=True)]:
            done.result()
    assert lakes[0].days("crowds") == {day: {c: f"{c} 1" for c in cameras}}
    found = rows(lakes[0], "SELECT camera, people FROM crowds ORDER BY camera")
    assert found == [("north", 1), ("south", 1), (None, 1)]
    assert [f for f in lakes[0].storage.files() if ".lock" in f] == []


def test_a_video_of_unknown_time_is_in_no_day(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    write_walks(lake, "north/lobby.mp4", [STANDS])
    assert compute(lake) == []
    assert Video("cameras", "north/lobby.mp4").last_modified is None
