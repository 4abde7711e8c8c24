"""Rebuild a lost state from the lake: what its ``jobs`` table has is not started again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.state.results import Model, Written, written
from rekognition_dagster.state.store import State
from rekognition_dagster.state.tables import WORK
from rekognition_dagster.state.videos import Found, known, register
from rekognition_dagster.videos import Partitioning, Video

_AT_ONCE = 500

_SQL = """
SELECT j.operation, j.video, j.job_id, j.version, j.rows, j.backend, v.size, v.last_modified
FROM jobs AS j LEFT JOIN videos AS v USING (video)
WHERE j.status = 'SUCCEEDED'
ORDER BY j.video, j.operation
"""


def rebuild(
    state: State,
    lake: Lake,
    partitioning: Partitioning,
    models: Sequence[Model],
    operations: Sequence[str] = tuple(OPERATIONS),
) -> Counter[str]:
    """Enter the results that a lake has, where the state has none of that version yet.

    Jobs that were in flight are found when the same work is started again: it has the same token.

    Returns:
        Results entered, by operation.
    """
    entered: Counter[str] = Counter()
    for rows in _batches(lake):
        chosen = [r for r in rows if r["operation"] in operations]
        videos = {r["video"]: _video(r) for r in chosen}
        found = [Found(v, partitioning.partition_of(v)) for v in videos.values()]
        results = [Written.of(lake, videos[r["video"]], r["operation"], r) for r in chosen]
        now = time.time()
        with state.write() as connection:
            before = known(connection, [f.video.partition_key for f in found])
            new = [f for f in found if f.video.partition_key not in before]
            register(connection, new, now, None)
            has_work = _with_work(connection, list(before))
            mine = [
                r
                for r in results
                if (r.key not in before or before[r.key].version == r.version)
                and (r.operation, r.key) not in has_work
            ]
            written(connection, mine, models, now)
        entered.update(r.operation for r in mine)
    return entered


def _with_work(connection: sa.Connection, keys: Sequence[str]) -> set[tuple[str, str]]:
    """Operations and keys of which the state has results, a job or a new attempt: they stay."""
    has = sa.or_(WORK.c.results_job_id.is_not(None), WORK.c.job_id.is_not(None), WORK.c.attempt > 1)
    query = sa.select(WORK.c.operation, WORK.c.key).where(WORK.c.key.in_(keys), has)
    return {(operation, key) for operation, key in connection.execute(query)}


def _batches(lake: Lake) -> Iterator[list[dict[str, Any]]]:
    with lake.connect(("jobs", "videos")) as connection:
        found = connection.execute(_SQL)
        names = [d[0] for d in found.description or ()]
        while rows := found.fetchmany(_AT_ONCE):
            yield [dict(zip(names, row, strict=True)) for row in rows]


def _video(row: dict[str, Any]) -> Video:
    version = row["version"] or None
    return Video.from_uri(
        row["video"], etag=version, size=row["size"], last_modified=row["last_modified"]
    )
