"""The state: each change is a transaction, and two writers cannot lose each other's work."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.state import Phase, State, batches, jobs, log, queries, results
from rekognition_dagster.state.results import Model, Written
from rekognition_dagster.state.store import set_fact, slug
from rekognition_dagster.state.tables import GONE, IGNORED, JOBS, OUTBOX, SCHEMA_VERSION, WORK
from rekognition_dagster.state.videos import Found, Plan, add_operations, mark, register
from rekognition_dagster.videos import Source, Video

TRACKING, FACES = "person_tracking", "face_detection"
PLAN = Plan([TRACKING])
EVERYTHING = [Source("b")]
PATHS = Model("person_paths", "1", (TRACKING,))
SUMMARY = Model("summary", "1", ("person_paths",))


def found(name: str, etag: str = "e1", **facts: object) -> Found:
    video = Video("b", name, etag=etag)
    return Found(video, video.partition_key, **facts)  # type: ignore[arg-type]


def discover(state: State, *names: str, plan: Plan = PLAN, etag: str = "e1") -> None:
    with state.write() as connection:
        register(connection, [found(n, etag) for n in names], time.time(), plan)


def reserve(state: State, most: int = 20, **options: object) -> list[jobs.Waiting]:
    asked = {"now": time.time(), "lease_s": 60.0, "limit": 50, "sources": EVERYTHING, **options}
    with state.write() as connection:
        return jobs.reserve(connection, [TRACKING], most=most, **asked)  # type: ignore[arg-type]


def start(state: State, work: jobs.Waiting, job_id: str) -> bool:
    with state.write() as connection:
        now = time.time()
        start = jobs.Started(work, job_id, f"token of {job_id}")
        return not jobs.started(connection, [start], now)


def complete(state: State, job_id: str, status: str = "SUCCEEDED") -> bool:
    with state.write() as connection:
        ending = jobs.Ending(job_id, status, time.time())
        return bool(jobs.complete(connection, [ending], time.time()))


def phases(state: State) -> dict[str, Phase]:
    with state.read() as connection:
        rows = connection.execute(sa.select(WORK.c.key, WORK.c.phase))
        return {key.removeprefix("b/"): Phase(phase) for key, phase in rows}


def summary(state: State, sources: list[Source] = EVERYTHING) -> queries.Summary:
    with state.read() as connection:
        return queries.summary(connection, TRACKING, sources)


def write(state: State, key: str, job_id: str, version: str = "e1") -> None:
    with state.write() as connection:
        one = Written(TRACKING, key, version, job_id, 10, f"path of {key}")
        results.written(connection, [one], [PATHS, SUMMARY], time.time())


# -- discovery ------------------------------------------------------------------------------------


def test_a_video_waits_and_a_new_version_waits_again(state: State) -> None:
    discover(state, "a.mp4")
    assert phases(state) == {"a.mp4": Phase.WAITING}
    (work,) = reserve(state)
    start(state, work, "j1")
    discover(state, "a.mp4")
    assert phases(state) == {"a.mp4": Phase.IN_FLIGHT}, "the same content is the same work"
    discover(state, "a.mp4", etag="e2")
    assert phases(state) == {"a.mp4": Phase.WAITING}


def test_what_waits_for_the_night_or_is_archived_is_held(state: State) -> None:
    discover(state, "a.mp4", plan=Plan([TRACKING], at_once=False))
    with state.write() as connection:
        register(connection, [found("cold.mp4", archived=True)], time.time(), PLAN)
    assert set(phases(state).values()) == {Phase.HELD}
    with state.write() as connection:
        jobs.open_night(connection, [TRACKING], 3, time.time(), 365)
    assert phases(state) == {"a.mp4": Phase.WAITING, "cold.mp4": Phase.HELD}
    with state.write() as connection:
        register(connection, [found("cold.mp4")], time.time(), PLAN)
    assert phases(state)["cold.mp4"] is Phase.WAITING, "it was restored"


def test_an_operation_that_is_switched_on_later_gets_its_work(state: State) -> None:
    discover(state, "a.mp4")
    both = Plan([TRACKING, "face_detection"])
    with state.write() as connection:
        add_operations(connection, both, time.time())
        add_operations(connection, both, time.time())
        count = connection.scalar(sa.select(sa.func.count()).select_from(WORK))
    assert count == 2


def test_a_backfill_gives_its_video_no_other_work(state: State) -> None:
    with state.write() as connection:
        register(connection, [found("a.mp4")], time.time(), None)
    assert phases(state) == {}
    write(state, "b/a.mp4", "local")
    assert phases(state) == {"a.mp4": Phase.ANALYSED}
    assert reserve(state) == []


# -- starts ---------------------------------------------------------------------------------------


def test_slots_are_counted_by_jobs_also_of_replaced_videos(state: State) -> None:
    discover(state, "a.mp4", "b.mp4")
    first, second = reserve(state, most=2)
    start(state, first, "j1")
    start(state, second, "j2")
    discover(state, "a.mp4", "b.mp4", etag="e2")
    assert reserve(state, most=2) == [], "their jobs still run at the service"
    complete(state, "j1")
    assert len(reserve(state, most=2)) == 1


def test_a_reservation_that_nobody_keeps_lapses_and_comes_first(state: State) -> None:
    discover(state, "a.mp4")
    discover(state, "b.mp4")
    (lost,) = reserve(state, most=1)
    assert reserve(state, most=1) == [], "it counts as in flight"
    later = time.time() + 100
    (again, other) = reserve(state, now=later)
    assert (again.key, other.key) == (lost.key, "b/b.mp4")


def test_a_start_without_an_answer_keeps_its_slot_and_is_tried_again_at_once(state: State) -> None:
    discover(state, *(f"{i}.mp4" for i in range(4)))
    first, second = reserve(state, most=2)
    start(state, second, "j2")
    with state.write() as connection:
        jobs.unanswered(connection, first, time.time(), 60.0)
    lost = (first.operation, first.key)
    assert reserve(state, most=2, without=[lost]) == [], "its job may run"
    (again,) = reserve(state, most=2)
    assert again.key == first.key
    assert again.has_slot
    assert start(state, again, "j1")
    assert reserve(state, most=2) == []


def test_a_start_that_never_gets_an_answer_gives_its_slot_back(state: State) -> None:
    discover(state, "a.mp4", "b.mp4")
    lost = (TRACKING, "b/a.mp4")
    for _ in range(jobs.UNANSWERED_STARTS):
        (work,) = reserve(state, most=1)
        assert (work.operation, work.key) == lost
        with state.write() as connection:
            jobs.unanswered(connection, work, time.time(), 60.0)
    (other,) = reserve(state, most=1, without=[lost])
    assert other.key == "b/b.mp4"


def test_what_may_run_already_comes_before_another_operations_work(state: State) -> None:
    names = [f"{i}.mp4" for i in range(4)]
    discover(state, *names)
    reserve(state, most=4, lease_s=1.0)  # and its process dies: these jobs may run
    with state.write() as connection:
        plan = Plan((TRACKING, FACES))
        register(connection, [found(f"f{n}") for n in names], time.time(), plan)
        again = jobs.reserve(
            connection,
            [FACES, TRACKING],
            EVERYTHING,
            most=4,
            limit=50,
            now=time.time() + 2,
            lease_s=60.0,
        )
    assert {(w.operation, w.key) for w in again} == {(TRACKING, f"b/{n}") for n in names}


def test_a_version_that_arrives_while_its_predecessor_starts_is_not_lost(state: State) -> None:
    discover(state, "a.mp4")
    (work,) = reserve(state)
    discover(state, "a.mp4", etag="e2")
    start(state, work, "j1")
    assert phases(state) == {"a.mp4": Phase.WAITING}
    (later,) = reserve(state)
    assert later.video.version == "e2"
    assert summary(state).counts[Phase.IN_FLIGHT] == 0
    with state.read() as connection:
        assert jobs.in_flight(connection, time.time()) == 2, "the old job runs at the service"


def test_what_a_person_asked_for_comes_first_and_whatever_is_covered(state: State) -> None:
    discover(state, "a.mp4", "z.mp4")
    with state.write() as connection:
        asked = jobs.request(connection, TRACKING, ["b/z.mp4"], time.time(), again=True)
    assert asked.waiting == ["b/z.mp4"]
    (work,) = reserve(state, sources=[Source("another")])
    assert (work.key, work.asked) == ("b/z.mp4", True)


@pytest.mark.parametrize("status", [GONE, IGNORED])
def test_what_is_gone_or_ignored_is_not_started(state: State, status: str) -> None:
    discover(state, "a.mp4", "b.mp4")
    with state.write() as connection:
        mark(connection, ["b/a.mp4"], status)
    assert [w.key for w in reserve(state)] == ["b/b.mp4"]
    assert summary(state).left_out[status] == 1
    discover(state, "a.mp4", etag="e2")
    assert summary(state).left_out[status] == 0, "it changed, so it counts again"


def test_a_prefix_is_taken_as_it_is_written(state: State) -> None:
    discover(state, "x_y/a.mp4", "xzy/b.mp4", "X_Y/c.mp4")
    covered = [Source("b", "x_y/")]
    assert summary(state, covered).left_out["not_covered"] == 2
    assert [w.key for w in reserve(state, sources=covered)] == ["b/x_y/a.mp4"]


def test_by_hand_an_analysed_video_gets_a_job_that_is_new_to_the_service(state: State) -> None:
    discover(state, "a.mp4")
    (work,) = reserve(state)
    start(state, work, "j1")
    complete(state, "j1")
    write(state, "b/a.mp4", "j1")
    with state.write() as connection:
        jobs.request(connection, TRACKING, ["b/a.mp4"], time.time(), again=True)
    (work,) = reserve(state)
    assert work.attempt == 2
    assert not start(state, work, "j1"), "the service gave the old job: another attempt"
    (work,) = reserve(state, now=time.time() + 100)
    assert work.attempt == 3
    assert start(state, work, "j2")


def test_a_deleted_video_is_refused_by_hand_with_a_reason(state: State) -> None:
    discover(state, "a.mp4")
    with state.write() as connection:
        mark(connection, ["b/a.mp4"], GONE)
        asked = jobs.request(connection, TRACKING, ["b/a.mp4", "b/x.mp4"], time.time(), again=True)
    assert "deleted from its bucket" in asked.refused["b/a.mp4"]
    assert "not known" in asked.refused["b/x.mp4"]


# -- completions ----------------------------------------------------------------------------------


def test_a_completion_that_comes_before_its_start_is_entered_is_kept(state: State) -> None:
    discover(state, "a.mp4")
    (work,) = reserve(state)
    assert not complete(state, "j1")
    start(state, work, "j1")
    assert phases(state) == {"a.mp4": Phase.UNPAGED}
    assert reserve(state, most=1, now=time.time() + 100) == []
    with state.read() as connection:
        assert jobs.in_flight(connection, time.time()) == 0, "its slot is free"


def test_completions_of_one_batch_are_entered_each_once(state: State) -> None:
    discover(state, "a.mp4", "b.mp4", "c.mp4")
    for i, work in enumerate(reserve(state)):
        start(state, work, f"j{i}")
    now = time.time()
    ends = [jobs.Ending(f"j{i}", s, now) for i, s in enumerate(("SUCCEEDED", "FAILED", "EXPIRED"))]
    with state.write() as connection:
        twice = [*ends, *ends, jobs.Ending("unknown", "SUCCEEDED", now)]
        assert jobs.complete(connection, twice, now) == 3
        assert jobs.complete(connection, twice, now) == 0
    expected = (Phase.UNPAGED, Phase.FAILED, Phase.WAITING)
    assert phases(state) == dict(zip(("a.mp4", "b.mp4", "c.mp4"), expected, strict=True))
    (retry,) = reserve(state)
    assert (retry.key, retry.attempt) == ("b/c.mp4", 2)


def test_a_completion_of_an_earlier_version_frees_its_slot_and_changes_nothing(
    state: State,
) -> None:
    discover(state, "a.mp4")
    (work,) = reserve(state)
    start(state, work, "j1")
    discover(state, "a.mp4", etag="e2")
    assert complete(state, "j1")
    assert phases(state) == {"a.mp4": Phase.WAITING}
    with state.read() as connection:
        assert jobs.in_flight(connection, time.time()) == 0


def test_the_times_of_a_job_are_its_own(state: State) -> None:
    discover(state, "a.mp4")
    (work,) = reserve(state)
    start(state, work, "j1")
    with state.write() as connection:
        jobs.complete(connection, [jobs.Ending("j1", "SUCCEEDED", 1000.0)], time.time())
        (job,) = connection.execute(sa.select(JOBS)).mappings()
    assert (job["started_at"], job["completed_at"]) == (1000.0, 1000.0)
    assert summary(state).expiring == 1, "it counts from when the job completed"


# -- results and analytics ------------------------------------------------------------------------


def test_analytics_follow_results_and_each_other(state: State) -> None:
    discover(state, "a.mp4")
    write(state, "b/a.mp4", "j1")
    order = [("person_paths", []), ("summary", ["person_paths"])]

    def launch() -> dict[str, int]:
        with state.write() as connection:
            now = time.time() + 10**6
            _, counts = batches.launch_analytics(connection, order, now, limit=9, patience_s=1)
        return counts

    def compute(model: str) -> None:
        with state.write() as connection:
            made, _ = results.wanted(connection, model, ["b/a.mp4"])["b/a.mp4"]
            one = {"key": "b/a.mp4", "partition": "b/a.mp4", "made": made, "rows": 1, "path": "p"}
            results.computed(connection, model, [one], [PATHS, SUMMARY], time.time())

    assert launch() == {"person_paths": 1}
    compute("person_paths")
    assert launch() == {"summary": 1}
    compute("summary")
    assert launch() == {}
    write(state, "b/a.mp4", "j1")
    assert launch() == {}, "the same results again change nothing"
    write(state, "b/a.mp4", "j2")
    assert launch() == {"person_paths": 1}


def completed(state: State, *names: str) -> None:
    discover(state, *names)
    for work in reserve(state):
        start(state, work, f"job of {work.key}")
        complete(state, f"job of {work.key}")


def launch(state: State, now: float) -> list[str]:
    with state.write() as connection:
        batch, _ = batches.launch_results(connection, [TRACKING], now, limit=9, patience_s=60.0)
        return batches.keys_of(connection, batch, TRACKING) if batch else []


def open_batch(connection: sa.Connection) -> str:
    batch = batches.open_batch(connection, batches.RESULTS)
    assert batch is not None
    return batch[0]


def test_a_run_that_was_killed_after_some_work_costs_the_rest_no_try(state: State) -> None:
    names = [f"{i}.mp4" for i in range(batches.TRIES + 3)]
    completed(state, *names)
    now = time.time()
    for i, name in enumerate(names):
        assert launch(state, now) == [f"b/{n}" for n in names[i:]]
        write(state, f"b/{name}", f"job of b/{name}")
        with state.write() as connection:
            batches.break_off(connection, open_batch(connection))
    assert launch(state, now) == []


@pytest.mark.parametrize("began", [True, False])
def test_a_video_is_given_up_if_runs_die_at_work_not_if_they_never_begin(
    state: State, began: bool
) -> None:
    completed(state, "a.mp4")
    launched, now = 0, time.time()
    for hour in range(20):
        launched += bool(launch(state, now + hour * 3600))
        with state.write() as connection:
            if found := batches.open_batch(connection, batches.RESULTS):
                if began:
                    batches.alive(connection, found[0], now + hour * 3600 + 1)
                batches.break_off(connection, found[0])
    assert launched == (batches.TRIES if began else 20)


def test_a_run_that_could_do_nothing_for_any_video_counts_for_none(state: State) -> None:
    completed(state, "a.mp4")
    now = time.time()
    for day in range(2 * batches.TRIES):
        assert launch(state, now + day * 86400) == ["b/a.mp4"]
        assert launch(state, now + day * 86400) == [], "not again at once"
        with state.write() as connection:
            batches.give_back(connection, open_batch(connection))


def test_a_model_whose_text_changed_and_a_new_one_are_computed_for_all(state: State) -> None:
    discover(state, "a.mp4")
    with state.write() as connection:
        one = Written(TRACKING, "b/a.mp4", "e1", "j1", 10, "path")
        results.written(connection, [one], [], time.time())
        results.add_models(connection, [PATHS])
        assert results.wanted(connection, "person_paths", ["b/a.mp4"]) == {"b/a.mp4": (1, None)}
        results.add_models(connection, [PATHS])
        assert results.wanted(connection, "person_paths", ["b/a.mp4"]) == {"b/a.mp4": (1, None)}
        results.add_models(connection, [Model("person_paths", "2", (TRACKING,))])
        assert results.wanted(connection, "person_paths", ["b/a.mp4"]) == {"b/a.mp4": (2, None)}


# -- the outbox -----------------------------------------------------------------------------------


def test_a_report_that_changed_while_it_was_made_is_made_again(state: State) -> None:
    discover(state, "a.mp4")
    with state.write() as connection:
        due = log.pending(connection, 10)
    discover(state, "a.mp4", etag="e2")
    with state.write() as connection:
        log.reported(connection, due)
        assert connection.scalar(sa.select(sa.func.count()).select_from(OUTBOX)) == 1
        log.reported(connection, log.pending(connection, 10))
        assert log.pending(connection, 10) == []


# -- the store ------------------------------------------------------------------------------------


def test_a_later_schema_and_another_deployments_state_are_refused(url: str) -> None:
    first = State(url, "cameras")
    State(url, "cameras").dispose()
    with first.write() as connection:
        set_fact(connection, "schema_version", "99")
    with pytest.raises(ConfigurationError, match="schema version 99"):
        State(url, "cameras")
    with first.write() as connection:
        set_fact(connection, "schema_version", str(SCHEMA_VERSION))
        set_fact(connection, "deployment", "another")
    with pytest.raises(ConfigurationError, match="belongs to the deployment another"):
        State(url, "cameras")
    first.dispose()


def test_names_that_differ_have_slugs_that_differ() -> None:
    names = ["rekognition-dagster", "Rekognition-dagster", "a.b", "a-b", "a_b.", "x" * 99, "x" * 98]
    assert slug("rekognition-dagster") == "rekognition_dagster"
    assert len({slug(n) for n in names}) == len(names)


def _reserve_all(url: str, taken: multiprocessing.Queue[Sequence[str]]) -> None:
    state = State(url, "cameras")
    keys: list[str] = []
    for _ in range(10):
        keys += [w.key for w in reserve(state, most=100, limit=5)]
    taken.put(keys)


def test_two_processes_reserve_nothing_twice(url: str) -> None:
    state = State(url, "cameras")
    discover(state, *(f"{i:03}.mp4" for i in range(100)))
    context = multiprocessing.get_context("spawn")
    taken: multiprocessing.Queue[Sequence[str]] = context.Queue()
    processes = [context.Process(target=_reserve_all, args=(url, taken)) for _ in range(2)]
    for process in processes:
        process.start()
    keys = [key for _ in processes for key in taken.get(timeout=60)]
    for process in processes:
        process.join()
    assert len(keys) == len(set(keys)) == 100
    state.dispose()


def test_the_night_removes_old_history_and_nothing_else(state: State) -> None:
    discover(state, "a.mp4")
    now = time.time()
    with state.write() as connection:
        jobs.open_night(connection, [TRACKING], 3, now + 86400, history_days=2)
        assert [h["what"] for h in queries.everything(connection, "b/a.mp4")["history"]]
        jobs.open_night(connection, [TRACKING], 3, now + 3 * 86400, history_days=2)
        left = queries.everything(connection, "b/a.mp4")
    assert left["history"] == []
    assert [w["phase"] for w in left["work"]] == ["waiting"]


# -- the schema -----------------------------------------------------------------------------------


def test_a_state_of_the_first_version_is_upgraded_and_keeps_what_waits(
    state: State, url: str
) -> None:
    discover(state, "a.mp4")
    with state.write() as connection:
        schema = f'"{state.schema}".' if state.is_postgres else ""
        connection.execute(sa.text(f"DROP INDEX {schema}work_in_order"))
        connection.execute(
            sa.text(f"CREATE INDEX work_by_phase ON {schema}work (operation, phase)")
        )
        connection.execute(sa.text(f"DROP INDEX {schema}jobs_by_start"))
        later = ("work warning", "work rank", "videos duration_s", "jobs minutes")
        for column in (*later, "work highlights", "outbox detail"):
            table, name = column.split()
            connection.execute(sa.text(f"ALTER TABLE {schema}{table} DROP COLUMN {name}"))
        connection.execute(WORK.update().values(priority=2))
        set_fact(connection, "schema_version", "1")
    upgraded = State(url, "cameras")
    try:
        (work,) = reserve(upgraded)
        assert not work.lapsed
        start(upgraded, work, "j1")
        complete(upgraded, "j1")
        write(upgraded, "b/a.mp4", "j1")
        assert phases(upgraded) == {"a.mp4": Phase.ANALYSED}
    finally:
        upgraded.dispose()
    State(url, "cameras").dispose()
