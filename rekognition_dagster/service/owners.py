"""Processes as owners of leases: names that no other process has, and whether one has ended."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import uuid
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def owner_name() -> str:
    """Return a new name for this process: boot, process namespace, process id, a random part.

    A host's name would not do: containers and cloned machines share theirs.
    """
    return f"{owner_prefix(os.getpid())}{secrets.token_hex(8)}"


def owner_prefix(pid: int) -> str:
    """Return what the names of a process on this machine and in this namespace begin with."""
    return f"{_place()}:{pid}:"


def is_dead_here(owner: str) -> bool:
    """Whether a lease owner was a process of this machine that has ended.

    Of owners elsewhere (another host, another container) nothing is known, so they are not.
    """
    place, _, rest = owner.rpartition(":")[0].rpartition(":")
    if place != _place() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def scratch_prefix(pid: int | None = None) -> str:
    """Return what the names of a process's temporary folders begin with."""
    return f"{scratch_place()}-{os.getpid() if pid is None else pid}-"


def scratch_place() -> str:
    """Return what the names of all temporary folders of this machine's processes begin with."""
    return hashlib.sha256(_place().encode()).hexdigest()[:8]


@functools.cache
def _place() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        return f"{_BOOT_ID.read_text().strip()}:{namespace}"
    except OSError:  # not Linux, and so no containers: the network card's address
        return f"{uuid.getnode():x}:-"
