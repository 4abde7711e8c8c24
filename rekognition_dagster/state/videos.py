"""Videos: discovered, changed, deleted, ignored, and the work that each of them is to have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias

import sqlalchemy as sa

from rekognition_dagster.state import log
from rekognition_dagster.state.store import fact, set_fact, upsert
from rekognition_dagster.state.tables import (
    ANALYTICS,
    GONE,
    IGNORED,
    NORMAL,
    PARTITIONS,
    PRESENT,
    VIDEOS,
    WORK,
    Phase,
)
from rekognition_dagster.videos import Source, Video, source_of

Row: TypeAlias = Mapping[str, Any] | sa.RowMapping
"""A row by the names of its columns."""

CHUNK = 400
"""Values in one statement: databases limit a statement's variables."""
_FILE = "a local file: analyse it with local_backfill"
_ARCHIVED = "archived in S3 Glacier: restore it, then upload or copy it again"


@dataclass(frozen=True)
class Found:
    """A video as a listing, an event or a backfill found it.

    Args:
        video: The object and its content's identity.
        partition: The partition that it is in.
        archived: Whether it has to be restored before it can be read.
        sequencer: S3's order of the events of this key, where one told of it.
    """

    video: Video
    partition: str
    archived: bool = False
    sequencer: str = ""


@dataclass(frozen=True)
class Plan:
    """What a discovered video is to have.

    Args:
        operations: Which analyses.
        at_once: Whether jobs start on arrival; in the nightly batch otherwise.
        sources: Where the videos are, and which operations each source has; every video has all
            where there are none.
        order: Which waiting videos start first: the newest, the oldest, or those that were
            discovered first.
        first: Places whose videos start before all others, in order: ``s3://bucket/prefix``, or a
            prefix of keys.
    """

    operations: Sequence[str]
    at_once: bool = True
    sources: Sequence[Source] = ()
    order: str = "discovered"
    first: Sequence[str] = ()

    def has(self, operation: str, video: Video) -> bool:
        """Whether a video is to have an operation."""
        source = source_of(self.sources, video)
        return not self.sources or (source is not None and source.has(operation))


@dataclass(frozen=True)
class Known:
    """What the state knows of a video."""

    version: str
    status: str
    discovered: bool
    last_modified: float
    sequencer: str
    changed_at: float
    archived: bool


_KNOWN = (
    VIDEOS.c.version,
    VIDEOS.c.status,
    VIDEOS.c.discovered,
    VIDEOS.c.last_modified,
    VIDEOS.c.sequencer,
    VIDEOS.c.changed_at,
    VIDEOS.c.archived,
)


def _known(row: Any) -> Known:
    return Known(row[0], row[1], row[2], row[3] or 0.0, row[4] or "", row[5], row[6])


def between(connection: sa.Connection, bucket: str, after: str, last: str) -> dict[str, Known]:
    """Videos of a bucket by S3 key, of the keys after one up to another."""
    query = sa.select(VIDEOS.c.name, *_KNOWN).where(
        VIDEOS.c.bucket == bucket, VIDEOS.c.name > after, VIDEOS.c.name <= last
    )
    return {name: _known(facts) for name, *facts in connection.execute(query)}


def known(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Known]:
    """Videos by key, of some keys."""
    found: dict[str, Known] = {}
    for start in range(0, len(keys), CHUNK):
        query = sa.select(VIDEOS.c.key, *_KNOWN).where(
            VIDEOS.c.key.in_(keys[start : start + CHUNK])
        )
        found |= {key: _known(facts) for key, *facts in connection.execute(query)}
    return found


def is_news(video: Video, archived: bool, before: Known | None) -> bool:
    """Whether a listed object differs from what is known of it."""
    if before is None or not before.discovered or before.status == GONE:
        return True
    return before.version != version_of(video) or (before.archived and not archived)


def register(
    connection: sa.Connection,
    found: Sequence[Found],
    now: float,
    plan: Plan | None,
) -> None:
    """Enter new or changed videos, and the work that they are to have.

    Args:
        connection: A transaction that writes.
        found: The videos, each once.
        now: The time.
        plan: What discovered videos are to have; none for a backfill, which brings its own.
    """
    before = known(connection, [f.video.partition_key for f in found])
    facts = [_facts(f, now) for f in found]
    for row in facts:
        was = before.get(row["key"])
        # What a backfill registers is left to discovery, which gives it the other operations.
        row["discovered"] = plan is not None or (
            was is not None and was.discovered and was.version == row["version"]
        )
    upsert(connection, VIDEOS, facts)
    changed = [f for f in facts if _changed(before.get(f["key"]), f)]
    for start in range(0, len(changed), CHUNK):
        keys = [f["key"] for f in changed[start : start + CHUNK]]
        connection.execute(
            VIDEOS.update()
            .where(VIDEOS.c.key.in_(keys), VIDEOS.c.duration_s.is_not(None))
            .values(duration_s=None)
        )
    log.remember(connection, "discovered", ((f["key"], None, f["version"]) for f in changed))
    log.to_report(connection, ((log.VIDEO, f["partition"]) for f in facts))
    if plan:
        for operation in plan.operations:
            theirs = [f for f in found if plan.has(operation, f.video)]
            _add_work(connection, operation, theirs, now, plan.at_once)
        _rank(connection, plan, [f["key"] for f in facts])


_FAR = 1e11  # seconds, beyond all times


def _rank(connection: sa.Connection, plan: Plan, keys: Sequence[str] | None) -> None:
    """Order the work of some videos, or of all, as a plan says."""
    if keys is not None and plan.order == "discovered" and not plan.first:
        return  # as it is by itself
    levels = [(begins(place), sa.literal(float(n))) for n, place in enumerate(plan.first)]
    last = sa.literal(float(len(levels)))
    level = sa.case(*levels, else_=last) if levels else last
    way = {"newest": -1.0, "oldest": 1.0}.get(plan.order, 0.0)
    rank = level * _FAR + way * sa.func.coalesce(VIDEOS.c.last_modified, 0.0)
    of_video = sa.select(rank).where(VIDEOS.c.key == WORK.c.key).scalar_subquery()
    update = WORK.update().values(rank=of_video)
    if keys is None:
        unstarted = (Phase.WAITING.value, Phase.HELD.value)
        connection.execute(update.where(WORK.c.phase.in_(unstarted)))
        return
    for start in range(0, len(keys), CHUNK):
        connection.execute(update.where(WORK.c.key.in_(keys[start : start + CHUNK])))


def _changed(before: Known | None, facts: Mapping[str, Any]) -> bool:
    return before is None or before.version != facts["version"] or before.status != PRESENT


def version_of(video: Video) -> str:
    """The identity of a video's content."""
    return video.version or "unknown"


def _facts(found: Found, now: float) -> dict[str, Any]:
    video = found.video
    modified = video.last_modified
    return {
        "key": video.partition_key,
        "bucket": video.bucket,
        "name": video.key,
        "partition": found.partition,
        "version": version_of(video),
        "version_id": video.version_id,
        "size": video.size,
        "last_modified": modified.timestamp() if modified else None,
        "sequencer": found.sequencer or None,
        "archived": found.archived,
        "status": PRESENT,
        "changed_at": now,
    }


def _add_work(
    connection: sa.Connection, operation: str, found: Sequence[Found], now: float, at_once: bool
) -> None:
    """Work for videos that have none of this version yet; results of the same version stay."""
    by_key = {f.video.partition_key: f for f in found}
    have: dict[str, str] = {}
    keys = list(by_key)
    for start in range(0, len(keys), CHUNK):
        query = sa.select(WORK.c.key, WORK.c.version).where(
            WORK.c.operation == operation, WORK.c.key.in_(keys[start : start + CHUNK])
        )
        have |= dict(connection.execute(query).all())
    rows = [
        _new_work(operation, f, now, at_once)
        for k, f in by_key.items()
        if have.get(k) != version_of(f.video)
    ]
    upsert(connection, WORK, rows)
    unheld = [k for k, f in by_key.items() if have.get(k) == version_of(f.video) and not f.archived]
    for start in range(0, len(unheld), CHUNK):
        connection.execute(
            WORK.update()
            .where(
                WORK.c.operation == operation,
                WORK.c.key.in_(unheld[start : start + CHUNK]),
                WORK.c.phase == Phase.HELD.value,
                WORK.c.reason == _ARCHIVED,
            )
            .values(phase=Phase.WAITING.value if at_once else Phase.HELD.value, reason=None)
        )


def _new_work(operation: str, found: Found, now: float, at_once: bool) -> dict[str, Any]:
    held = _FILE if found.video.is_local else _ARCHIVED if found.archived else None
    waits = at_once and held is None
    return {
        "operation": operation,
        "key": found.video.partition_key,
        "phase": Phase.WAITING.value if waits else Phase.HELD.value,
        "since": now,
        "version": version_of(found.video),
        "attempt": 1,
        "priority": NORMAL,
        "lease_until": 0.0,
        "refusals": 0,
        "job_id": None,
        "reason": held,
        "shown": True,
        "tries": 0,
        "not_before": 0.0,
        "batch": None,
    }


def not_analysed(
    connection: sa.Connection, found: Found, operations: Sequence[str], reason: str, now: float
) -> None:
    """Record why the engine could not analyse a video in a run of the backfill.

    The work of a local file is FAILED until a later run succeeds; what an earlier run wrote of the
    same version stays. For an S3 object only the history records it, because its jobs go on.
    """
    key, version = found.video.partition_key, version_of(found.video)
    log.remember(connection, "not analysed", ((key, name, reason) for name in operations))
    if not found.video.is_local:
        return
    query = sa.select(WORK.c.operation).where(
        WORK.c.key == key, WORK.c.version == version, WORK.c.phase == Phase.ANALYSED.value
    )
    done = set(connection.scalars(query))
    failed = {"phase": Phase.FAILED.value, "reason": reason}
    rows = [_new_work(name, found, now, False) | failed for name in operations if name not in done]
    upsert(connection, WORK, rows)


def add_operations(connection: sa.Connection, plan: Plan, now: float) -> None:
    """Work for all videos that were discovered before an operation was switched on."""
    order = repr((plan.order, list(plan.first)))
    if fact(connection, "order") != order:
        _rank(connection, plan, None)
        set_fact(connection, "order", order)
    planned = repr((sorted(plan.operations), sorted(plan.sources, key=repr)))
    if fact(connection, "operations") == planned:
        return
    for operation in plan.operations:
        lacks = ~sa.exists().where(WORK.c.operation == operation, WORK.c.key == VIDEOS.c.key)
        is_file = VIDEOS.c.bucket == ""
        phase = Phase.WAITING.value if plan.at_once else Phase.HELD.value
        held = sa.or_(is_file, VIDEOS.c.archived.is_(True))
        values = {
            "operation": sa.literal(operation),
            "key": VIDEOS.c.key,
            "phase": sa.case((held, Phase.HELD.value), else_=phase),
            "since": sa.literal(now),
            "version": VIDEOS.c.version,
            "attempt": sa.literal(1),
            "priority": sa.literal(NORMAL),
            "lease_until": sa.literal(0.0),
            "refusals": sa.literal(0),
            "reason": sa.case((is_file, _FILE), (held, _ARCHIVED), else_=sa.null()),
            "shown": sa.true(),
            "tries": sa.literal(0),
            "not_before": sa.literal(0.0),
        }
        theirs = sa.or_(is_file, covered(plan.sources, operation)) if plan.sources else sa.true()
        chosen = sa.select(*values.values()).where(VIDEOS.c.discovered.is_(True), lacks, theirs)
        connection.execute(WORK.insert().from_select(list(values), chosen))
    _rank(connection, plan, None)
    set_fact(connection, "operations", planned)


def covered(sources: Sequence[Source], operation: str) -> sa.ColumnElement[bool]:
    """The condition on ``videos`` that an operation runs on them: their source has it."""
    ordered = sorted(sources, key=lambda s: -len(s.prefix))
    cases = [(_inside(s), sa.true() if s.has(operation) else sa.false()) for s in ordered]
    if len(cases) == 1:
        return cases[0][0] if ordered[0].has(operation) else sa.false()
    return sa.case(*cases, else_=sa.false()) if cases else sa.false()


def _inside(source: Source) -> sa.ColumnElement[bool]:
    return begins(source.uri)


def begins(place: str) -> sa.ColumnElement[bool]:
    """The condition on ``videos`` that they are of a place: ``s3://bucket/prefix``, which a
    video's URI is, too, or a prefix of keys."""
    conditions: list[sa.ColumnElement[bool]] = []
    prefix = place
    if place.startswith("s3://"):
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        conditions.append(VIDEOS.c.bucket == bucket)
    if prefix:
        # Not LIKE: a prefix may contain % and _, and SQLite's LIKE ignores case.
        conditions.append(sa.func.substr(VIDEOS.c.name, 1, len(prefix)) == prefix)
    return sa.and_(sa.true(), *conditions)


def video_of(row: Row) -> Video:
    """The video of a row of ``videos``. Its version id is left out: the content's identity is the
    etag, and a start that names no version is the same start however the video was found."""
    seconds = row["last_modified"]
    return Video(
        row["bucket"],
        row["name"],
        etag=None if row["version"] == "unknown" else row["version"],
        size=row["size"],
        last_modified=None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc),
    )


# -- deleted objects and partitions ---------------------------------------------------------------


def mark(connection: sa.Connection, keys: Collection[str], status: str) -> None:
    """Set the status of videos; report them."""
    listed = list(keys)
    for start in range(0, len(listed), CHUNK):
        some = listed[start : start + CHUNK]
        connection.execute(VIDEOS.update().where(VIDEOS.c.key.in_(some)).values(status=status))
        if status != IGNORED:
            query = sa.select(VIDEOS.c.partition).where(VIDEOS.c.key.in_(some)).distinct()
            log.to_report(connection, ((log.VIDEO, p) for p in connection.scalars(query)))
    log.remember(connection, status, ((k, None, None) for k in listed))


def ignore_partitions(connection: sa.Connection, partitions: Iterable[str]) -> int:
    """Ignore the videos of partitions that a person deleted; how many videos these are."""
    ignored = 0
    listed = list(partitions)
    for start in range(0, len(listed), CHUNK):
        some = listed[start : start + CHUNK]
        connection.execute(PARTITIONS.delete().where(PARTITIONS.c.partition.in_(some)))
        query = sa.select(VIDEOS.c.key).where(
            VIDEOS.c.partition.in_(some), VIDEOS.c.status == PRESENT
        )
        keys = list(connection.scalars(query))
        mark(connection, keys, IGNORED)
        ignored += len(keys)
    return ignored


def gone(connection: sa.Connection, limit: int) -> list[dict[str, Any]]:
    """Videos that were deleted from their bucket."""
    query = sa.select(VIDEOS).where(VIDEOS.c.status == GONE).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def forget(connection: sa.Connection, key: str) -> str | None:
    """Remove all that is known of a video; its partition, where no other video is in it."""
    partition = connection.scalar(sa.select(VIDEOS.c.partition).where(VIDEOS.c.key == key))
    for table in (WORK, ANALYTICS, VIDEOS):
        connection.execute(table.delete().where(table.c.key == key))
    log.remember(connection, "forgotten", [(key, None, None)])
    others = connection.scalar(
        sa.select(sa.func.count()).select_from(VIDEOS).where(VIDEOS.c.partition == partition)
    )
    if others:
        return None
    connection.execute(PARTITIONS.delete().where(PARTITIONS.c.partition == partition))
    return partition
