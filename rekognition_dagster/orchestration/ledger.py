"""Ledgers: what the latest event of a partition says of each of its videos.

All state is Dagster's own events, read through here and from nowhere else. A partition is one
video, or a group of them; its latest event carries an entry for every video that the asset knows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import dagster as dg
from dagster._core.events import AssetObservationData, StepMaterializationData

Entry = Mapping[str, Any]
"""Facts of one video; plain JSON. Times are seconds since 1970, under ``at`` or ``..._at``."""
Entries = Mapping[str, Entry]
"""Entries by the videos' own partition keys."""

Run = dg.AssetExecutionContext | dg.OpExecutionContext
"""A run that enters what it does."""

_OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION
_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
_VERSION_TAG = "dagster/data_version"
_VERSION_IS_OURS_TAG = "dagster/data_version_is_user_provided"
_VIDEOS = "videos"
_CHUNK = 500  # partitions or events in one query: databases limit a statement's variables
_WHOLE = 2000  # partitions from which on it is cheaper to ask for all
_BATCH, _BATCH_S = 100, 5.0  # a run enters so many partitions at once, or after so long

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ledger:
    """The latest event of a partition.

    Args:
        storage_id: Its place in the order of events.
        entries: What it says, by video.
    """

    storage_id: int
    entries: Entries


@dataclass(frozen=True)
class Book:
    """One kind of fact about videos, kept as events of an asset.

    Args:
        asset: Whose events they are.
        versioned: Fields that make up the event's data version, by which partitions are compared
            without reading their entries.
        observed: Whether the events are observations; materializations otherwise.
    """

    asset: dg.AssetKey
    versioned: tuple[str, ...] = ()
    observed: bool = False

    @property
    def _type(self) -> dg.DagsterEventType:
        return _OBSERVED if self.observed else _MATERIALIZED

    def ids(
        self, instance: dg.DagsterInstance, partitions: Collection[str] | None = None
    ) -> dict[str, int]:
        """The storage id of each partition's latest event."""
        found: dict[str, int] = {}
        for some in _some_or_all(partitions):
            found |= instance.get_latest_storage_id_by_partition(
                self.asset, self._type, None if some is None else set(some)
            )
        return found if partitions is None else {k: found[k] for k in partitions if k in found}

    def versions(
        self, instance: dg.DagsterInstance, partitions: Collection[str] | None = None
    ) -> dict[str, Version]:
        """The data version of each partition's latest event."""
        found: dict[str, Version] = {}
        for some in _some_or_all(partitions):
            tags = instance.event_log_storage.get_latest_tags_by_partition(
                self.asset, self._type, [_VERSION_TAG], None if some is None else list(some)
            )
            found |= {k: Version.parse(t[_VERSION_TAG]) for k, t in tags.items() if t}
        return found if partitions is None else {k: found[k] for k in partitions if k in found}

    def read(self, instance: dg.DagsterInstance, partitions: Collection[str]) -> dict[str, Ledger]:
        """The ledgers of some partitions; of those that have one."""
        fetch = instance.fetch_observations if self.observed else instance.fetch_materializations
        ledgers: dict[str, Ledger] = {}
        for ids in chunks(self.ids(instance, partitions).values(), _CHUNK):
            found = fetch(
                dg.AssetRecordsFilter(asset_key=self.asset, storage_ids=ids), limit=len(ids)
            )
            for record in found.records:
                event = record.asset_materialization or record.asset_observation
                if event is not None and event.partition is not None:
                    entries = _entries(event.partition, event.metadata)
                    ledgers[event.partition] = Ledger(record.storage_id, entries)
        return ledgers

    def enter(
        self,
        instance: dg.DagsterInstance,
        changes: Mapping[str, Entries],
        *,
        run: Run | None = None,
        shown: Mapping[str, Mapping[str, Any]] | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """Enter ``changes`` into the ledgers: an event for each partition, durable on return.

        Args:
            instance: Where the ledgers are.
            changes: New entries by partition and video.
            run: Whose events they are; a sensor's are no run's.
            shown: More metadata by partition, for people.
            versions: Data versions by partition, in place of that of the ``versioned`` fields.
        """
        groups = [p for p, entries in changes.items() if set(entries) != {p}]
        before = self.read(instance, groups)
        make = dg.AssetObservation if self.observed else dg.AssetMaterialization
        events = []
        for partition, new in changes.items():
            old = before[partition].entries if partition in before else {}
            entries = {**old, **new}
            version = (versions or {}).get(partition) or self.version(partition, entries)
            events.append(
                make(
                    self.asset,
                    partition=partition,
                    metadata={**_metadata(partition, entries), **(shown or {}).get(partition, {})},
                    tags={_VERSION_TAG: version, _VERSION_IS_OURS_TAG: "true"} if version else None,
                )
            )
        _write(instance, events, self._type, run)

    def version(self, partition: str, entries: Entries) -> str:
        """The data version of an event with these entries."""
        covers = tuple(cover(partition, entries, field) for field in self.versioned)
        return str(Version(covers, None if set(entries) == {partition} else len(entries)))


@dataclass(frozen=True)
class Version:
    """A partition's data version: the versioned fields, as they are or digested.

    Args:
        covers: One text for each field.
        group: How many videos the partition has, where it is a group.
    """

    covers: tuple[str, ...]
    group: int | None = None

    @classmethod
    def parse(cls, text: str) -> Version:
        """The inverse of ``str``."""
        *parts, last = text.split("|")
        if parts and last.startswith("of "):
            return cls(tuple(parts), int(last[3:]))
        return cls((*parts, last))

    def __str__(self) -> str:
        counted = () if self.group is None else (f"of {self.group}",)
        return "|".join((*self.covers, *counted))

    @property
    def count(self) -> int:
        """How many videos the partition has."""
        return 1 if self.group is None else self.group


@dataclass
class Batch:
    """Entries of a run, entered some at a time, for an event alone costs many times more.

    Args:
        book: Whose ledgers they are.
        run: The run.
    """

    book: Book
    run: dg.AssetExecutionContext
    _changes: dict[str, Entries] = field(default_factory=dict)
    _shown: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _versions: dict[str, str] = field(default_factory=dict)
    _since: float = 0.0

    def add(
        self,
        partition: str,
        entries: Entries,
        shown: Mapping[str, Any] | None = None,
        version: str | None = None,
    ) -> None:
        """A partition's new entries; each partition once. See :meth:`Book.enter`."""
        if not self._changes:
            self._since = time.monotonic()
        self._changes[partition] = entries
        if shown:
            self._shown[partition] = shown
        if version:
            self._versions[partition] = version
        if len(self._changes) >= _BATCH or time.monotonic() - self._since > _BATCH_S:
            self.enter()

    def enter(self) -> None:
        """Enter what was added."""
        changes, self._changes = self._changes, {}
        if changes:
            self.book.enter(
                self.run.instance,
                changes,
                run=self.run,
                shown=self._shown,
                versions=self._versions,
            )
        self._shown, self._versions = {}, {}


def cover(partition: str, entries: Entries, field: str) -> str:
    """One text for a field of all entries: its value where the partition is one video, else a
    digest, so that equal texts mean equal values."""
    if set(entries) == {partition}:
        return escape(entries[partition].get(field) or "-")
    return digest(sorted((k, e.get(field)) for k, e in entries.items()))


def escape(value: Any) -> str:
    """A value as a part of a data version."""
    return str(value).replace("|", "%7C")


def digest(of: Any) -> str:
    """16 hexadecimal digits for a JSON value."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most ``size``."""
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def _some_or_all(partitions: Collection[str] | None) -> Iterator[Sequence[str] | None]:
    """What to ask a query for. Never for an empty set: Dagster takes that for all."""
    if partitions is None or len(partitions) > _WHOLE:
        yield None
    else:
        yield from chunks(partitions, _CHUNK)


def _write(
    instance: dg.DagsterInstance,
    events: Sequence[dg.AssetMaterialization | dg.AssetObservation],
    kind: dg.DagsterEventType,
    run: Run | None,
) -> None:
    """Store events of one asset, each as ``report_runless_asset_event`` or ``log_event`` would,
    but many in a statement where the storage can: on PostgreSQL that is a twentieth of the cost."""
    step = None if run is None else run.get_step_execution_context().step
    entries = [
        dg.EventLogEntry(
            error_info=None,
            level=logging.INFO,
            user_message="",
            run_id=run.run.run_id if run else "",
            timestamp=time.time(),
            step_key=step.key if step else None,
            job_name=run.run.job_name if run else "",
            dagster_event=dg.DagsterEvent(
                event_type_value=kind.value,
                job_name=run.run.job_name if run else "",
                step_handle=step.handle if step else None,
                event_specific_data=AssetObservationData(event)
                if isinstance(event, dg.AssetObservation)
                else StepMaterializationData(event),
            ),
        )
        for event in events
    ]
    for some in chunks(entries, _CHUNK):
        instance.event_log_storage.store_event_batch(some)


def _metadata(partition: str, entries: Entries) -> dict[str, Any]:
    """Entries as an event's metadata; readable where the partition is one video."""
    if set(entries) != {partition}:
        return {_VIDEOS: dg.MetadataValue.json(dict(entries)), "count": len(entries)}
    return {
        k: dg.MetadataValue.timestamp(float(v)) if k == "at" or k.endswith("_at") else v
        for k, v in entries[partition].items()
        if v is not None
    }


def _entries(partition: str, metadata: Mapping[str, Any]) -> Entries:
    if isinstance(group := metadata.get(_VIDEOS), dg.JsonMetadataValue):
        return dict(group.data) if isinstance(group.data, dict) else {}
    return {partition: {k: v.value for k, v in metadata.items()}}
