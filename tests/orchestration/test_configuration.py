"""Loading, settings, the component, and names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from rekognition_dagster import (
    RekognitionVideoComponent,
    RekognitionVideoTranslator,
    Settings,
    build_definitions,
)
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.analytics import load_models

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("module", ["definitions", "rekognition_dagster.definitions"])
def test_loading_the_code_location_imports_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'cv2', 'openvino', 'av', 'torch', 'ultralytics', 'moto'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_workspace_is_valid(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_env(
        {
            "REKOGNITION_DAGSTER_BUCKET": "cameras",
            "REKOGNITION_DAGSTER_OPERATIONS": "person-tracking, label-detection",
            "REKOGNITION_DAGSTER_MAX_JOBS_IN_FLIGHT": "7",
            "REKOGNITION_DAGSTER_START": "nightly",
            "REKOGNITION_DAGSTER_SAMPLE_FPS": "auto",
            "REKOGNITION_DAGSTER_DETECTOR": "",
        },
        prefix="lobby/",
    )
    assert settings.bucket == "cameras"
    assert settings.operations == ["person_tracking", "label_detection"]
    assert (settings.max_jobs_in_flight, settings.start) == (7, "nightly")
    assert (settings.sample_fps, settings.prefix) == ("auto", "lobby/")
    assert settings.detector is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OPERATIONS", "celebrities", "there are person-tracking"),
        ("START", "tomorrow", "arrival"),
        ("SAMPLE_FPS", "often", "positive number, or auto"),
        ("MAX_JOBS_IN_FLIGHT", "many", "integer"),
        ("DATE_PATTERN", "(", "no regular expression"),
        ("DATE_PATTERN", "(?P<year>x)", "day, month"),
        ("NAME", "has spaces", "pattern"),
    ],
)
def test_a_wrong_setting_names_its_variable(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        Settings.from_env({f"REKOGNITION_DAGSTER_{name}": value})
    assert f"REKOGNITION_DAGSTER_{name}" in str(failure.value)
    assert told in str(failure.value)


def test_every_asset_of_the_deployment_is_there() -> None:
    graph = build_definitions(Settings()).resolve_asset_graph()
    assert {k.to_user_string() for k in graph.get_all_asset_keys()} == {
        "video",
        "person_tracking_job",
        "person_tracking_completion",
        "person_detections",
        "face_detection_job",
        "face_detection_completion",
        "face_detections",
        "person_paths",
        "video_summary",
        "activity_by_minute",
        "nightly_batch",
        "dead_letters",
        "lake_compaction",
        "pipeline_status",
    }
    summary = graph.get(dg.AssetKey("video_summary"))
    assert {k.to_user_string() for k in summary.parent_keys} == {
        "person_detections",
        "face_detections",
    }


def test_an_operation_is_one_entry_in_the_settings() -> None:
    graph = build_definitions(Settings(operations=["label_detection"])).resolve_asset_graph()
    assert {k.to_user_string() for k in graph.get_all_asset_keys()} == {
        "video",
        "label_detection_job",
        "label_detection_completion",
        "label_detections",
        "nightly_batch",
        "dead_letters",
        "lake_compaction",
        "pipeline_status",
    }


def test_a_translator_renames_everything() -> None:
    class InTheArchive(RekognitionVideoTranslator):
        def asset_key(self, name: str) -> dg.AssetKey:
            return dg.AssetKey(["archive", name])

    graph = build_definitions(Settings(), names=InTheArchive()).resolve_asset_graph()
    assert {k.path[0] for k in graph.get_all_asset_keys()} == {"archive"}


def test_sensors_can_start_stopped() -> None:
    definitions = build_definitions(Settings(sensors="stopped"))
    states = {s.default_status for s in definitions.sensors or []}  # type: ignore[union-attr]
    assert states == {dg.DefaultSensorStatus.STOPPED}


def test_a_component_in_yaml_is_a_deployment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "yard"\n'
    )
    folder = tmp_path / "yard" / "defs" / "cameras"
    (folder / "models").mkdir(parents=True)
    for package in (tmp_path / "yard", tmp_path / "yard" / "defs"):
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    (folder / "models" / "long_stays.sql").write_text(
        "-- A row a person who stayed.\nSELECT video, person_index FROM person_detections\n"
    )
    (folder / "defs.yaml").write_text(
        "type: rekognition_dagster.RekognitionVideoComponent\n"
        "attributes:\n"
        "  bucket: cameras\n"
        "  operations: [person_tracking]\n"
        "  nightly: '30 3 * * *'\n"
        "  analytics: models\n"
    )
    definitions = dg.load_from_defs_folder(path_within_project=tmp_path)
    graph = definitions.resolve_asset_graph()
    assert dg.AssetKey("long_stays") in graph.get_all_asset_keys()
    assert dg.AssetKey("face_detections") not in graph.get_all_asset_keys()
    assert (
        definitions.resolve_schedule_def("rekognition_dagster_nightly").cron_schedule
        == "30 3 * * *"
    )


def test_the_component_documents_every_attribute() -> None:
    for name, field in RekognitionVideoComponent.model_fields.items():
        assert field.description, name


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no SQL for queues.*person_paths"):
        load_models(names=["queues"])


def test_aws_resources_have_the_fields_of_dagster_aws() -> None:
    from dagster_aws.utils import ResourceWithBoto3Configuration

    from rekognition_dagster.orchestration.resources import AwsResource

    theirs = set(ResourceWithBoto3Configuration.model_fields)
    assert theirs == set(AwsResource.model_fields)
