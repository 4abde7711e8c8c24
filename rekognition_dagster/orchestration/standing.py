"""Where each video stands, told from the ledgers.

A video is discovered (``video``), started or refused (``<operation>_job``), completed
(``<operation>_completion``) and analysed, or could not be (the results table). Which job and which
version of the object an entry speaks of says what is still to do; nothing else is remembered.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.ledger import Book, Entry, Version, chunks
from rekognition_dagster.orchestration.names import RekognitionVideoTranslator
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.videos import Video

EXPIRED = "EXPIRED"
"""Our own status of a completion: the service has forgotten the job and its results."""
_EXPIRED_ATTEMPTS = 2  # a job whose results expired is started again by itself once
RESULTS_LIVE_DAYS = 7
"""So long the service keeps results."""
MOST_TOLD = 50
"""Videos that a summary names at most."""
_EXPIRING_DAYS = 2
_AT_ONCE = 200  # partitions whose entries are in memory at once


class Phase(str, Enum):
    """What is next for a video."""

    HELD = "held"
    """Nothing yet: it waits for the nightly batch, or is a file on this machine."""
    WAITING = "waiting"
    """To be started."""
    IN_FLIGHT = "in_flight"
    """Started, and not completed."""
    UNPAGED = "unpaged"
    """Completed, and its results are not in the lake."""
    FAILED = "failed"
    """The job FAILED, or its start was refused."""
    ANALYSED = "analysed"
    """Its results are in the lake."""


@dataclass(frozen=True)
class Standing:
    """Where one video stands for one operation.

    Args:
        video: With what discovery learned of it.
        partition: Where its entries are.
        phase: What is next.
        since: When it came to stand so, in seconds since 1970.
        attempt: Of the job that runs or ran; where it waits, of the job to be started.
        job: The latest job's entry, if it is for this version.
        completion: That job's.
        results: Those in the lake, of whichever version.
        reason: Why it failed, or what its results' run said.
        told: Whether a results run has said why there are no results of this job.
    """

    video: Video
    partition: str
    phase: Phase
    since: float
    attempt: int
    job: Entry | None
    completion: Entry | None
    results: Entry | None
    reason: str
    told: bool

    @property
    def job_id(self) -> str | None:
        """Of the latest job for this version."""
        return None if self.job is None else str(self.job["job_id"])

    @property
    def attempt_by_hand(self) -> int:
        """Of the job that a person asks for: another one where the last has ended for nothing."""
        status = self.completion["status"] if self.completion is not None else None
        failed = status in ("FAILED", EXPIRED) and self.phase is not Phase.WAITING
        return self.attempt + failed


@dataclass
class Summary:
    """How an operation stands.

    Args:
        operation: Its name.
        counts: Videos in each phase.
        since: When the first of a phase came to stand so, of the phases before the last.
        failed: The reason by video, of the first :data:`MOST_TOLD`.
        unpaged: Completed jobs whose run could not fetch the results, likewise.
        expiring: Completed jobs whose results the service forgets within two days.
    """

    operation: str
    counts: Counter[Phase] = field(default_factory=lambda: Counter(dict.fromkeys(Phase, 0)))
    since: dict[Phase, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unpaged: dict[str, str] = field(default_factory=dict)
    expiring: int = 0

    def add(self, standing: Standing) -> None:
        """Count one video."""
        phase = standing.phase
        self.counts[phase] += 1
        if phase is Phase.ANALYSED:
            return
        self.since[phase] = min(standing.since, self.since.get(phase, standing.since))
        named = {Phase.FAILED: self.failed, Phase.UNPAGED: self.unpaged}.get(phase)
        if named is not None and standing.reason and len(named) < MOST_TOLD:
            named[standing.video.uri] = standing.reason
        expires_at = standing.since + (RESULTS_LIVE_DAYS - _EXPIRING_DAYS) * 86400
        self.expiring += phase is Phase.UNPAGED and time.time() > expires_at

    def metadata(self) -> dict[str, Any]:
        """For an event in Dagster, by names that begin with the operation's."""
        told: dict[str, Any] = {p.value: self.counts[p] for p in Phase}
        told |= {"expiring": self.expiring}
        told |= {f"{p.value}_since": dg.MetadataValue.timestamp(t) for p, t in self.since.items()}
        if reasons := {**self.failed, **self.unpaged}:
            told["reasons"] = dg.MetadataValue.json(reasons)
        return {f"{self.operation}/{name}": value for name, value in told.items()}


@dataclass(frozen=True)
class Books:
    """The books of a deployment, and which partition a video is in."""

    names: RekognitionVideoTranslator
    settings: Settings

    def partition_of(self, video: Video) -> str:
        """The partition that a video is in."""
        return self.settings.partitioning.partition_of(video)

    def by_partition(self, entries: Mapping[Video, Entry]) -> dict[str, dict[str, Entry]]:
        """Entries of videos, as :meth:`Book.entered` takes them."""
        changes: dict[str, dict[str, Entry]] = {}
        for video, entry in entries.items():
            changes.setdefault(self.partition_of(video), {})[video.partition_key] = entry
        return changes

    @property
    def videos(self) -> Book:
        """Versions, as discovered: ``version_id``, ``etag``, ``size``, ``last_modified_at``."""
        return Book(self.names.video(), ("version",))

    def jobs(self, operation: Operation) -> Book:
        """Started jobs: ``job_id``, ``token``, ``attempt``, ``version``."""
        return Book(self.names.job(operation), ("version", "job_id"))

    def refusals(self, operation: Operation) -> Book:
        """Starts that were refused for good: ``version``, ``reason``, ``code``, ``tries``."""
        return Book(self.names.job(operation), observed=True)

    def completions(self, operation: Operation) -> Book:
        """Ended jobs: ``job_id``, ``status``, ``completed_at``."""
        return Book(self.names.completion(operation), ("job_id", "status"))

    def results(self, operation: Operation) -> Book:
        """Rows in the lake: ``version``, ``job_id``, ``rows``, ``path``."""
        return Book(self.names.results(operation), ("version", "job_id"))

    def failures(self, operation: Operation) -> Book:
        """Why a job's results are not in the lake: ``job_id``, ``reason``."""
        return Book(self.names.results(operation), observed=True)

    def board(self, instance: dg.DagsterInstance, operation: Operation) -> Board:
        """Where every video stands for an operation, now."""
        return Board(self, instance, operation)

    def opened_at(self, instance: dg.DagsterInstance) -> float:
        """When the last nightly batch was opened; 0 before the first."""
        records = instance.fetch_materializations(self.names.nightly_batch(), limit=1).records
        return records[0].timestamp if records else 0.0


def known(video: Video, at: float) -> Entry:
    """The entry of a discovered video."""
    facts = {
        "at": at,
        "uri": video.uri,
        "version": video.version or "unknown",
        "etag": video.etag,
        "version_id": video.version_id,
        "size": video.size,
        "last_modified_at": video.last_modified.timestamp() if video.last_modified else None,
    }
    return {k: v for k, v in facts.items() if v is not None}


def video_of(key: str, entry: Entry) -> Video:
    """The inverse of :func:`known`."""
    seconds = entry.get("last_modified_at")
    return Video.from_partition_key(
        key,
        etag=entry.get("etag"),
        version_id=entry.get("version_id"),
        size=entry.get("size"),
        last_modified=None
        if seconds is None
        else datetime.fromtimestamp(float(seconds), timezone.utc),
    )


@dataclass
class Board:
    """Where every video stands for an operation.

    Made from a handful of queries, however many videos there are: partitions are told apart by
    their data versions, and entries are read only of those in question, some at a time.
    """

    books: Books
    instance: dg.DagsterInstance
    operation: Operation
    _videos: dict[str, Version] = field(init=False)
    _jobs: dict[str, Version] = field(init=False)
    _completions: dict[str, Version] = field(init=False)
    _results: dict[str, Version] = field(init=False)
    _opened_at: float = field(init=False)

    def __post_init__(self) -> None:
        books, instance, operation = self.books, self.instance, self.operation
        # In the order of the flow, backwards: what moves meanwhile is seen at its older place.
        self._results = books.results(operation).versions(instance)
        self._completions = books.completions(operation).versions(instance)
        self._jobs = books.jobs(operation).versions(instance)
        self._videos = books.videos.versions(instance)
        self._opened_at = books.opened_at(instance)

    def find(self, *phases: Phase, partitions: Collection[str] | None = None) -> Iterator[Standing]:
        """Videos in some phases, the first discovered first.

        Args:
            phases: Which; all of them by default.
            partitions: Only these.
        """
        wanted = set(phases or Phase)
        asked = self._videos if partitions is None else partitions
        candidates = [p for p in asked if p in self._videos and wanted & self._possible(p)]
        order = self.books.videos.ids(self.instance, candidates)
        for some in chunks(sorted(order, key=order.__getitem__), _AT_ONCE):
            yield from (s for s in self._read(some) if s.phase in wanted)

    def count(self, phase: Phase) -> int:
        """How many videos are in a phase."""
        sure, others = self._partitions(phase)
        counted = sum(self._videos[p].count for p in sure)
        return counted + sum(1 for _ in self.find(phase, partitions=others))

    def unpaged(self) -> Iterator[tuple[str, str]]:
        """Videos that have completed, by their own partition keys, each with its job's id; the
        first discovered first. Entries are read only of groups."""
        sure, others = self._partitions(Phase.UNPAGED)
        order = self.books.videos.ids(self.instance, sure)
        for partition in sorted(order, key=order.__getitem__):
            yield partition, self._jobs[partition].covers[1]
        for standing in self.find(Phase.UNPAGED, partitions=others):
            yield standing.video.partition_key, str(standing.job_id)

    def _partitions(self, phase: Phase) -> tuple[list[str], list[str]]:
        """Partitions of which all videos are in a phase, and those where some may be."""
        possible = {p: self._possible(p) for p in self._videos}
        sure = [p for p, phases in possible.items() if phases == {phase}]
        return sure, [p for p, phases in possible.items() if phase in phases and len(phases) > 1]

    def summary(self) -> Summary:
        """How many videos are in each phase, and what a person should look at."""
        summary = Summary(self.operation.name)
        open_partitions = []
        for partition, version in self._videos.items():
            if self._possible(partition) == {Phase.ANALYSED}:
                summary.counts[Phase.ANALYSED] += version.count
            else:
                open_partitions.append(partition)
        for some in chunks(open_partitions, _AT_ONCE):
            for standing in self._read(some):
                summary.add(standing)
        return summary

    def _possible(self, partition: str) -> set[Phase]:
        """In which phases a partition may have videos, told from data versions alone."""
        seen, job = self._videos[partition], self._jobs.get(partition)
        ended, done = self._completions.get(partition), self._results.get(partition)
        is_done = False
        if done is not None and done.covers[:1] == seen.covers:
            is_done = True
            if job is None or done.covers[1:] == job.covers[1:]:
                return {Phase.ANALYSED}
        running = job is not None and (ended is None or ended.covers[:1] != job.covers[1:])
        if is_done or seen.group is not None:
            return set(Phase) if running else set(Phase) - {Phase.IN_FLIGHT}
        if job is None or job.covers[:1] != seen.covers:
            return {Phase.HELD, Phase.WAITING, Phase.FAILED}
        if running:
            return {Phase.IN_FLIGHT}
        succeeded = ended is not None and ended.covers[1:] == ("SUCCEEDED",)
        return {Phase.UNPAGED} if succeeded else {Phase.FAILED, Phase.WAITING}

    def _read(self, partitions: list[str]) -> Iterator[Standing]:
        books, operation = self.books, self.operation
        ledgers = [
            {p: ledger.entries for p, ledger in book.read(self.instance, partitions).items()}
            for book in (
                books.results(operation),
                books.failures(operation),
                books.completions(operation),
                books.refusals(operation),
                books.jobs(operation),
                books.videos,
            )
        ]
        for partition in partitions:
            *of, seen = [ledger.get(partition, {}) for ledger in ledgers]
            for key, entry in seen.items():
                yield self._standing(partition, key, entry, *(e.get(key) for e in of))

    def _standing(
        self,
        partition: str,
        key: str,
        seen: Entry,
        done: Entry | None,
        failure: Entry | None,
        completion: Entry | None,
        refusal: Entry | None,
        job: Entry | None,
    ) -> Standing:
        version = seen.get("version")
        own = job if job is not None and job.get("version") == version else None
        job_id = None if own is None else own["job_id"]
        attempt = 1 if own is None else int(own.get("attempt", 1))
        ended = completion if completion is not None and completion["job_id"] == job_id else None
        if refusal is not None:
            latest = max(e["at"] for e in (seen, own, ended) if e is not None)
            if refusal.get("version") != version or refusal["at"] < latest:
                refusal = None
        said = failure if failure is not None and failure["job_id"] == job_id else None
        if (
            done is not None
            and done.get("version") == version
            and (own is None or done["job_id"] == job_id or done["at"] >= own["at"])
        ):
            phase, since, reason = Phase.ANALYSED, done["at"], ""
        elif refusal is not None:
            phase, since, reason = self._refused(refusal)
        elif own is None:
            phase, since, reason = self._unstarted(key, seen)
        elif ended is None:
            phase, since, reason = Phase.IN_FLIGHT, own["at"], ""
        else:
            phase, since, reason = self._ended(ended, attempt)
        return Standing(
            video=video_of(key, seen),
            partition=partition,
            phase=phase,
            since=since,
            attempt=attempt + (phase is Phase.WAITING and ended is not None),
            job=own,
            completion=ended,
            results=done,
            reason=reason if said is None else str(said["reason"]),
            told=said is not None,
        )

    def _refused(self, refusal: Entry) -> tuple[Phase, float, str]:
        may_ask = int(refusal["tries"]) < self.books.settings.max_attempts
        asked = may_ask and self._opened_at > refusal["at"]
        return Phase.WAITING if asked else Phase.FAILED, refusal["at"], str(refusal["reason"])

    def _unstarted(self, key: str, seen: Entry) -> tuple[Phase, float, str]:
        if Video.from_partition_key(key).is_local:
            return Phase.HELD, seen["at"], "a file: analyse it with local_backfill"
        is_due = self.books.settings.start == "arrival" or self._opened_at > seen["at"]
        return Phase.WAITING if is_due else Phase.HELD, seen["at"], ""

    def _ended(self, completion: Entry, attempt: int) -> tuple[Phase, float, str]:
        status, since = completion["status"], completion["at"]
        if status == "SUCCEEDED":
            return Phase.UNPAGED, since, ""
        if status == EXPIRED and attempt < _EXPIRED_ATTEMPTS:
            return Phase.WAITING, since, ""
        reason = "its results expired" if status == EXPIRED else "the job FAILED"
        asked = self._opened_at > since and attempt < self.books.settings.max_attempts
        return Phase.WAITING if asked else Phase.FAILED, since, reason
