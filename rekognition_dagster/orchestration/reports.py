"""Reports: from the state's outbox to Dagster's partitions, materializations and checks.

A report says how a partition stands now, so making one twice changes nothing. Nothing in the
pipeline reads what is reported here.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import sqlalchemy as sa

from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration import adapter
from rekognition_dagster.orchestration.checks import verdicts
from rekognition_dagster.orchestration.highlights import clock
from rekognition_dagster.orchestration.metadata import Rows, rows_metadata
from rekognition_dagster.orchestration.names import TICK_S, Deployment
from rekognition_dagster.state import log
from rekognition_dagster.state.store import State, upsert
from rekognition_dagster.state.tables import (
    ANALYTICS,
    FAILED,
    GONE,
    IGNORED,
    JOBS,
    PARTITIONS,
    VIDEOS,
    WORK,
    Phase,
)
from rekognition_dagster.state.videos import ignore_partitions

_CHUNK = 400  # partitions in one statement: databases limit a statement's variables
_COMPARE_S = 60.0  # Dagster's partitions are compared with the state's so often

Event = adapter.Event
Found = Sequence[Any]


def build_report_sensor(deployment: Deployment) -> dg.SensorDefinition:
    """Reports what has changed in the state, and learns which partitions a person deleted."""
    settings, models = deployment.settings, [m.name for m in deployment.state_models]

    @dg.sensor(
        name=deployment.scoped("reports"),
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        required_resource_keys=deployment.needs("lake"),
        description="Reports the pipeline's state to Dagster: partitions, materializations, "
        "checks. A partition that you delete is ignored until its videos change.",
    )
    def reports(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        state = deployment.state(context.instance)
        compared_at, now = float(context.cursor or 0.0), time.time()
        ignored = 0
        if context.cursor is None:  # this instance was told of nothing yet
            compared_at = now
            with state.write() as connection:
                log.report_all(connection, deployment.operation_names, models)
        if now - compared_at >= _COMPARE_S:
            compared_at, ignored = now, ignore_deleted(context.instance, deployment, state)
        lake = deployment.resource(context, "lake").open()
        count = report(context.instance, deployment, state, lake, models)
        text = f"{count} partitions reported" if count else "Nothing new"
        text += f"; {ignored} videos are ignored now" if ignored else ""
        if count or ignored:
            context.log.info(text)
        return dg.SensorResult(skip_reason=text, cursor=str(compared_at))

    return reports


def ignore_deleted(instance: dg.DagsterInstance, deployment: Deployment, state: State) -> int:
    """Ignore videos whose partitions a person deleted in Dagster; how many."""
    name = deployment.partitions.name
    with state.read() as connection:
        ours = set(connection.scalars(sa.select(PARTITIONS.c.partition)))
    # Dagster's after ours: what is added meanwhile is in it.
    deleted = ours - set(instance.get_dynamic_partitions(str(name)))
    if not deleted:
        return 0
    with state.write() as connection:
        return ignore_partitions(connection, deleted)


def report(
    instance: dg.DagsterInstance,
    deployment: Deployment,
    state: State,
    lake: Lake,
    models: Sequence[str],
    until: float | None = None,
) -> int:
    """Make the reports that are due, until the tick has lasted long enough; how many."""
    until = until or time.monotonic() + TICK_S
    renderers = _renderers(deployment, lake, models)
    done = 0
    while True:
        with state.read() as connection:
            due = log.pending(connection, _CHUNK)
            by_asset: dict[str, list[str]] = {}
            details: dict[str, dict[str, Any]] = {}
            for asset, partition, _, detail in due:
                by_asset.setdefault(asset, []).append(partition)
                if detail:
                    details.setdefault(asset, {})[partition] = json.loads(detail)
            events = [
                e
                for asset, partitions in by_asset.items()
                if asset in renderers
                for e in renderers[asset](connection, partitions, details.get(asset, {}))
            ]
        if not due:
            return done
        _add_partitions(instance, deployment, state, by_asset.get(log.VIDEO, []))
        adapter.store(instance, events)
        with state.write() as connection:
            log.reported(connection, due)
        done += len(due)
        if time.monotonic() > until:
            return done


def _add_partitions(
    instance: dg.DagsterInstance, deployment: Deployment, state: State, partitions: Sequence[str]
) -> None:
    """Add partitions to Dagster, except those that are ignored."""
    if not partitions:
        return
    with state.read() as connection:
        wanted = sa.select(VIDEOS.c.partition).where(
            VIDEOS.c.partition.in_(partitions), VIDEOS.c.status != IGNORED
        )
        known = sa.select(PARTITIONS.c.partition).where(PARTITIONS.c.partition.in_(partitions))
        new = sorted(set(connection.scalars(wanted)) - set(connection.scalars(known)))
    if not new:
        return
    instance.add_dynamic_partitions(str(deployment.partitions.name), new)
    with state.write() as connection:
        upsert(connection, PARTITIONS, [{"partition": p} for p in new], update=[])


# -- what a report says ---------------------------------------------------------------------------

Details = Mapping[str, Mapping[str, Any]]
Renderer = Callable[[sa.Connection, Sequence[str], Details], Iterator[Event]]


def _renderers(deployment: Deployment, lake: Lake, models: Sequence[str]) -> dict[str, Renderer]:
    """What makes the events of partitions, by the outbox's name of an asset."""
    key = deployment.key
    made: dict[str, Renderer] = {log.VIDEO: lambda c, p, _: _videos(key("video"), c, p)}
    for o in deployment.settings.operation_list:
        made[log.job(o.name)] = lambda c, p, _, o=o: _jobs(key("job", o), o, c, p)
        made[log.completion(o.name)] = lambda c, p, _, o=o: _completions(
            key("completion", o), o, c, p
        )
        made[o.name] = lambda c, p, d, o=o: _results(key("results", o), o, lake, c, p, d)
        made[log.checks(o.name)] = lambda c, p, _, o=o: _checks(key("results", o), o, c, p)
    for m in models:
        made[m] = lambda c, p, d, m=m: _analytics(deployment.table_key(m), m, lake, c, p, d)
    return made


def _grouped(
    connection: sa.Connection, query: sa.Select[Any], partitions: Sequence[str]
) -> dict[str, Found]:
    """Rows of a query that joins ``videos``, by partition; ignored videos are left out."""
    found: dict[str, list[Any]] = {}
    chosen = query.where(VIDEOS.c.partition.in_(partitions), VIDEOS.c.status != IGNORED)
    for row in connection.execute(chosen).mappings():
        found.setdefault(row["partition"], []).append(row)
    return {p: found[p] for p in partitions if p in found}


def _videos(
    key: dg.AssetKey, connection: sa.Connection, partitions: Sequence[str]
) -> Iterator[Event]:
    for partition, rows in _grouped(connection, sa.select(VIDEOS), partitions).items():
        metadata: dict[str, Any] = {"videos": len(rows)}
        if len(rows) == 1:
            row = rows[0]
            metadata = {
                "uri": _uri(row),
                "size": _size(row["size"]),
                "duration": row["duration_s"] and clock(round(row["duration_s"] * 1000)),
                "version": row["version"],
                "last_modified_at": _time(row["last_modified"]),
                "archived": row["archived"] or None,
            }
        if all(r["status"] == GONE for r in rows):
            yield dg.AssetObservation(
                key, partition=partition, metadata=_known(metadata | {"status": GONE})
            )
            continue
        yield _materialization(key, partition, metadata, [(r["key"], r["version"]) for r in rows])


def _jobs(
    key: dg.AssetKey, operation: Operation, connection: sa.Connection, partitions: Sequence[str]
) -> Iterator[Event]:
    for partition, rows in _grouped(connection, _current_jobs(operation), partitions).items():
        metadata: dict[str, Any] = {"jobs": len(rows)}
        if len(rows) == 1:
            metadata = {name: rows[0][name] for name in ("job_id", "attempt")}
            metadata["started_at"] = _time(rows[0]["started_at"])
        yield _materialization(key, partition, metadata, [r["job_id"] for r in rows])


def _completions(
    key: dg.AssetKey, operation: Operation, connection: sa.Connection, partitions: Sequence[str]
) -> Iterator[Event]:
    query = _current_jobs(operation).where(JOBS.c.noticed_at.is_not(None))
    for partition, rows in _grouped(connection, query, partitions).items():
        metadata: dict[str, Any] = {"completed": len(rows)}
        if len(rows) == 1:
            metadata = {name: rows[0][name] for name in ("status", "message", "job_id")}
            metadata["completed_at"] = _time(rows[0]["completed_at"])
            metadata["minutes"] = _minutes(rows[0]["started_at"], rows[0]["completed_at"])
        elif failed := sum(r["status"] == FAILED for r in rows):
            metadata["failed"] = failed
        ids = [(r["job_id"], r["status"]) for r in rows]
        yield _materialization(key, partition, metadata, ids)


def _current_jobs(operation: Operation) -> sa.Select[Any]:
    return (
        sa.select(VIDEOS.c.partition, JOBS)
        .select_from(WORK)
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .join(JOBS, JOBS.c.job_id == WORK.c.job_id)
        .where(WORK.c.operation == operation.name)
        .order_by(WORK.c.key)
    )


def _results(
    key: dg.AssetKey,
    operation: Operation,
    lake: Lake,
    connection: sa.Connection,
    partitions: Sequence[str],
    details: Details,
) -> Iterator[Event]:
    query = (
        sa.select(VIDEOS.c.partition, VIDEOS.c.bucket, VIDEOS.c.name, WORK)
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .where(WORK.c.operation == operation.name, WORK.c.results_job_id.is_not(None))
        .order_by(WORK.c.key)
    )
    for partition, rows in _grouped(connection, query, partitions).items():
        shown = [
            Rows(
                _uri(r),
                r["path"],
                r["rows"] or 0,
                json.loads(r["highlights"] or "{}"),
                details.get(partition, {}),
                r["warning"],
                r["backend"],
            )
            for r in rows
        ]
        metadata = rows_metadata(lake, operation.table, shown)
        yield _materialization(key, partition, metadata, [r["results_job_id"] for r in rows])


def _checks(
    key: dg.AssetKey, operation: Operation, connection: sa.Connection, partitions: Sequence[str]
) -> Iterator[Event]:
    query = (
        sa.select(VIDEOS.c.partition, VIDEOS.c.bucket, VIDEOS.c.name, WORK)
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .where(WORK.c.operation == operation.name)
        .order_by(WORK.c.key)
    )
    for partition, rows in _grouped(connection, query, partitions).items():
        failed = [r for r in rows if r["phase"] == Phase.FAILED.value]
        failures = {_uri(r): r["reason"] or "the job FAILED" for r in failed}
        findings = {_uri(r): json.loads(r["checks"]) for r in rows if r["checks"] is not None}
        for verdict in verdicts(operation, findings, failures):
            yield dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=verdict.name,
                passed=verdict.passed,
                metadata=verdict.metadata,
                severity=verdict.severity,
                description=verdict.description,
                partition=partition,
            )


def _analytics(
    key: dg.AssetKey,
    model: str,
    lake: Lake,
    connection: sa.Connection,
    partitions: Sequence[str],
    details: Details,
) -> Iterator[Event]:
    query = (
        sa.select(VIDEOS.c.partition, VIDEOS.c.bucket, VIDEOS.c.name, ANALYTICS)
        .join(VIDEOS, VIDEOS.c.key == ANALYTICS.c.key)
        .where(ANALYTICS.c.model == model, ANALYTICS.c.made > 0)
        .order_by(ANALYTICS.c.key)
    )
    for partition, rows in _grouped(connection, query, partitions).items():
        made = [(r["key"], r["made"]) for r in rows]
        detail = details.get(partition, {})
        shown = [Rows(_uri(r), r["path"], r["rows"] or 0, {}, detail) for r in rows]
        metadata = rows_metadata(lake, model, shown)
        yield _materialization(key, partition, metadata, made)


def _materialization(
    key: dg.AssetKey, partition: str, metadata: Mapping[str, Any], version_of: Any
) -> dg.AssetMaterialization:
    digest = hashlib.sha256(json.dumps(version_of).encode()).hexdigest()[:16]
    return dg.AssetMaterialization(
        key,
        partition=partition,
        metadata=_known(metadata),
        tags={
            "dagster/data_version": digest,
            "dagster/data_version_is_user_provided": "true",
        },
    )


def _known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metadata.items() if v is not None}


def _uri(row: Any) -> str:
    return f"s3://{row['bucket']}/{row['name']}" if row["bucket"] else row["name"]


def _size(size: int | None) -> str | None:
    """``12.3 MB``: a size for people."""
    if size is None:
        return None
    power = min(max(size, 1).bit_length() // 10, 4)
    return f"{size / 1024**power:.3g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def _minutes(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round((end - start) / 60, 2)


def _time(seconds: float | None) -> dg.MetadataValue | None:
    return None if seconds is None else dg.MetadataValue.timestamp(seconds)
