"""Starting jobs: within the quota, once for each version of a video, and each bad one on its own.

The dispatch sensor starts what waits; materializing ``<operation>_job`` asks for jobs by hand.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from logging import Logger
from typing import Any

import dagster as dg

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.errors import (
    AccessError,
    ApiError,
    DelayedError,
    TransientError,
    UnansweredError,
)
from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.orchestration.names import TICK_S, Deployment
from rekognition_dagster.orchestration.resources import RekognitionVideoResource
from rekognition_dagster.state import State, control
from rekognition_dagster.state import jobs as job_state
from rekognition_dagster.state.jobs import Started, Waiting
from rekognition_dagster.state.results import Written, written

LEASE_S = 120.0
"""How long a start is reserved; a tick that lasts longer loses nothing, for it is the same job."""
_AT_ONCE = 20  # starts reserved together
_MAX_REFUSED = 20  # in one tick: what refuses so many would refuse all
_MAX_LOST = 3  # starts in one tick: an endpoint that loses so many is not there
_ATTEMPTS_BY_HAND = 5
_DENIED = "AccessDeniedException"


@dataclass
class Outcome:
    """What came of starting jobs.

    Args:
        counts: By operation and what came of it: started, adopted, delayed, refused.
        denied: Work that was refused as every other may be, by operation; it is not entered.
        lost: Operations and keys of starts that were lost on their way.
        is_full: Whether the service has no room now, for whatever video.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    denied: dict[str, list[tuple[Waiting, ApiError]]] = field(default_factory=dict)
    lost: set[tuple[str, str]] = field(default_factory=set)
    is_full: bool = False

    def is_denied(self, operation: str) -> bool:
        """Whether every start of an operation was denied so far, several times."""
        denied = len(self.denied.get(operation, []))
        return denied >= _MAX_LOST and not self.counts[operation, "started"]

    def count(self, what: str) -> int:
        """How often that came of a start."""
        return sum(n for (_, w), n in self.counts.items() if w == what)

    def text(self) -> str:
        """A line about it."""
        operations = dict.fromkeys(o for o, _ in self.counts)
        return "; ".join(
            f"{OPERATIONS[o].start_api}: "
            + ", ".join(f"{n} {w}" for (name, w), n in self.counts.items() if name == o)
            for o in operations
        )


@dataclass
class Starter:
    """Starts jobs for a tick or a run.

    Args:
        deployment: Whose.
        state: Its state.
        api: The service.
        lake: What it has is not paid for again.
        most: Jobs in flight at most.
        log: Where it says what it does.
    """

    deployment: Deployment
    state: State
    api: RekognitionVideo
    lake: Lake
    most: int
    log: Logger | Any

    def run(
        self, operations: Sequence[str], until: float, keys: Sequence[str] | None = None
    ) -> Outcome:
        """Start jobs for which slots are free, until the time is over.

        Args:
            operations: Which.
            until: The end, on the monotonic clock.
            keys: Only for these videos.

        Raises:
            AccessError: Nothing can be started with these credentials; nothing was entered.
        """
        outcome = Outcome()
        try:
            self._start_reserved(outcome, operations, until, keys)
        except BaseException:
            denied = [work for several in outcome.denied.values() for work, _ in several]
            with self.state.write() as connection:
                job_state.release(connection, denied)
            raise
        self._settle_denied(outcome)
        return outcome

    def _start_reserved(
        self, outcome: Outcome, operations: Sequence[str], until: float, keys: Sequence[str] | None
    ) -> None:
        allowed = list(operations)
        while allowed and not outcome.is_full and time.monotonic() < until:
            with self.state.write() as connection:
                reserved = job_state.reserve(
                    connection,
                    allowed,
                    self.deployment.settings.source_list,
                    most=self.most,
                    limit=_AT_ONCE,
                    now=time.time(),
                    lease_s=LEASE_S,
                    keys=keys,
                    without=outcome.lost,
                    budget=self.deployment.settings.limits,
                )
            if not reserved:
                break
            self._start_all(reserved, outcome, until)
            allowed = [o for o in allowed if not outcome.is_denied(o)]
            if outcome.count("refused") >= _MAX_REFUSED or len(outcome.lost) >= _MAX_LOST:
                break

    def _start_all(self, reserved: Sequence[Waiting], outcome: Outcome, until: float) -> None:
        """Start jobs, and enter them together: one that is not entered is found by its token."""
        left, started = list(reserved), list[Started]()
        try:
            while left and not outcome.is_full and len(outcome.lost) < _MAX_LOST:
                if time.monotonic() > until:
                    break
                if outcome.is_denied(left[0].operation):
                    break
                started += self._start(left[0], outcome)
                left.pop(0)
        except BaseException:
            if left:
                self._unanswered(left.pop(0))  # it may have been sent
            raise
        finally:
            with self.state.write() as connection:
                job_state.started(connection, started, time.time())
                job_state.release(connection, left)

    def _start(self, work: Waiting, outcome: Outcome) -> Iterator[Started]:
        """Start one job, find the one that runs for the same work, or adopt what the lake has.

        A job that a person asked for is entered at once: it may have to be another attempt.
        """
        if not work.asked and self._adopted(work):
            outcome.counts[work.operation, "adopted"] += 1
            return
        operation = OPERATIONS[work.operation]
        for attempt in range(work.attempt, work.attempt + _ATTEMPTS_BY_HAND):
            try:
                job = self.api.of(operation).start(operation, work.video, attempt=attempt)
            except DelayedError as error:
                # The quota or the rate is used up for every video: asking for the rest is no use.
                self._delay(work, error, outcome)
                outcome.is_full = True
                return
            except TransientError as error:
                self._delay(work, error, outcome)
                outcome.lost.add((work.operation, work.key))
                return
            except ApiError as error:
                self._refuse(work, error, outcome)
                return
            start = Started(replace(work, attempt=attempt), job.job_id, job.token)
            if not work.asked:
                yield start
            else:
                with self.state.write() as connection:
                    if job_state.started(connection, [start], time.time()):
                        continue  # the service still has the job of this attempt; it has ended
            outcome.counts[work.operation, "started"] += 1
            return

    def _delay(self, work: Waiting, error: ApiError, outcome: Outcome) -> None:
        self.log.info(str(error))
        outcome.counts[work.operation, "delayed"] += 1
        if isinstance(error, UnansweredError):
            self._unanswered(work)
            return
        with self.state.write() as connection:
            job_state.release(connection, [work])

    def _unanswered(self, work: Waiting) -> None:
        with self.state.write() as connection:
            job_state.unanswered(connection, work, time.time(), LEASE_S)

    def _refuse(self, work: Waiting, error: ApiError, outcome: Outcome) -> None:
        self.log.warning(str(error))
        if error.code == _DENIED:
            outcome.denied.setdefault(work.operation, []).append((work, error))
            return
        outcome.counts[work.operation, "refused"] += 1
        with self.state.write() as connection:
            job_state.refused(connection, work, str(error), time.time())

    def _settle_denied(self, outcome: Outcome) -> None:
        """A denial beside starts that were accepted is about the video; else it is about all."""
        of_all: list[str] = []
        with self.state.write() as connection:
            for operation, denied in outcome.denied.items():
                for work, error in denied:
                    if outcome.counts[operation, "started"]:
                        job_state.refused(connection, work, str(error), time.time())
                        outcome.counts[operation, "refused"] += 1
                    else:
                        job_state.release(connection, [work])
                        of_all.append(f"{OPERATIONS[operation].start_api}: {error}")
        if of_all:
            raise AccessError(
                f"{of_all[0].rstrip('.')}. No video was started, and none counts as refused"
            )

    def _adopted(self, work: Waiting) -> bool:
        """Whether the lake has results of this version already; then they are entered."""
        job = self.lake.read_job(work.video, work.operation)
        operation = OPERATIONS[work.operation]
        if (
            job is None
            or job["status"] != "SUCCEEDED"
            or job["version"] != work.video.version
            or not self.lake.has(operation.table, work.video)
        ):
            return False
        results = Written.of(self.lake, work.video, work.operation, job)
        with self.state.write() as connection:
            written(connection, [results], self.deployment.state_models, time.time())
        return True


def starter(
    context: Any,
    deployment: Deployment,
    warn: Callable[[str], Any],
) -> Starter:
    """What starts the jobs of a tick or a run."""
    rekognition: RekognitionVideoResource = deployment.resource(context, "rekognition")
    return Starter(
        deployment,
        deployment.state(context.instance),
        rekognition.starter(),
        deployment.resource(context, "lake").open(),
        rekognition.most_in_flight(deployment.settings.max_jobs_in_flight, warn),
        context.log,
    )


def build_dispatch_sensor(deployment: Deployment) -> dg.SensorDefinition:
    """Starts jobs in its own tick, never for more than the quota has room.

    A run for them would cost more than all the rest of a video. The idempotency token makes a tick
    that died repeatable: it finds the jobs that it started. Content whose results the lake has is
    not started: its results are adopted.
    """
    settings = deployment.settings

    @dg.sensor(
        name=deployment.scoped("job_dispatch"),
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        required_resource_keys=deployment.needs("rekognition", "lake"),
        description="Starts jobs for videos that wait, within the quota of jobs in flight.",
    )
    def dispatch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        until = time.monotonic() + TICK_S
        starting = starter(context, deployment, context.log.warning)
        outcome = starting.run(deployment.operation_names, until)
        if text := outcome.text():
            context.log.info(text)
            context.log.info(text)
            return dg.SkipReason(text)
        with starting.state.read() as connection:
            running = job_state.in_flight(connection, time.time())
            paused = control.pauses(connection)
            names, sources = deployment.operation_names, settings.source_list
            used = job_state.beyond(connection, names, sources, settings.limits, time.time())
        if used:
            texts = "; ".join(f"{s.text}, until {_when(s.until)}" for s in used)
            return dg.SkipReason(f"The budget is used up: {texts}")
        if paused:
            texts = ", ".join(p.text for p in paused)
            return dg.SkipReason(f"Paused: {texts}. `rekognition-dagster resume` goes on")
        if running >= starting.most:
            return dg.SkipReason(f"All {starting.most} jobs are in flight")
        return dg.SkipReason("No video waits")

    return dispatch


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
