"""A real PostgreSQL in a temporary folder, for the tests that want one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER = "tests"


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL on loopback; anyone may connect as ``USER``, without a password."""

    port: int
    pid: int

    def url(self, database: str = "postgres") -> str:
        """The address of a database, as libpq takes it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, template: str = "template1") -> str:
        """A new database, empty or like ``template``; its address."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"'.encode())
        return self.url(database)

    def answers(self) -> bool:
        """Whether it takes connections."""
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster of one's own; skips the test where PostgreSQL is not installed."""
    initdb, server = _program("initdb"), _program("postgres")
    if not initdb or not server:
        pytest.skip("PostgreSQL is not installed here: no initdb")
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'psycopg[binary]'")
    account = None
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        account = next((u for u in ("postgres", "nobody") if _exists(u)), None)
        if account is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user here")
    folder = Path(tempfile.mkdtemp(prefix="rekognition-postgres-"))
    if account:
        shutil.chown(folder, account)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    common = {"user": account, "cwd": folder, "stdout": subprocess.DEVNULL}
    made = subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8"],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        **common,
    )
    if made.returncode:
        pytest.skip(f"initdb does not work here: {made.stderr[-200:]}")
    process = subprocess.Popen(
        [server, "-D", data, "-k", folder, "-p", str(port), "-h", "127.0.0.1", "-F"],
        stderr=subprocess.DEVNULL,
        **common,
    )
    try:
        found = Cluster(port, process.pid)
        end = time.monotonic() + 60
        while not found.answers():
            assert process.poll() is None, "PostgreSQL ended while it started"
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.05)
        yield found
    finally:
        process.send_signal(signal.SIGQUIT)  # nothing of it is to be kept
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str | None:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(versions[-1]) if versions else None)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
