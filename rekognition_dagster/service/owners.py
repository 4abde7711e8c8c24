"""Processes as owners of leases: their names, and whether they are still alive."""

from __future__ import annotations

import hashlib
import os
import socket


def owner_name() -> str:
    """This process's name as a lease owner: host, process namespace and process id."""
    return f"{_place()}:{os.getpid()}"


def is_dead_here(owner: str) -> bool:
    """Whether a lease owner was a process of this host that is no more.

    Of owners elsewhere (another host, another container) nothing is known, so they are not.
    """
    place, _, pid = owner.rpartition(":")
    if place != _place() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def scratch_prefix(pid: int | None = None) -> str:
    """What names of this process's temporary folders begin with, told apart by host likewise."""
    place = hashlib.sha256(_place().encode()).hexdigest()[:8]
    return f"{place}-{os.getpid() if pid is None else pid}-"


def _place() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "-"
    return f"{socket.gethostname()}:{namespace}"
