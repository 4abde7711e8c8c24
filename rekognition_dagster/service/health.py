"""The state of what the service needs around it: disk, S3, database.

One object for each service. Faults are reported to it or found by its probes; while there is one,
workers take up no job and ``/ready`` names it. A part is good again once its probe works.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rekognition_dagster.service.backoff import backoff_s
from rekognition_dagster.service.faults import Part, reason_of

log = logging.getLogger(__name__)

_LONGEST_S = 30.0
"""Seconds between two probes of a part that is at fault, at most."""
_SLOW_S = 10.0
"""Seconds after which a probe that does not return is itself a fault."""


@dataclass(frozen=True)
class Trouble:
    """A part that is at fault.

    Args:
        part: Which.
        reason: Why, for operators.
        since: Seconds since 1970.
        about: What the fault was met with, for the probe: an ``S3Object``.
    """

    part: Part
    reason: str
    since: float
    about: Any = None


@dataclass
class _State:
    trouble: Trouble | None = None
    faults: int = 0
    last_fault: float = 0.0
    probe_at: float = 0.0
    probing_since: float | None = None


@dataclass
class Health:
    """What is at fault now.

    Args:
        probes: For each part, what raises an exception while the part is at fault. It is called
            with the trouble that there is; a good part needs a cheaper probe.
        clock: Seconds, rising.
        every_s: Seconds between two probes of a good part.
    """

    probes: Mapping[Part, Callable[[Trouble | None], None]]
    clock: Callable[[], float] = time.monotonic
    every_s: float = 1.0
    _states: dict[Part, _State] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._states = {part: _State() for part in self.probes}

    def failed(self, part: Part, reason: str, about: Any = None) -> None:
        """Report a fault; the part is at fault until its probe works."""
        with self._lock:
            state, now = self._states.setdefault(part, _State()), self.clock()
            if state.trouble is None and now - state.last_fault > 2 * _LONGEST_S:
                state.faults = 0
            # Many jobs may report one fault: only those after the next probe make it a longer one.
            if state.trouble is None or now >= state.probe_at:
                state.faults += 1
                state.probe_at = now + backoff_s(state.faults, _LONGEST_S)
            state.last_fault = now
            if state.trouble is None:
                log.error("surroundings at fault", extra={"part": part, "reason": reason})
            since = state.trouble.since if state.trouble else time.time()
            state.trouble = Trouble(part, reason, since, about)

    def troubles(self) -> list[Trouble]:
        """Return the parts that are at fault."""
        with self._lock:
            return [t for part, state in self._states.items() if (t := self._trouble(part, state))]

    def trouble(self, part: Part) -> Trouble | None:
        """Return what is wrong with one part, if anything is."""
        return next((t for t in self.troubles() if t.part == part), None)

    @property
    def is_good(self) -> bool:
        """Whether nothing is at fault."""
        return not self.troubles()

    def _trouble(self, part: Part, state: _State) -> Trouble | None:
        if state.trouble is None and state.probing_since is not None:
            slow_s = self.clock() - state.probing_since
            if slow_s > _SLOW_S:
                return Trouble(part, f"no answer for {slow_s:.0f} s", time.time() - slow_s)
        return state.trouble

    def probe(self, part: Part) -> None:
        """Probe a part, if it is time to."""
        with self._lock:
            state, now = self._states[part], self.clock()
            if now < state.probe_at:
                return
            trouble, state.probing_since = state.trouble, now
        try:
            self.probes[part](trouble)
        except Exception as error:
            with self._lock:
                state.probing_since = None
            self.failed(part, reason_of(error), trouble and trouble.about)
        else:
            self._restored(part)

    def _restored(self, part: Part) -> None:
        with self._lock:
            state, now = self._states[part], self.clock()
            reported_meanwhile = state.last_fault > (state.probing_since or now)
            state.probing_since = None
            if reported_meanwhile:
                return
            if state.trouble is not None:
                seconds = round(time.time() - state.trouble.since, 1)
                log.info("surroundings good again", extra={"part": part, "seconds": seconds})
            state.trouble, state.probe_at = None, now + self.every_s

    def watch(self, part: Part, stop: threading.Event) -> None:
        """Probe a part until ``stop`` is set."""
        while not stop.is_set():
            self.probe(part)
            stop.wait(min(0.1, self.every_s))
