"""Results in the lake: written, not to be had, adopted; and the analytics that follow from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.state import log
from rekognition_dagster.state.budget import measured
from rekognition_dagster.state.jobs import EXPIRED, EXPIRED_ATTEMPTS
from rekognition_dagster.state.store import fact, set_fact, upsert
from rekognition_dagster.state.tables import (
    ANALYTICS,
    FAILED,
    JOBS,
    NORMAL,
    SUCCEEDED,
    VIDEOS,
    WORK,
    Phase,
)
from rekognition_dagster.state.videos import CHUNK, video_of
from rekognition_dagster.videos import Video


@dataclass(frozen=True)
class Model:
    """An analytics model, as the state needs to know it.

    Args:
        name: Its table.
        code: A digest of its text.
        reads: Operations and models that it reads, by their names.
    """

    name: str
    code: str
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Stand:
    """How one video stands for one operation.

    Args:
        key: The video's key.
        partition: The partition that it is in.
        status: Of the video: present, gone or ignored.
        video: The object.
        phase: What is next.
        work: The row of ``work``.
        job: The current job's row, if there is one.
    """

    key: str
    partition: str
    status: str
    video: Video
    phase: Phase
    work: Mapping[str, Any]
    job: Mapping[str, Any] | None


def stands(connection: sa.Connection, operation: str, keys: Sequence[str]) -> list[Stand]:
    """How videos stand for an operation, in the order of ``keys``; of those that have work."""
    found: dict[str, Stand] = {}
    for start in range(0, len(keys), CHUNK):
        query = (
            sa.select(WORK, VIDEOS, JOBS)
            .set_label_style(sa.LABEL_STYLE_TABLENAME_PLUS_COL)
            .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
            .outerjoin(JOBS, JOBS.c.job_id == WORK.c.job_id)
            .where(WORK.c.operation == operation, WORK.c.key.in_(keys[start : start + CHUNK]))
        )
        for row in connection.execute(query).mappings():
            work, video, job = (_part(row, t) for t in (WORK, VIDEOS, JOBS))
            found[work["key"]] = Stand(
                work["key"],
                video["partition"],
                video["status"],
                video_of(video),
                Phase(work["phase"]),
                work,
                job if job["job_id"] is not None else None,
            )
    return [found[k] for k in keys if k in found]


def _part(row: sa.RowMapping, table: sa.Table) -> dict[str, Any]:
    return {c.name: row[f"{table.name}_{c.name}"] for c in table.columns}


def keys_in(connection: sa.Connection, partitions: Sequence[str]) -> list[str]:
    """Keys of the videos of partitions, the first discovered first."""
    keys: list[tuple[float, str]] = []
    for start in range(0, len(partitions), CHUNK):
        some = partitions[start : start + CHUNK]
        query = sa.select(VIDEOS.c.changed_at, VIDEOS.c.key).where(VIDEOS.c.partition.in_(some))
        keys += [(at, key) for at, key in connection.execute(query)]
    return [key for _, key in sorted(keys)]


@dataclass(frozen=True)
class Written:
    """Results of a video that are in the lake.

    Args:
        operation: Which.
        key: The video's key.
        version: Of the content that was analysed.
        job_id: Whose results.
        rows: How many rows.
        path: Their file, relative to the lake.
        backend: What did the work.
        warning: What was lost of the video.
        duration_ms: How long the video is, where that is known.
        checks: How many rows break each rule, where they were checked.
        highlights: What the rows say, by name.
        detail: What Dagster's UI shows of the rows once, in JSON.
    """

    operation: str
    key: str
    version: str
    job_id: str
    rows: int
    path: str
    backend: str | None = None
    warning: str | None = None
    duration_ms: int | None = None
    checks: Mapping[str, int] | None = None
    highlights: Mapping[str, Any] | None = None
    detail: str | None = None

    @classmethod
    def of(
        cls,
        lake: Lake,
        video: Video,
        operation: str,
        job: Mapping[str, Any],
        duration_ms: int | None = None,
    ) -> Written:
        """The results of a row of the lake's ``jobs``."""
        return cls(
            operation,
            video.partition_key,
            video.version or "unknown",
            job["job_id"],
            int(job["rows"] or 0),
            lake.path(OPERATIONS[operation].table, video),
            job["backend"],
            job.get("status_message"),
            duration_ms,
        )


def written(
    connection: sa.Connection,
    done: Sequence[Written],
    models: Sequence[Model],
    now: float,
    *,
    report: bool = True,
) -> None:
    """Enter results that are in the lake, and have the analytics follow.

    Args:
        connection: A transaction that writes.
        done: The results.
        models: In the order in which they are computed.
        now: The time.
        report: Whether the outbox reports them; not where the run itself does.
    """
    for operation in dict.fromkeys(w.operation for w in done):
        ours = [w for w in done if w.operation == operation]
        for start in range(0, len(ours), CHUNK):
            _written(connection, operation, ours[start : start + CHUNK], models, now, report)


def _written(
    connection: sa.Connection,
    operation: str,
    done: Sequence[Written],
    models: Sequence[Model],
    now: float,
    report: bool,
) -> None:
    query = (
        sa.select(
            VIDEOS.c.key,
            VIDEOS.c.partition,
            # No job of another version can end for a local file, so its work follows the file.
            sa.case((VIDEOS.c.bucket == "", VIDEOS.c.version), else_=WORK.c.version),
            WORK.c.results_job_id,
            WORK.c.key.is_not(None),
        )
        .outerjoin(WORK, sa.and_(WORK.c.key == VIDEOS.c.key, WORK.c.operation == operation))
        .where(VIDEOS.c.key.in_([w.key for w in done]))
    )
    before: dict[str, Any] = {key: facts for key, *facts in connection.execute(query)}
    known = [w for w in done if w.key in before]
    if not known:
        return
    settled = {
        "phase": Phase.ANALYSED.value,
        "since": now,
        "reason": None,
        "shown": True,
        "tries": 0,
        "not_before": 0.0,
        "lease_until": 0.0,
    }
    new = {"attempt": 1, "priority": NORMAL, "refusals": 0, "job_id": None}
    rows = {w.key: _results(w, now) for w in known}
    without = [w for w in known if not before[w.key][3]]
    upsert(
        connection,
        WORK,
        [
            {"operation": operation, "key": w.key, "version": w.version, **new, **settled}
            | rows[w.key]
            for w in without
        ],
    )
    this = WORK.update().where(WORK.c.operation == operation, WORK.c.key == sa.bindparam("of_key"))
    columns: dict[str, Any] = {c: sa.bindparam(f"new_{c}") for c in rows[known[0].key]}
    is_same = WORK.c.results_job_id == columns["results_job_id"]
    for name in ("checks", "highlights"):  # what the lake's own record does not have
        kept = sa.func.coalesce(columns[name], WORK.c[name])
        columns[name] = sa.case((is_same, kept), else_=columns[name])
    current = {**columns, **settled, "version": columns["results_version"]}
    for is_current, values in ((True, current), (False, columns)):
        some = [
            {"of_key": w.key, **{f"new_{c}": v for c, v in rows[w.key].items()}}
            for w in known
            if before[w.key][3] and (before[w.key][1] == w.version) is is_current
        ]
        if some:
            connection.execute(this.values(**values), some)
    _measure(connection, [w for w in known if w.version == before[w.key][1]])
    changed = [w.key for w in known if before[w.key][2] != w.job_id]
    if report:
        reports = {w.key: (operation, before[w.key][0]) for w in known}
        details = {reports[w.key]: w.detail for w in known if w.detail}
        log.to_report(connection, (reports[k] for k in changed), details)
    log.to_report(connection, ((log.checks(operation), before[w.key][0]) for w in known))
    log.remember(
        connection,
        "results written",
        ((w.key, operation, f"{w.rows} rows of job {w.job_id} in {w.path}") for w in known),
    )
    bump(connection, [(operation, key) for key in changed], models)


def _measure(connection: sa.Connection, done: Sequence[Written]) -> None:
    """Enter how long videos are, and that of their jobs."""
    long = {w.key: w.duration_ms / 1000 for w in done if w.duration_ms}
    if not long:
        return
    query = sa.select(VIDEOS.c.key, VIDEOS.c.size).where(
        VIDEOS.c.key.in_(long), VIDEOS.c.duration_s.is_(None), VIDEOS.c.size > 0
    )
    sizes = dict(connection.execute(query).all())
    if sizes:
        measured(connection, sum(long[key] for key in sizes), sum(sizes.values()))
        theirs = VIDEOS.update().where(VIDEOS.c.key == sa.bindparam("of_key"))
        rows = [{"of_key": key, "seconds": long[key]} for key in sizes]
        connection.execute(theirs.values(duration_s=sa.bindparam("seconds")), rows)
    jobs = JOBS.update().where(JOBS.c.job_id == sa.bindparam("of_job"))
    rows = [{"of_job": w.job_id, "taken": long[w.key] / 60} for w in done if w.key in long]
    connection.execute(jobs.values(minutes=sa.bindparam("taken")), rows)


def _results(one: Written, now: float) -> dict[str, Any]:
    return {
        "results_job_id": one.job_id,
        "results_version": one.version,
        "results_at": now,
        "rows": one.rows,
        "path": one.path,
        "backend": one.backend,
        "warning": one.warning,
        "checks": _json(one.checks),
        "highlights": _json(one.highlights),
    }


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(dict(value))


def not_written(
    connection: sa.Connection,
    stand: Stand,
    operation: str,
    reason: str,
    now: float,
    *,
    status: str | None,
) -> None:
    """Enter why a video's results are not in the lake.

    Args:
        connection: A transaction that writes.
        stand: The video, as it stood.
        operation: Which.
        reason: Why.
        now: The time.
        status: FAILED or EXPIRED where the job will never have results; none where it is tried
            again.
    """
    this = WORK.update().where(WORK.c.operation == operation, WORK.c.key == stand.key)
    log.remember(connection, "no results", [(stand.key, operation, reason)])
    if stand.job is None or status is None:
        connection.execute(this.values(reason=reason, shown=True))
        return
    connection.execute(
        JOBS.update()
        .where(JOBS.c.job_id == stand.job["job_id"])
        .values(
            status=status,
            message=reason,
            noticed_at=sa.func.coalesce(JOBS.c.noticed_at, now),
        )
    )
    if stand.phase is Phase.ANALYSED:
        return
    if status == EXPIRED and stand.job["attempt"] < EXPIRED_ATTEMPTS:
        values = {"phase": Phase.WAITING.value, "attempt": stand.job["attempt"] + 1}
        values |= {"priority": NORMAL, "tries": 0, "not_before": 0.0}
    else:
        values = {"phase": Phase.FAILED.value}
    connection.execute(this.values(**values, since=now, reason=reason, shown=True))
    log.to_report(connection, [(log.checks(operation), stand.partition)])


def show_failure(connection: sa.Connection, stand: Stand, operation: str) -> None:
    """Note that a run has shown why a start was refused."""
    connection.execute(
        WORK.update()
        .where(WORK.c.operation == operation, WORK.c.key == stand.key)
        .values(shown=True)
    )
    log.to_report(connection, [(log.checks(operation), stand.partition)])


# -- analytics ------------------------------------------------------------------------------------


def bump(
    connection: sa.Connection, changed: Sequence[tuple[str, str]], models: Sequence[Model]
) -> None:
    """Have the models computed again that read what has changed.

    Args:
        connection: A transaction that writes.
        changed: Operations or models, with the key of a video.
        models: In the order in which they are computed.
    """
    of: dict[str, list[str]] = {}
    for source, key in changed:
        of.setdefault(key, []).append(source)
    for model in models:
        keys = [k for k, sources in of.items() if set(sources) & set(model.reads)]
        if not keys:
            continue
        rows = [{"model": model.name, "key": k, "wanted": 0, "made": 0} for k in keys]
        upsert(connection, ANALYTICS, rows, update=[])
        for start in range(0, len(keys), CHUNK):
            connection.execute(
                ANALYTICS.update()
                .where(
                    ANALYTICS.c.model == model.name,
                    ANALYTICS.c.key.in_(keys[start : start + CHUNK]),
                )
                .values(wanted=ANALYTICS.c.wanted + 1, behind=True, tries=0, not_before=0.0)
            )


def wanted(
    connection: sa.Connection, model: str, keys: Sequence[str]
) -> dict[str, tuple[int, str | None]]:
    """The revision of each video's rows that is to be computed, and the file of those that are
    there; of the videos that have one."""
    found: dict[str, tuple[int, str | None]] = {}
    for start in range(0, len(keys), CHUNK):
        query = sa.select(ANALYTICS.c.key, ANALYTICS.c.wanted, ANALYTICS.c.path).where(
            ANALYTICS.c.model == model, ANALYTICS.c.key.in_(keys[start : start + CHUNK])
        )
        found |= {key: (revision, path) for key, revision, path in connection.execute(query)}
    return {k: found[k] for k in keys if k in found}


def computed(
    connection: sa.Connection,
    model: str,
    done: Sequence[Mapping[str, Any]],
    models: Sequence[Model],
    now: float,
    *,
    report: bool = True,
) -> None:
    """Enter rows of a model that are in the lake, and have the models that read it follow.

    Args:
        connection: A transaction that writes.
        model: Its name.
        done: ``key``, ``partition``, ``made`` (the revision), ``rows``, ``path`` and ``detail``
            of each video.
        models: In the order in which they are computed.
        now: The time.
        report: Whether the outbox reports them.
    """
    if not done:
        return
    statement = ANALYTICS.update().where(
        ANALYTICS.c.model == model, ANALYTICS.c.key == sa.bindparam("k")
    )
    connection.execute(
        statement.values(
            made=sa.bindparam("m"),
            behind=ANALYTICS.c.wanted > sa.bindparam("m"),
            rows=sa.bindparam("r"),
            path=sa.bindparam("p"),
            at=now,
            tries=0,
        ),
        [{"k": d["key"], "m": d["made"], "r": d["rows"], "p": d["path"]} for d in done],
    )
    bump(connection, [(model, d["key"]) for d in done], models)
    log.remember(connection, "computed", ((d["key"], model, f"{d['rows']} rows") for d in done))
    if report:
        details = {(model, d["partition"]): d["detail"] for d in done if d.get("detail")}
        log.to_report(connection, ((model, d["partition"]) for d in done), details)


def add_models(connection: sa.Connection, models: Sequence[Model]) -> None:
    """Have models computed, for all analysed videos, that are new or whose text has changed."""
    for model in models:
        code = f"{model.code} {' '.join(sorted(model.reads))}"
        before = fact(connection, f"model {model.name}")
        if before == code:
            continue
        if before is None:
            reads = WORK.c.operation.in_(model.reads)
            others = sa.select(ANALYTICS.c.key).where(ANALYTICS.c.model.in_(model.reads))
            analysed = sa.select(WORK.c.key).where(reads, WORK.c.results_job_id.is_not(None))
            keys = sa.union(analysed, others).subquery()
            mine = sa.exists().where(ANALYTICS.c.model == model.name, ANALYTICS.c.key == keys.c.key)
            columns = ["model", "key", "wanted", "made", "behind", "tries", "not_before"]
            literals = (sa.literal(v) for v in (1, 0))
            rows = sa.select(
                sa.literal(model.name),
                keys.c.key,
                *literals,
                sa.true(),
                sa.literal(0),
                sa.literal(0.0),
            ).where(~mine)
            connection.execute(ANALYTICS.insert().from_select(columns, rows))
        else:
            connection.execute(
                ANALYTICS.update()
                .where(ANALYTICS.c.model == model.name)
                .values(wanted=ANALYTICS.c.wanted + 1, behind=True, tries=0, not_before=0.0)
            )
        set_fact(connection, f"model {model.name}", code)


__all__ = [
    "EXPIRED",
    "FAILED",
    "SUCCEEDED",
    "Model",
    "Stand",
    "Written",
    "add_models",
    "bump",
    "computed",
    "keys_in",
    "not_written",
    "show_failure",
    "stands",
    "wanted",
    "written",
]
