"""Loading, settings, the component, and names."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from pydantic import ValidationError

import rekognition_dagster.aws
from rekognition_dagster import (
    OperationService,
    RekognitionVideoAssetData,
    RekognitionVideoComponent,
    RekognitionVideoTranslator,
    Settings,
    build_analytics,
    build_checks,
    build_definitions,
    build_local_backfill,
    build_operation,
    build_resources,
    build_schedules,
    build_sensors,
)
from rekognition_dagster.analytics import load_models
from rekognition_dagster.api import NotificationChannel
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake.tables import ANALYTICS
from rekognition_dagster.operations import FACE_DETECTION, PERSON_TRACKING
from rekognition_dagster.videos import Source

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("module", "more"),
    [
        ("definitions", set()),  # DuckDB checks its own SQL
        ("rekognition_dagster.definitions", {"duckdb"}),
    ],
)
def test_loading_the_code_location_imports_nothing_heavy(module: str, more: set[str]) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'cv2', 'openvino', 'av', 'torch', 'ultralytics', 'moto', 'altair'}\n"
        f"heavy |= {more or set()}\n"
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
            "REKOGNITION_DAGSTER_OWNERS": "team:night shift",
            "REKOGNITION_DAGSTER_FIRST": "main entrance/, s3://cameras/lobby/",
        },
        prefix="lobby/",
    )
    assert settings.bucket == "cameras"
    assert settings.operations == ["person_tracking", "label_detection"]
    assert (settings.max_jobs_in_flight, settings.start) == (7, "nightly")
    assert (settings.sample_fps, settings.prefix) == ("auto", "lobby/")
    assert settings.detector is None
    assert settings.owners == ["team:night shift"]
    assert settings.first == ["main entrance/", "s3://cameras/lobby/"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OPERATIONS", "celebrities", "there are person-tracking"),
        ("START", "tomorrow", "arrival"),
        ("SAMPLE_FPS", "often", "positive number, or auto"),
        ("MAX_JOBS_IN_FLIGHT", "many", "integer"),
        ("DATE_PATTERN", "(", "no regular expression"),
        ("DATE_PATTERN", "(?P<year>x)", "day, month"),
        ("NAME", "has spaces", "use letters, digits and"),
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
        "activity_by_hour",
        "activity_by_day",
        "zone_visits",
        "line_crossings",
        "occupancy",
        "heat",
        "encounters",
        "daily_report",
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
        def get_asset_spec(self, data: RekognitionVideoAssetData) -> dg.AssetSpec:
            return data.spec.replace_attributes(key=data.spec.key.with_prefix("archive"))

    graph = build_definitions(Settings(), translator=InTheArchive()).resolve_asset_graph()
    assert {k.path[0] for k in graph.get_all_asset_keys()} == {"archive"}


def examples() -> Iterator[tuple[str, str]]:
    """The Python examples in the docstrings of public names."""
    for name in rekognition_dagster.__all__:
        text = inspect.getdoc(getattr(rekognition_dagster, name)) or ""
        blocks = re.findall(r"code-block:: python\n\n((?:[ ]+.*\n?|\n)+)", text)
        yield from ((name, textwrap.dedent(block)) for block in blocks)


@pytest.mark.parametrize(("name", "code"), list(examples()))
def test_the_example_in_a_docstring_runs(name: str, code: str) -> None:
    scope: dict[str, object] = {}
    exec(code, scope)
    if isinstance(defs := scope.get("defs"), dg.Definitions):
        defs.resolve_asset_graph()


def test_every_builder_has_an_example() -> None:
    builders = {name for name in rekognition_dagster.__all__ if name.startswith("build_")}
    assert builders <= {name for name, _ in examples()}


def test_the_pieces_are_the_whole() -> None:
    settings = Settings(bucket="cameras", operations=["person_tracking"])
    whole = build_definitions(settings).get_repository_def()
    pieces = dg.Definitions.merge(
        build_operation("person_tracking", settings),
        build_analytics(settings),
        build_sensors(settings),
        build_schedules(settings),
        build_checks(settings),
        build_local_backfill(settings),
        build_resources(settings),
    ).get_repository_def()
    assert set(pieces.assets_defs_by_key) == set(whole.assets_defs_by_key)
    assert set(pieces.asset_checks_defs_by_key) == set(whole.asset_checks_defs_by_key)
    for of in ("sensor_defs", "schedule_defs", "job_names"):
        named = ({getattr(x, "name", x) for x in getattr(r, of)} for r in (pieces, whole))
        assert len({frozenset(names) for names in named}) == 1


def test_a_piece_goes_with_a_teams_own_assets_resources_and_executor() -> None:
    @dg.asset(deps=["face_detections"], required_resource_keys={"shelf"})
    def faces_of_the_day() -> None: ...

    settings = Settings(bucket="cameras", operations=["face_detection"])
    defs = dg.Definitions.merge(
        build_operation("face_detection", settings, models=[]),
        dg.Definitions(
            assets=[faces_of_the_day],
            resources={"shelf": "x"},
            executor=dg.in_process_executor,
        ),
        build_resources(settings),
    )
    graph = defs.resolve_asset_graph()
    assert {k.to_user_string() for k in graph.get_all_asset_keys()} >= {
        "face_detection_job",
        "face_detection_completion",
        "face_detections",
        "faces_of_the_day",
    }
    assert not [*(defs.sensors or ()), *(defs.schedules or ())]


def test_parameters_of_requests_are_checked_against_the_api() -> None:
    settings = Settings(
        operations=["label_detection", "face_detection"],
        face_attributes="ALL",
        parameters={"label-detection": {"MinConfidence": 80, "Features": ["GENERAL_LABELS"]}},
    )
    assert settings.request_parameters == {
        "label_detection": {"MinConfidence": 80, "Features": ["GENERAL_LABELS"]},
        "face_detection": {"FaceAttributes": "ALL"},
    }
    for wrong, text in (
        ({"label_detection": {"MinConfidenc": 80}}, "no MinConfidenc; it takes MinConfidence"),
        (
            {"label_detection": {"MinConfidence": -1}},
            "'MinConfidence' failed to satisfy constraint",
        ),
        (
            {"label_detection": {"MinConfidence": 101}},
            "Member must have value less than or equal to 100",
        ),
        (
            {"face_detection": {"FaceAttributes": "SOME"}},
            "must satisfy enum value set: [DEFAULT, ALL]",
        ),
        (
            {"label_detection": {"Features": "GENERAL_LABELS"}},
            "'Features' failed to satisfy constraint: Member must be a list",
        ),
        (
            {"label_detection": {"Features": ["NOPE"]}},
            "Value 'NOPE' at 'Features.1.member' failed to satisfy constraint: "
            "Member must satisfy enum value set: [GENERAL_LABELS]",
        ),
        ({"person_tracking": {"MinConfidence": 80}}, "it takes no parameters"),
        ({"zebras": {}}, "unknown operation 'zebras'"),
    ):
        with pytest.raises(ValidationError, match=re.escape(text)):
            Settings(parameters=wrong)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"bucket": "s3://cameras"}, "write cameras, not s3://cameras/"),
        ({"bucket": ""}, "is no bucket's name"),
        ({"sources": [{"bucket": "a1"}, {"bucket": "a1"}]}, "s3://a1/ is there twice"),
        ({"sources": [{"bucket": "s3://a/b"}]}, "is no bucket's name"),
        ({"operations": []}, "names no operation"),
        ({"detector": "magic"}, "unknown detector 'magic'; write embedded"),
        ({"detector": "tiled:4:magic"}, "unknown detector 'magic'"),
        ({"prices": {"face_detection": -1}}, "it is 0 or more"),
        ({"prices": {"face_detection": float("nan")}}, "it is 0 or more"),
        ({"budget": [{"per": "day", "money": float("inf")}]}, "finite number"),
        (
            {"budget": [{"per": "day", "minutes": 1, "operations": ["label_detection"]}]},
            "budget is about label_detection, but the operations that run are",
        ),
        ({"prices": {"label_detection": 1}}, "prices is about label_detection"),
        ({"prefix": "s3://cameras/lobby/"}, "write e.g. lobby/, without the bucket"),
        ({"lake": ""}, "'' is none; write e.g. s3://analytics/lake, or a folder"),
        ({"lake": "gs://x/y"}, "'gs://x/y' is none"),
        ({"state": "mysql://x"}, "write e.g. postgresql://user@host/database"),
        ({"lake": "s3://a/b", "catalogue": "x.duckdb"}, "catalogue is for a lake in a folder"),
        ({"bucket": "cameras", "first": ["s3://other/"]}, "but the videos are in cameras"),
        ({"alerts": {"email_to": ["nope"], "secret": "x"}}, "email_to"),
        ({"alerts": {"email_to": ["a@b.c"], "secret": "x", "smtp_port": 99999}}, "smtp_port"),
        ({"daily_report": "never"}, "'never' is no cron schedule; write e.g. 0 2 * * *, or off"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(text)):
        Settings(**wrong)


def test_the_daily_report_can_be_off_as_yaml_has_it() -> None:
    for value in (False, "off", "Off"):
        settings = Settings(daily_report=value)  # type: ignore[arg-type]
        assert settings.daily_report == "off"
    graph = build_definitions(settings).resolve_asset_graph()
    assert dg.AssetKey("daily_report") not in graph.get_all_asset_keys()


def test_an_operation_that_is_named_twice_runs_once() -> None:
    settings = Settings(operations=["person-tracking", "person_tracking"])
    assert settings.operations == ["person_tracking"]


def test_structured_settings_are_json_in_the_environment() -> None:
    found = Settings.from_env(
        {
            "REKOGNITION_DAGSTER_SOURCES": '[{"bucket": "yd", "operations": ["label-detection"]}]',
            "REKOGNITION_DAGSTER_PARAMETERS": '{"label_detection": {"MinConfidence": 80}}',
        }
    )
    assert found.source_list == [Source("yd", "", ("label_detection",))]
    assert found.request_parameters == {"label_detection": {"MinConfidence": 80}}
    with pytest.raises(ConfigurationError, match="REKOGNITION_DAGSTER_SERVICES is no JSON"):
        Settings.from_env({"REKOGNITION_DAGSTER_SERVICES": "faces at home"})


TOPIC = "arn:aws:sns:eu-west-1:123456789012:completions"
ROLE = "arn:aws:iam::123456789012:role/publish"


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("QUEUE_URL", "completions", "QUEUE_URL: .*'completions' is none; write e.g. https://sqs"),
        (
            "TOPIC_ARN",
            "arn:aws:sqs:eu-west-1:123456789012:q",
            "TOPIC_ARN: .*write e.g. arn:aws:sns",
        ),
        ("ASSUME_ROLE", "admin", "ASSUME_ROLE: .*write e.g. arn:aws:iam"),
        ("SERVICES", '{"person_tracking": {"endpoint_url": "here"}}', "endpoint_url: .*http://"),
        ("SERVICES", '{"label_detection": {}}', "SERVICES: is about label_detection, but the op"),
        ("PARAMETERS", '{"label_detection": {"MinConfidence": 9}}', "PARAMETERS: is about label_"),
        ("BUDGET", '[{"per": "day", "minutes": "ten"}]', "BUDGET: 0: minutes: .*it is 'ten'"),
        ("OWNERS", "me", "OWNERS: .*'me' is no owner"),
        ("ALERTS", '{"slack_channel": "#v", "secret": "s", "ui_url": "x"}', "ui_url: .*https://"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(
    setting: str, value: str, text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Settings.from_env({f"REKOGNITION_DAGSTER_{setting}": value})


def test_operations_run_at_services_of_their_own(aws: boto3.Session) -> None:
    at_home = OperationService(
        endpoint_url="http://127.0.0.1:8722",
        region_name="eu-west-1",
        topic_arn=TOPIC,
        role_arn=ROLE,
    )
    services = {"person-tracking": at_home}
    settings = Settings(bucket="b", services=services, topic_arn=f"{TOPIC}-2", role_arn=ROLE)
    resources = build_resources(settings).resources or {}
    api = resources["rekognition_dagster_rekognition"].starter()
    people, faces = api.of(PERSON_TRACKING), api.of(FACE_DETECTION)
    assert people.client.meta.endpoint_url == "http://127.0.0.1:8722"
    assert people.client.meta.region_name == "eu-west-1"
    assert people.channel == NotificationChannel(TOPIC, ROLE)
    assert people.job_tag == faces.job_tag
    assert faces.client.meta.endpoint_url != "http://127.0.0.1:8722"


def test_a_role_is_assumed_with_the_credentials_that_there_are(aws: boto3.Session) -> None:
    role = "arn:aws:iam::123456789012:role/videos"
    client = rekognition_dagster.aws.client("sts", assume_role=role)
    assert ":assumed-role/videos/" in client.get_caller_identity()["Arn"]


def test_sensors_can_start_stopped() -> None:
    definitions = build_definitions(Settings(sensors="stopped"))
    states = {s.default_status for s in definitions.sensors or []}  # type: ignore[union-attr]
    assert states == {dg.DefaultSensorStatus.STOPPED}


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Loads a project of one component, with the lines of attributes that it is given."""
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

    def load(*lines: str) -> dg.Definitions:
        head = ["type: rekognition_dagster.RekognitionVideoComponent", "attributes:"]
        (folder / "defs.yaml").write_text("\n  ".join(["\n".join(head), *lines]) + "\n")
        return dg.load_from_defs_folder(path_within_project=tmp_path)

    yield load
    for module in [name for name in sys.modules if name.split(".")[0] == "yard"]:
        del sys.modules[module]


def test_a_component_in_yaml_is_a_deployment(loaded: Callable) -> None:
    definitions = loaded(
        "bucket: cameras",
        "operations: [person_tracking]",
        "nightly: '30 3 * * *'",
        "analytics: models",
    )
    graph = definitions.resolve_asset_graph()
    assert dg.AssetKey("long_stays") in graph.get_all_asset_keys()
    assert dg.AssetKey("face_detections") not in graph.get_all_asset_keys()
    assert (
        definitions.resolve_schedule_def("rekognition_dagster_nightly").cron_schedule
        == "30 3 * * *"
    )


def test_a_component_reads_of_the_environment_what_its_templates_name(
    loaded: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKOGNITION_DAGSTER_NIGHTLY", "30 4 * * *")
    monkeypatch.setenv("SENSORS", "stopped")
    definitions = loaded("bucket: cameras", 'sensors: "{{ env.SENSORS }}"')
    nightly = definitions.resolve_schedule_def("rekognition_dagster_nightly")
    assert nightly.cron_schedule == Settings().nightly
    assert nightly.default_status is dg.DefaultScheduleStatus.STOPPED


def test_a_translation_in_yaml_describes_every_asset(loaded: Callable) -> None:
    definitions = loaded(
        "bucket: cameras",
        "operations: [person_tracking]",
        "translation:",
        "  key_prefix: [yard]",
        '  group_name: "yard_{{ spec.group_name }}"',
        '  owners: ["team:video"]',
        "  tags:",
        '    of: "{{ operation.name }}"',
    )
    graph = definitions.resolve_asset_graph()
    specs = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert all(name.startswith("yard/") for name in specs)
    assert all(spec.owners == ["team:video"] for spec in specs.values())
    detections = specs["yard/person_detections"]
    assert detections.group_name == "yard_person_tracking"
    assert detections.tags["of"] == "person_tracking"
    assert detections.parent_keys == {dg.AssetKey(["yard", "person_tracking_completion"])}
    assert specs["yard/video"].tags["of"] == "videos"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("timezone: Mars/Base", "timezone: 'Mars/Base' is not a time zone"),
        ("operations: [zebra]", "operations: unknown operation 'zebra'"),
        ("date_pattern: x", "date_pattern: lacks the group day, month, year"),
        ("alerts: slack", "alerts: 'slack' has no attributes"),
        ("alerts: {email_to: [a], secret: x}", "alerts.email_to: 'a' is no e-mail address"),
        ("budget: [{per: week, money: 5}]", "budget.per: Input should be 'day' or 'month' (it is"),
        ("budget: [{per: day, money: -5}]", "budget.money: -5.0 is too small; it is above 0"),
        ("services: {person_tracking: {endpoint_url: x}}", "services.endpoint_url: 'x' is none"),
        ("sensor_interval: many", "sensor_interval: Input should be a valid integer"),
        ("visibility_seconds: 5", "visibility_seconds: 5 is too small; it is 20 or more"),
        (
            "order: newset",
            "order: Input should be 'discovered', 'newest' or 'oldest' (it is 'newset')",
        ),
        ("first: '{{ env.X }}'", "first: Input should be a valid list ({{ env.X }} is not set)"),
        (
            "max_jobs_in_flight: '{{ env.X }}'",
            "max_jobs_in_flight: Input should be a valid integer or 'service-quotas' ({{ env.X }}",
        ),
        ("asset_prefix: a b", "asset_prefix: 'a b' is no name; use letters, digits and _"),
        ("prices: {label_detection: 1}", "prices: is about label_detection, but the operations"),
        ("translation: {owners: [me]}", "translation: of the asset person_tracking_job: Invalid"),
        ("translation: {group_name: '{{ model.name }}'}", "translation: of the asset person_trac"),
    ],
)
def test_a_wrong_attribute_is_named_with_its_line(
    loaded: Callable, monkeypatch: pytest.MonkeyPatch, line: str, text: str
) -> None:
    monkeypatch.delenv("X", raising=False)
    with pytest.raises(Exception, match=r"Error while .* cameras") as caught:
        loaded("bucket: cameras", line)
    assert f"defs.yaml:4: {text}" in str(caught.value.__cause__)


def test_a_folder_of_models_that_is_not_there_is_named(loaded: Callable) -> None:
    with pytest.raises(Exception, match="cameras") as caught:
        loaded("bucket: cameras", "analytics: nope")
    assert "defs.yaml:4: analytics: " in str(caught.value.__cause__)
    assert "nope is no folder" in str(caught.value.__cause__)


def test_a_list_may_be_a_text_with_commas(
    loaded: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X", "person-tracking, label_detection")
    graph = loaded("bucket: cameras", "operations: '{{ env.X }}'").resolve_asset_graph()
    assert dg.AssetKey("label_detections") in graph.get_all_asset_keys()
    assert dg.AssetKey("face_detections") not in graph.get_all_asset_keys()


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ("bucket: yard", "defs.yaml:2: name: {} has the name rekognition-dagster, too"),
        ("{name: yard, bucket: yard}", "defs.yaml:2: asset_prefix: {} has its assets, too"),
    ],
)
def test_two_deployments_of_a_project_that_share_names_are_refused(
    loaded: Callable, tmp_path: Path, other: str, text: str
) -> None:
    second = tmp_path / "yard" / "defs" / "yard"
    second.mkdir()
    (second / "defs.yaml").write_text(
        f"type: rekognition_dagster.RekognitionVideoComponent\nattributes:\n  {other}\n"
    )
    with pytest.raises(Exception, match=r"Error while .* yard") as caught:
        loaded("bucket: cameras")
    assert text.format(second.parent / "cameras") in str(caught.value.__cause__)
    (second / "defs.yaml").write_text(
        "type: rekognition_dagster.RekognitionVideoComponent\n"
        "attributes: {name: yard, asset_prefix: yard, bucket: yard}\n"
    )
    assert loaded("bucket: cameras").sensors


def test_a_file_of_zones_is_checked_when_the_code_location_loads(tmp_path: Path) -> None:
    zones = tmp_path / "zones.yaml"
    settings = Settings(zones=str(zones))
    with pytest.raises(ConfigurationError, match=f"{zones}: there is no such file"):
        build_definitions(settings)
    zones.write_text("cameras:\n  north:\n    zone: {}\n")
    with pytest.raises(ConfigurationError, match=r"zones.yaml:2: cameras is .*; write a list"):
        build_definitions(settings)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("-- Rows.\nSELECT video\nFORM jobs", r'mine.sql:3\) is wrong: .*at or near "jobs"'),
        ("SELECT 1; SELECT 2", r"mine.sql\) is not one SELECT"),
        ("DROP TABLE jobs", r"mine.sql\) is not one SELECT"),
        ("-- to do", r"mine.sql\) is not one SELECT"),
    ],
)
def test_a_users_own_sql_is_checked_when_it_is_read(tmp_path: Path, sql: str, text: str) -> None:
    (tmp_path / "mine.sql").write_text(sql)
    with pytest.raises(ConfigurationError, match=text):
        load_models(tmp_path)


def test_columns_of_the_standard_models_are_known_before_they_run() -> None:
    graph = build_definitions(Settings()).resolve_asset_graph()
    for name, columns in ANALYTICS.items():
        schema = graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"]
        assert {c.name: c.type for c in schema.columns} == columns
        assert all(c.description for c in schema.columns), name


def test_arguments_of_another_kind_are_refused() -> None:
    wrong: Any = {"bucket": "cameras"}
    with pytest.raises(ConfigurationError, match=r"are no settings; pass Settings\(bucket=...\)"):
        build_definitions(wrong)
    with pytest.raises(ConfigurationError, match="is no model; pass SqlModel"):
        build_definitions(Settings(), models=["SELECT 1"])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="no resource lakes; there are rekognition"):
        build_definitions(Settings(), resources={"lakes": None})
    with pytest.raises(ConfigurationError, match="unknown operation 'faces'"):
        build_operation("faces", Settings())
    with pytest.raises(ConfigurationError, match="pass an instance of a RekognitionVideoTransl"):
        build_definitions(Settings(), translator=RekognitionVideoTranslator)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="nowhere is no folder"):
        load_models("nowhere")


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
    assert theirs == set(AwsResource.model_fields) - {"assume_role"}
