"""What a real deployment meets: other teams, two deployments, people who click, time that runs out.

Each test stands for a kind of fault that the pipeline once had.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from click.testing import CliRunner
from deployment import Deployment, put_videos
from rekognition_double import ApiFault

from rekognition_dagster import Settings, SqlModel, Video, build_definitions
from rekognition_dagster.analytics import load_models
from rekognition_dagster.cli import main
from rekognition_dagster.errors import AccessError, ConfigurationError
from rekognition_dagster.orchestration import dispatch
from rekognition_dagster.orchestration.settings import BudgetLimit
from rekognition_dagster.state import Phase
from rekognition_dagster.state.queries import everything, summary
from rekognition_dagster.state.rebuild import rebuild
from rekognition_dagster.state.rerun import Choice, ask_again
from rekognition_dagster.state.store import sqlite_url

OPERATION = "person_tracking"


def analyse(deployment: Deployment, *keys: str) -> list[str]:
    """Bring videos the whole way to results; their partitions."""
    partitions = deployment.complete(*keys)
    deployment.run_requested("results_refresh")
    return partitions


def counts(deployment: Deployment) -> dict[str, int]:
    with deployment.state.read() as connection:
        found = summary(connection, OPERATION, deployment.settings.source_list)
    both = {p.value: n for p, n in found.counts.items()} | dict(found.left_out)
    return {name: n for name, n in both.items() if n}


# -- AWS settings ---------------------------------------------------------------------------------


def test_aws_region_alone_is_enough(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    deployment.tick("video_discovery")
    put_videos_with_default_region(deployment, monkeypatch)
    assert deployment.dispatch() == 1
    deployment.tick("completions")


def put_videos_with_default_region(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        put_videos(str(deployment.settings.bucket), "a.mp4")
    deployment.tick("video_discovery")


@pytest.mark.parametrize(
    "code", ["ExpiredTokenException", "UnrecognizedClientException", "AccessDeniedException"]
)
def test_what_is_refused_to_all_is_booked_to_no_video(deployment: Deployment, code: str) -> None:
    def refuse(request: dict[str, Any]) -> None:
        raise ApiFault(code)

    deployment.double.on_start = refuse
    deployment.discover(*(f"{i}.mp4" for i in range(30)))
    with pytest.raises(AccessError, match=code):
        deployment.tick("job_dispatch")
    assert deployment.double.calls["StartPersonTracking"] <= 3
    assert set(deployment.phases().values()) == {Phase.WAITING}
    deployment.double.on_start = lambda request: None
    assert deployment.dispatch() == 20, "at once, not after the night"


def test_credentials_that_are_missing_fail_the_tick(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.discover("a.mp4")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(AccessError, match="credentials"):
        deployment.tick("job_dispatch")
    assert deployment.phases() == {"a.mp4": Phase.WAITING}


# -- versions -------------------------------------------------------------------------------------


def test_a_versioned_bucket_is_paid_for_once(deployment: Deployment) -> None:
    """A backfill learns the version id, a listing the etag; both mean the same content."""
    s3: Any = boto3.client("s3")
    s3.put_bucket_versioning(
        Bucket=deployment.settings.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    analyse(deployment, "a.mp4")
    head = s3.head_object(Bucket=deployment.settings.bucket, Key="a.mp4")
    located = Video(
        str(deployment.settings.bucket),
        "a.mp4",
        version_id=head["VersionId"],
        etag=head["ETag"].strip('"'),
    )
    assert located.version == deployment.stands()["a.mp4"].video.version
    deployment.cursors.clear()
    deployment.tick("video_discovery")
    assert deployment.dispatch() == 0


# -- ticks ----------------------------------------------------------------------------------------


def test_a_slow_service_ends_the_tick_in_time(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.double.on_start = lambda request: time.sleep(0.5)
    deployment.discover(*(f"{i}.mp4" for i in range(20)))
    with monkeypatch.context() as patched:
        patched.setattr(dispatch, "TICK_S", 5.0)
        started = deployment.dispatch()
    assert 0 < started < 20
    deployment.double.on_start = lambda request: None
    assert deployment.dispatch() == 20 - started, "what was reserved is given back"


def test_an_endpoint_that_never_answers_ends_the_tick_in_time(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_REKOGNITION", "http://127.0.0.1:9")
    deployment.discover(*(f"{i}.mp4" for i in range(30)))
    began = time.monotonic()
    deployment.tick("job_dispatch")
    assert time.monotonic() - began < 20
    assert set(deployment.phases().values()) == {Phase.WAITING}


# -- other people ---------------------------------------------------------------------------------


def test_a_partition_that_is_deleted_is_ignored_until_it_changes(deployment: Deployment) -> None:
    first, _ = deployment.complete("a.mp4", "b.mp4")
    deployment.tick("reports")
    name = str(deployment.ours.partitions.name)
    deployment.instance.delete_dynamic_partition(name, first)
    deployment.cursors["reports"] = "0"  # a minute later
    deployment.tick("reports")
    (run,) = deployment.run_requested("results_refresh")
    assert run.success, "it stops nobody"
    assert counts(deployment) == {"ignored": 1, "analysed": 1}
    assert deployment.partitions() == [f"{deployment.settings.bucket}/b.mp4"]
    put_videos(str(deployment.settings.bucket), "a.mp4", body=b"changed")
    deployment.tick("video_discovery")
    deployment.tick("reports")
    assert first in deployment.partitions()
    assert deployment.dispatch() == 1


def test_a_new_dagster_instance_is_told_of_everything(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.double.failed.add("bad.mp4")
    good, bad = analyse(deployment, "a.mp4", "bad.mp4")
    deployment.run_requested("analytics_refresh")
    deployment.tick("reports")
    deployment.set(
        state=f"sqlite:///{deployment.instance.root_directory}/rekognition/"
        f"{deployment.ours.scoped('')[:-1]}.sqlite"
    )
    with dg.DagsterInstance.local_temp(str(tmp_path)) as another:
        deployment.instance = another
        deployment.cursors.clear()
        assert deployment.materialized("person_detections") == {good}
        assert deployment.materialized("video_summary") == {good}
        assert set(deployment.partitions()) == {good, bad}
        assert deployment.failing("person_detections") == {bad}
        assert counts(deployment) == {"analysed": 1, "failed": 1}, "nobody is ignored"


def test_a_foreign_event_changes_nothing(deployment: Deployment) -> None:
    (partition,) = deployment.discover("a.mp4")
    for key in ("video", "person_tracking_job", "person_detections"):
        deployment.instance.report_runless_asset_event(
            dg.AssetMaterialization(key, partition=partition, metadata={"at": "yesterday"})
        )
        deployment.instance.report_runless_asset_event(
            dg.AssetObservation(key, partition=partition)
        )
    assert deployment.dispatch() == 1


def test_a_team_keeps_its_executor_its_resources_and_its_automation() -> None:
    @dg.asset(automation_condition=dg.AutomationCondition.eager())
    def theirs() -> None: ...

    @dg.schedule(cron_schedule="0 0 * * *", job=dg.define_asset_job("theirs_job", [theirs]))
    def nightly() -> dict[str, Any]:
        return {}

    team = dg.Definitions(
        assets=[theirs],
        schedules=[nightly],
        resources={"lake": dg.ResourceDefinition.hardcoded_resource("theirs")},
        executor=dg.multiprocess_executor,
    )
    merged = dg.Definitions.merge(team, build_definitions(Settings()))
    dg.Definitions.validate_loadable(merged)
    assert merged.executor is dg.multiprocess_executor
    automated = [
        s for s in merged.sensors or [] if isinstance(s, dg.AutomationConditionSensorDefinition)
    ]
    assert automated == []


def test_two_deployments_fit_into_one_code_location_and_one_instance(
    deployment: Deployment,
) -> None:
    second = Settings(name=f"{deployment.settings.name}-2", asset_prefix="second")
    merged = dg.Definitions.merge(deployment.definitions, build_definitions(second))
    dg.Definitions.validate_loadable(merged)
    other = Deployment(
        deployment.settings.model_copy(
            update={"name": second.name, "prefix": "other/", "state": None}
        ),
        deployment.instance,
        deployment.provisioned,
        deployment.double,
    )
    deployment.set(prefix="mine/")
    deployment.discover("mine/a.mp4", "other/b.mp4")
    other.tick("video_discovery")
    other.tick("reports")
    assert list(deployment.phases()) == ["mine/a.mp4"]
    assert list(other.phases()) == ["other/b.mp4"]
    assert len(deployment.partitions()) == len(other.partitions()) == 1


# -- calling off ----------------------------------------------------------------------------------


def test_what_the_settings_no_longer_cover_is_not_started(deployment: Deployment) -> None:
    deployment.discover("lobby/a.mp4", "gate/b.mp4")
    deployment.set(prefix="lobby/")
    assert deployment.dispatch() == 1
    assert counts(deployment) == {"in_flight": 1, "not_covered": 1}


@pytest.mark.parametrize("policy", ["keep", "mark", "forget"])
def test_a_deleted_object_follows_the_policy(deployment: Deployment, policy: str) -> None:
    deployment.set(deleted=policy)
    done, _ = analyse(deployment, "a.mp4", "b.mp4")
    deployment.run_requested("analytics_refresh")
    deployment.tick("reports")
    s3: Any = boto3.client("s3")
    s3.delete_object(Bucket=deployment.settings.bucket, Key="a.mp4")
    deployment.tick("video_discovery")
    deployment.tick("reports")
    rows = deployment.rows("SELECT count(DISTINCT video) FROM person_detections")
    if policy == "forget":
        assert counts(deployment) == {"analysed": 1}
        assert rows == [(1,)]
        assert deployment.rows("SELECT count(*) FROM video_summary") == [(1,)]
        assert deployment.rows("SELECT count(*) FROM jobs") == [(1,)]
        assert done not in deployment.partitions()
    else:
        assert counts(deployment) == (
            {"analysed": 2} if policy == "keep" else {"analysed": 1, "gone": 1}
        )
        assert rows == [(2,)]
        assert done in deployment.partitions()
    if policy == "mark":
        result = deployment.materialize("person_tracking_job", [done])
        assert not result.success, "there is nothing to analyse, and the run says so"
    assert deployment.dispatch() == 0


def test_an_object_that_comes_back_is_there_again(deployment: Deployment) -> None:
    analyse(deployment, "a.mp4")
    s3: Any = boto3.client("s3")
    s3.delete_object(Bucket=deployment.settings.bucket, Key="a.mp4")
    deployment.tick("video_discovery")
    put_videos(str(deployment.settings.bucket), "a.mp4")
    deployment.tick("video_discovery")
    assert counts(deployment) == {"analysed": 1}
    assert deployment.dispatch() == 0, "its content was paid for"


def test_archived_objects_wait_until_they_are_restored(deployment: Deployment) -> None:
    s3: Any = boto3.client("s3")
    s3.put_object(
        Bucket=deployment.settings.bucket, Key="cold.mp4", Body=b"v", StorageClass="GLACIER"
    )
    deployment.discover("warm.mp4")
    assert deployment.dispatch() == 1
    assert deployment.phases()["cold.mp4"] is Phase.HELD


def test_a_listing_belongs_to_its_prefix(deployment: Deployment) -> None:
    deployment.set(prefix="z/")
    deployment.cursors["video_discovery"] = (
        f'{{"s3://{deployment.settings.bucket}/a/": {{"after": "zz"}}}}'
    )
    deployment.discover("z/a.mp4")
    assert list(deployment.phases()) == ["z/a.mp4"]


# -- steering -------------------------------------------------------------------------------------


def steer(deployment: Deployment, **config: object) -> bool:
    job = deployment.definitions.resolve_job_def(deployment.ours.scoped("steering"))
    ops = {"ops": {deployment.ours.scoped("steer"): {"config": config}}}
    return job.execute_in_process(ops, instance=deployment.instance, raise_on_error=False).success


def test_a_person_steers_from_dagsters_ui(deployment: Deployment) -> None:
    deployment.discover("lobby/a.mp4", "lobby/b.mp4", "yard/c.mp4")
    assert steer(deployment, action="pause", place="lobby/")
    assert steer(deployment, action="ignore", place="yard/")
    assert deployment.dispatch() == 0
    result = deployment.evaluate("job_dispatch")
    assert "Paused: all operations of lobby/" in str(result.skip_message)
    assert steer(deployment, action="prioritize", place="lobby/b")
    assert steer(deployment, action="resume")
    deployment.set(max_jobs_in_flight=1)
    assert deployment.dispatch() == 1
    assert deployment.phases()["lobby/b.mp4"] is Phase.IN_FLIGHT
    assert not steer(deployment, action="ignore")
    assert not steer(deployment, action="pause", operations=["zebras"])


def test_a_budget_that_is_too_small_for_what_waits_is_named(deployment: Deployment) -> None:
    limit = BudgetLimit(per="day", money=1e-9)
    deployment.set(budget=[limit])
    deployment.discover("a.mp4")
    assert deployment.dispatch() == 0
    skipped = str(deployment.evaluate("job_dispatch").skip_message)
    assert "The budget is used up: 0.00 of 1e-09 money this day, until" in skipped
    deployment.set(budget=[limit.model_copy(update={"money": 1.0})])
    assert deployment.dispatch() == 1
    assert "No video waits" in str(deployment.evaluate("job_dispatch").skip_message)


def test_a_plan_says_what_would_start_before_anything_does(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_videos(str(deployment.settings.bucket), "a.mp4", "b.mp4", "c.mp4", "note.txt")
    settings = deployment.settings
    for name in ("bucket", "lake", "name"):
        monkeypatch.setenv(f"REKOGNITION_DAGSTER_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("REKOGNITION_DAGSTER_OPERATIONS", "person_tracking")
    monkeypatch.setenv("REKOGNITION_DAGSTER_STATE", settings.state or planned_state(deployment))

    def planned() -> dict[str, Any]:
        result = CliRunner().invoke(main, ["plan", "--no-engine", "--format", "json"])
        assert result.exit_code == 0, result.output
        (one,) = json.loads(result.stdout)
        return one

    before = planned()
    assert (before["videos"], before["refused"], before["price"]) == (3, {}, 0.1)
    assert before["money"] == pytest.approx(0.1 * before["minutes"])
    assert deployment.phases() == {}
    deployment.double.failed.add("a.mp4")
    analyse(deployment, "a.mp4", "b.mp4")
    put_videos(str(settings.bucket), "d.mp4")
    assert steer(deployment, action="ignore", place="c.mp4")
    after = planned()
    assert after["videos"] == 1  # d, which is not discovered yet; b is done
    assert set(after["refused"].values()) == {1}
    assert {r.split(":")[0] for r in after["refused"]} == {"FAILED", "ignored"}
    table = CliRunner().invoke(main, ["plan", "--no-engine"]).stdout
    assert "person_tracking: 1 would not start: ignored" in table
    assert steer(deployment, action="pause", operations=["person_tracking"])
    monkeypatch.setenv("REKOGNITION_DAGSTER_BUDGET", '[{"per": "day", "minutes": 600}]')
    paused, spent = planned()["delays"]
    assert paused == "paused: person_tracking"
    assert spent.endswith("of 600 minutes this day; this alone takes 1 day")
    monkeypatch.setenv("REKOGNITION_DAGSTER_BUDGET", '[{"per": "day", "minutes": 1e-9}]')
    assert any("longer than a whole limit" in reason for reason in planned()["refused"])
    monkeypatch.delenv("REKOGNITION_DAGSTER_BUDGET")
    job = deployment.definitions.resolve_job_def(deployment.ours.scoped("plan"))
    assert job.execute_in_process(instance=deployment.instance).success


def planned_state(deployment: Deployment) -> str:
    return sqlite_url(deployment.instance.root_directory, deployment.settings.name)


# -- by hand --------------------------------------------------------------------------------------


def test_by_hand_while_slots_are_full_it_waits_visibly_and_starts_first(
    deployment: Deployment,
) -> None:
    deployment.set(max_jobs_in_flight=1)
    partitions = deployment.discover("a.mp4", "b.mp4", "c.mp4")
    deployment.dispatch()
    result = deployment.materialize("person_tracking_job", [partitions[2]])
    assert result.success
    assert deployment.stands()["c.mp4"].work["reason"] == "asked for by hand"
    deployment.notify()
    deployment.tick("completions")
    deployment.dispatch()
    assert deployment.phases()["c.mp4"] is Phase.IN_FLIGHT


def test_an_analysed_video_is_analysed_again_by_hand(deployment: Deployment) -> None:
    (partition,) = analyse(deployment, "a.mp4")
    assert deployment.materialize("person_tracking_job", [partition]).success
    assert len(deployment.double.jobs) == 2, "a new attempt"
    deployment.notify("job-1")
    deployment.tick("completions")
    deployment.run_requested("results_refresh")
    (stand,) = deployment.stands().values()
    assert stand.work["results_job_id"] == "job-1"


@pytest.mark.parametrize("is_deleted", [False, True])
def test_older_results_never_replace_newer_ones(deployment: Deployment, is_deleted: bool) -> None:
    (partition,) = deployment.complete("a.mp4")
    stand = deployment.stands()["a.mp4"]
    video, lake = stand.video, deployment.lake
    row = {"video": video.uri, "job_id": "newer", "timestamp_ms": 0, "person_index": 0}
    with lake.writer("person_detections", video) as writer:
        writer.write([row])
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    job = {"job_id": "newer", "status": "SUCCEEDED", "rows": 1, "completed_at": later}
    lake.write_job(video, OPERATION, {**job, "backend": "engine:default"})
    if is_deleted:
        s3: Any = boto3.client("s3")
        s3.delete_object(Bucket=deployment.settings.bucket, Key="a.mp4")
        deployment.tick("video_discovery")
    deployment.run_requested("results_refresh")
    deployment.materialize("person_detections", [partition])
    assert deployment.rows("SELECT DISTINCT job_id FROM person_detections") == [("newer",)]
    assert deployment.stands()["a.mp4"].work["results_job_id"] == "newer"
    assert deployment.stands()["a.mp4"].work["backend"] == "engine:default"


def test_results_and_what_is_downstream_are_computed_in_one_run(deployment: Deployment) -> None:
    (partition,) = deployment.complete("a.mp4")
    names = ("person_detections", "person_paths", "video_summary", "activity_by_minute")
    result = deployment.materialize(*names, [partition])
    assert result.success
    computed = {
        e.asset_key.to_user_string()
        for e in result.get_asset_materialization_events()
        if e.asset_key
    }
    assert computed == set(names)
    assert deployment.run_requested("analytics_refresh") == []


def test_a_partition_that_was_added_by_hand_is_not_green(deployment: Deployment) -> None:
    key = f"{deployment.settings.bucket}/typo.mp4"
    deployment.instance.add_dynamic_partitions(str(deployment.ours.partitions.name), [key])
    for asset in ("person_tracking_job", "person_detections"):
        result = deployment.materialize(asset, [key])
        assert not result.success


def test_what_failed_is_run_again_on_request(deployment: Deployment) -> None:
    deployment.double.failed.add("bad.mp4")
    analyse(deployment, "a.mp4", "bad.mp4")

    def again(**chosen: Any) -> list[str]:
        choice = Choice([OPERATION], **chosen)
        return ask_again(deployment.state, choice, deployment.settings.date_pattern)

    lines = again(failed=True)
    assert lines == ["person_tracking: 1 asked for, 0 running already, 0 refused"]
    assert deployment.dispatch() == 1
    with pytest.raises(ConfigurationError, match="begins with 'nothing'"):
        again(prefix="nothing")
    with pytest.raises(ConfigurationError, match="not a date"):
        again(day="today")
    job = deployment.definitions.resolve_job_def(deployment.ours.scoped("rerun"))
    op = deployment.ours.scoped("ask_again")
    config = {"ops": {op: {"config": {"prefix": "a"}}}}
    assert job.execute_in_process(config, instance=deployment.instance).success
    assert deployment.dispatch() == 1


# -- results --------------------------------------------------------------------------------------


def test_a_page_that_nobody_foresaw_ends_no_other_video(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.complete("a.mp4", "b.mp4", "c.mp4")
    get = deployment.double._get

    def strange(operation: str, request: dict[str, Any]) -> dict[str, Any]:
        page = get(operation, request)
        if request["JobId"] == "job-1":
            page["Persons"][0]["Timestamp"] = {"seconds": 1}
        return page

    monkeypatch.setattr(deployment.double, "_get", strange)
    (run,) = deployment.run_requested("results_refresh")
    assert not run.success
    assert counts(deployment) == {"analysed": 2, "unpaged": 1}


def test_every_failed_video_of_a_batch_is_red_and_stays_so(deployment: Deployment) -> None:
    bad = [f"bad{i}.mp4" for i in range(5)]
    deployment.double.failed |= set(bad)
    good, *failed = analyse(deployment, "a.mp4", *bad)
    assert deployment.red("person_detections") == set(failed)
    assert deployment.failing("person_detections") == set(failed)
    analyse(deployment, "later.mp4")
    assert deployment.failing("person_detections") == set(failed), "an unrelated run clears none"
    assert deployment.materialized("person_detections") >= {good}
    deployment.double.failed.clear()
    deployment.materialize("person_tracking_job", [failed[0]])
    deployment.notify()
    deployment.tick("completions")
    deployment.run_requested("results_refresh")
    assert deployment.failing("person_detections") == set(failed[1:])
    assert deployment.red("person_detections") == set(failed[1:])


def test_unknown_is_null_and_not_zero(deployment: Deployment) -> None:
    deployment.set(operations=["person_tracking", "face_detection"])
    deployment.discover("a.mp4")
    deployment.dispatch()
    (tracked,) = (i for i, j in deployment.double.jobs.items() if "Person" in j["API"])
    deployment.notify(tracked)
    deployment.tick("completions")
    deployment.run_requested("results_refresh")
    deployment.run_requested("analytics_refresh")
    sql = "SELECT people, face_detections, most_faces_at_once FROM video_summary"
    assert deployment.rows(sql) == [(2, None, None)]
    assert deployment.rows("SELECT people, faces FROM activity_by_minute") == [(2, None)]
    deployment.notify()
    deployment.tick("completions")
    deployment.run_requested("results_refresh")
    deployment.run_requested("analytics_refresh")
    assert deployment.rows(sql) == [(2, 10, 1)]


def test_an_edited_model_is_computed_again(deployment: Deployment) -> None:
    analyse(deployment, "a.mp4")
    deployment.run_requested("analytics_refresh")
    models = load_models(names=["person_paths"])
    (before,) = models
    edited = SqlModel(before.name, f"{before.sql}\nORDER BY video")
    commented = SqlModel(before.name, f"-- Another comment.\n{before.sql}")
    assert edited.code_version != before.code_version == commented.code_version
    deployment.definitions = build_definitions(deployment.settings, models=[edited])
    (run,) = deployment.run_requested("analytics_refresh")
    assert run.success
    with pytest.raises(ConfigurationError, match="table of the lake itself"):
        SqlModel("jobs", "SELECT 1")


# -- what was paid for ----------------------------------------------------------------------------


@pytest.mark.parametrize("by_command", [False, True])
def test_a_lost_state_over_a_full_lake_starts_nothing(
    deployment: Deployment, tmp_path: Path, by_command: bool
) -> None:
    analyse(deployment, *(f"{i}.mp4" for i in range(5)))
    deployment.set(state=f"sqlite:///{tmp_path / 'new.sqlite'}")
    if by_command:
        entered = rebuild(deployment.state, deployment.lake, deployment.settings.partitioning, [])
        assert entered == {OPERATION: 5}
        assert counts(deployment) == {"analysed": 5}
    deployment.cursors.clear()
    deployment.tick("video_discovery")
    assert deployment.dispatch() == 0
    assert counts(deployment) == {"analysed": 5}
    put_videos(str(deployment.settings.bucket), "0.mp4", body=b"changed")
    deployment.tick("video_discovery")
    assert deployment.dispatch() == 1, "only what changed"


def test_everything_that_is_known_of_a_video_is_told_in_order(deployment: Deployment) -> None:
    (key,) = analyse(deployment, "a.mp4")
    with deployment.state.read() as connection:
        facts = everything(connection, key)
    assert [h["what"] for h in facts["history"]] == [
        "discovered",
        "started",
        "completed",
        "results written",
    ]
    times = [h["at"] for h in facts["history"]]
    assert times == sorted(times)
    assert [j["job_id"] for j in facts["jobs"]] == ["job-0"]


def test_clients_are_not_made_for_each_video(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rekognition_dagster import aws

    made: list[str] = []
    client = aws.client

    def counted(service: str, **options: Any) -> Any:
        made.append(service)
        return client(service, **options)

    monkeypatch.setattr(aws, "client", counted)
    analyse(deployment, *(f"{i}.mp4" for i in range(6)))
    assert made.count("rekognition") <= 2
    assert made.count("s3") == 1


def test_a_dead_letter_queue_that_cannot_be_written_blocks_no_good_message(
    deployment: Deployment,
) -> None:
    deployment.discover("a.mp4")
    deployment.dispatch()
    sqs: Any = boto3.client("sqs")
    sqs.delete_queue(QueueUrl=deployment.provisioned.dead_letter_url)
    sqs.send_message(QueueUrl=deployment.queue.url, MessageBody="nonsense")
    deployment.notify()
    deployment.tick("completions")
    assert deployment.phases() == {"a.mp4": Phase.UNPAGED}


def test_a_wrong_cron_and_a_wrong_time_zone_name_their_variables() -> None:
    for name, value in (("NIGHTLY", "every night"), ("COMPACTION", "5"), ("TIMEZONE", "Zürich")):
        with pytest.raises(ConfigurationError, match=f"REKOGNITION_DAGSTER_{name}"):
            Settings.from_env({f"REKOGNITION_DAGSTER_{name}": value})
