"""The examples load, have what they say, and compute what they say."""

from __future__ import annotations

import importlib.util
from dataclasses import astuple
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest

from rekognition_dagster import Lake, LakeResource, PythonModel, SqlModel, Video, load_models
from rekognition_dagster.analytics import AnalyticsModel
from rekognition_dagster.analytics import compute as compute_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
VIDEO = Video("cameras", "entrance/a.mp4", last_modified=datetime(2026, 1, 31, tzinfo=timezone.utc))


def names(definitions: dg.Definitions) -> set[str]:
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    return {key.to_user_string() for key in keys}


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("the_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example() -> ModuleType:
    return module_of(EXAMPLES / "python" / "definitions.py")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with two people in one video: one stays three seconds, the other one."""
    lake = Lake(tmp_path / "lake")
    with lake.writer("person_detections", VIDEO) as writer:
        writer.write(
            {"video": VIDEO.uri, "job_id": "j", "timestamp_ms": at, "person_index": who}
            for at in range(0, 3001, 1000)
            for who in range(2)
            if who == 0 or at <= 1000
        )
    return lake


def compute(lake: Lake, model: AnalyticsModel) -> None:
    list(compute_model(lake, model, [VIDEO]))


def test_the_python_example_names_its_assets_and_adds_one(example: ModuleType) -> None:
    assert {
        "cameras/video",
        "cameras/person_detections",
        "cameras/person_paths",
        "cameras/longest_stays",
    } <= names(example.defs)
    assert all(name.startswith("cameras/") for name in names(example.defs))
    dg.Definitions.validate_loadable(example.defs)


def test_the_python_example_reads_the_lake(example: ModuleType, lake: Lake) -> None:
    (paths,) = (m for m in load_models() if m.name == "person_paths")
    compute(lake, paths)
    result = dg.materialize([example.longest_stays], resources={"lake": LakeResource(url=lake.url)})
    (event,) = result.asset_materializations_for_node("cameras__longest_stays")
    table: Any = event.metadata["longest"]
    assert [dict(r.data) for r in table.records] == [
        {"video": VIDEO.uri, "person": 0, "seconds": 3},
        {"video": VIDEO.uri, "person": 1, "seconds": 1},
    ]


def test_the_python_example_adds_models_by_video(example: ModuleType, lake: Lake) -> None:
    assert {"cameras/long_stays", "cameras/stays"} <= names(example.defs)
    (paths,) = (m for m in load_models() if m.name == "person_paths")
    for model in (paths, *example.MODELS[-2:]):
        compute(lake, model)
    with lake.connect() as connection:
        assert connection.sql("SELECT * EXCLUDE (date) FROM long_stays").fetchall() == []
        (stays,) = connection.sql("SELECT * EXCLUDE (date) FROM stays").fetchall()
    assert stays == (VIDEO.uri, 3000)
    stays_model = example.MODELS[-1]
    assert stays_model.description.startswith("A row a video")
    assert stays_model.code_version == PythonModel(*astuple(stays_model)).code_version


def test_the_python_example_answers_by_day_in_one_run(example: ModuleType, lake: Lake) -> None:
    (paths,) = (m for m in load_models() if m.name == "person_paths")
    compute(lake, paths)
    job = dg.define_asset_job("days", [example.people_by_day])
    definitions = dg.Definitions(
        [example.people_by_day], jobs=[job], resources={"lake": LakeResource(url=lake.url)}
    )
    result = definitions.resolve_job_def("days").execute_in_process(
        tags={
            "dagster/asset_partition_range_start": "2026-01-30",
            "dagster/asset_partition_range_end": "2026-02-02",
        }
    )
    events = result.asset_materializations_for_node("cameras__people_by_day")
    assert len(events) == 4
    days: Any = events[0].metadata["days"]
    assert [dict(r.data) for r in days.records] == [
        {"day": "2026-01-31", "people": 2, "seconds": 4}
    ]


def test_the_yaml_example_is_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    project = EXAMPLES / "yaml"
    monkeypatch.syspath_prepend(str(project))
    definitions = dg.load_from_defs_folder(path_within_project=project)
    assert {"person_detections", "face_detections", "visits"} <= names(definitions)
    assert "person_paths" not in names(definitions)
    assert {"yard/person_detections", "yard/person_paths", "weekly_summary"} <= names(definitions)
    dg.Definitions.validate_loadable(definitions)
    nightly = definitions.resolve_schedule_def("rekognition_dagster_nightly")
    assert (nightly.cron_schedule, nightly.execution_timezone) == ("30 1 * * *", "Europe/Zurich")


def test_the_yaml_example_reads_both_lakes(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EXAMPLES / "yaml" / "cameras" / "defs" / "videos" / "analytics" / "visits.sql"
    compute(lake, SqlModel.read(file))
    yard = Lake(tmp_path / "yard")
    with yard.writer("person_detections", VIDEO) as writer:
        writer.write([{"video": VIDEO.uri, "job_id": "j", "timestamp_ms": 0, "person_index": 0}])
    (paths,) = (m for m in load_models() if m.name == "person_paths")
    compute(yard, paths)
    module = module_of(EXAMPLES / "yaml" / "cameras" / "defs" / "weekly_summary.py")
    result = dg.materialize(
        [module.weekly_summary],
        resources={
            "rekognition_dagster_lake": LakeResource(url=lake.url),
            "yard_lake": LakeResource(url=yard.url),
        },
    )
    (event,) = result.asset_materializations_for_node("weekly_summary")
    assert {k: v.value for k, v in event.metadata.items()} == {"entrance": 1, "yard": 1}


def test_the_model_of_the_yaml_example_answers(lake: Lake) -> None:
    file = EXAMPLES / "yaml" / "cameras" / "defs" / "videos" / "analytics" / "visits.sql"
    compute(lake, SqlModel.read(file))
    with lake.connect() as connection:
        assert connection.sql("SELECT * EXCLUDE (date) FROM visits").fetchall() == [
            (VIDEO.uri, 0, 0, 3000, False)
        ]
