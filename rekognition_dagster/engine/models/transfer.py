"""HTTP downloads that continue where they broke off, and members of remote zip files.

Which address holds a file is in ``sources`` and ``package_index``.
"""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

T = TypeVar("T")

Progress = Callable[[float], None]
"""Called with the fraction that has arrived, 0 to 1."""

_CHUNK = 1 << 14  # as much is lost of what arrived when a transfer breaks off
_PAUSES = (0.1, 0.4, 1.6, 3.0)  # seconds before each further try
_CONNECT_PAUSES = (0.5,)
_TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of an answer
_TAIL = 1 << 16  # bytes at a zip's end that hold the directory of most zips
_RETRIED = (408, 425, 429)


class SourceError(Exception):
    """A source does not give the file; the text is the reason."""


class RefusedError(SourceError):
    """The server does not give the file in this way, or cannot be reached."""


class WrongBytesError(SourceError):
    """What arrived is not the file."""


class NoRangesError(Exception):
    """A server gives files only as a whole."""


class _BrokenOffError(Exception):
    """A transfer ended early; what arrived is kept."""


class Web:
    """HTTP for one pull: connection settings, and the hosts that did not answer.

    Args:
        verify: File of certificates to trust, or None for the usual ones.
        cert: File of the client's certificate.
        proxy: Proxy for every host, or None for those of the environment.
    """

    def __init__(
        self, verify: str | None = None, cert: str | None = None, proxy: str | None = None
    ) -> None:
        import requests

        self._session = requests.Session()
        self._unreachable: dict[str, str] = {}
        if verify:
            self._session.verify = verify
        if cert:
            self._session.cert = cert
        if proxy:
            self._session.proxies = {"http": proxy, "https": proxy}

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], auth: tuple[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Open an answer of any status, its body still to be read.

        Raises:
            RefusedError: The host cannot be reached, now or earlier in this pull.
            requests.RequestException: The connection broke off.
        """
        import requests

        host = urlsplit(url).netloc.rpartition("@")[2]
        if host in self._unreachable:
            raise RefusedError(self._unreachable[host])
        for pause in (*_CONNECT_PAUSES, None):
            try:
                reply = self._session.get(
                    url, headers=headers, auth=auth, stream=True, timeout=_TIMEOUT
                )
            except requests.RequestException as error:
                if (reason := _no_connection(error)) is None:
                    raise
                if pause is None:
                    self._unreachable[host] = f"cannot reach {host} ({reason})"
                    raise RefusedError(self._unreachable[host]) from error
                time.sleep(pause)
                continue
            with reply:
                yield reply
            return

    def read(
        self, url: str, first: int, last: int, auth: tuple[str, str] | None = None
    ) -> tuple[bytes, int]:
        """Read bytes ``first`` to ``last``, inclusive, and the file's size.

        Raises:
            NoRangesError: The server does not give a part of the file.
            SourceError: The server does not give the file.
        """
        return _retry(lambda: self._read(url, first, last, auth))

    def _read(
        self, url: str, first: int, last: int, auth: tuple[str, str] | None
    ) -> tuple[bytes, int]:
        with self.get(url, _range(first, last), auth) as reply:
            _check_status(reply)
            start, total = _content_range(reply)
            if reply.status_code != 206 or start != first or total is None:
                raise NoRangesError
            content = reply.content
            if len(content) != min(last + 1, total) - first:
                raise _BrokenOffError(f"{len(content)} bytes arrived")
            return content, total

    def download(
        self,
        url: str,
        part: Path,
        progress: Progress,
        *,
        span: tuple[int, int] | None = None,
        size: int | None = None,
        auth: tuple[str, str] | None = None,
    ) -> None:
        """Complete ``part`` with a file's bytes, continuing after those that it holds.

        Args:
            url: The file's address.
            part: What arrived earlier, if anything; kept when this breaks off, too.
            progress: See :data:`Progress`.
            span: First byte and the byte after the last, of a part of the file.
            size: The file's size where it is known; another one is refused at once.
            auth: User and password.

        Raises:
            NoRangesError: A span is asked for and the server gives only the whole file.
            SourceError: The server does not give the file, or broke off again and again.
        """
        _retry(lambda: self._continue(url, part, progress, span, size, auth), part)

    def _continue(
        self,
        url: str,
        part: Path,
        progress: Progress,
        span: tuple[int, int] | None,
        size: int | None,
        auth: tuple[str, str] | None,
    ) -> None:
        first, end = span or (0, size)
        held = part.stat().st_size if part.exists() else 0
        if end is not None and held >= end - first:
            if held == end - first:
                return
            part.unlink()
            held = 0
        asked = _range(first + held, None if span is None else span[1] - 1)
        if not held and span is None:
            asked.pop("Range")
        with self.get(url, asked, auth) as reply:
            if reply.status_code == 416:  # everything has arrived, or the file is another one
                _, total = _content_range(reply)
                if total == held:
                    return
                part.unlink()
                raise _BrokenOffError("the file has changed")
            _check_status(reply)
            if reply.status_code != 206 or _content_range(reply)[0] != first + held:
                if span:
                    raise NoRangesError
                held = 0
            end = _end(reply, held, end, first)
            with part.open("ab" if held else "wb") as sink:
                for chunk in reply.iter_content(_CHUNK):
                    held += sink.write(chunk)
                    if end is not None:
                        if held > end - first:
                            raise SourceError(f"more than {end - first} bytes arrive")
                        progress(held / max(1, end - first))
            if end is not None and held < end - first:
                raise _BrokenOffError(f"{held} of {end - first} bytes arrived")


def _range(first: int, last: int | None) -> dict[str, str]:
    """Headers for a part of a file; a compressed answer would have other bytes."""
    return {
        "Accept-Encoding": "identity",
        "Range": f"bytes={first}-{'' if last is None else last}",
    }


def _content_range(reply: Any) -> tuple[int | None, int | None]:
    """First byte and the file's size of a partial answer, as far as it says so."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", reply.headers.get("Content-Range", ""))
    first, total = match.groups() if match else (None, None)
    return (int(first) if first else None, int(total) if total and total != "*" else None)


def _end(reply: Any, held: int, end: int | None, first: int) -> int | None:
    """The byte after the last that is to arrive, checked against what the server announces."""
    length = reply.headers.get("Content-Length")
    if length is None:
        return end
    announced = first + held + int(length)
    if end is not None and announced != end:
        raise SourceError(f"the server has {announced} bytes, expected {end}")
    return announced


def _check_status(reply: Any) -> None:
    status = reply.status_code
    if status >= 500 or status in _RETRIED:
        raise _BrokenOffError(f"the server answers {status}")
    if status >= 400:
        raise RefusedError(f"the server answers {status}")


def _retry(step: Callable[[], T], part: Path | None = None) -> T:
    """Repeat a step that breaks off."""
    import requests

    problem: Exception | None = None
    for pause in (*_PAUSES, None):
        try:
            return step()
        except (requests.RequestException, _BrokenOffError) as error:
            problem = error
        if pause is not None:
            time.sleep(pause)
    held = part.stat().st_size if part and part.exists() else 0
    kept = f" after {held / 1e6:.1f} MB, which are kept" if held else ""
    raise SourceError(f"broke off{kept} ({_reason(problem)})") from problem


def _no_connection(error: Exception) -> str | None:
    """Why no connection was made; None for an error that came later."""
    import requests
    from urllib3.exceptions import NewConnectionError

    cause = getattr(error.args[0] if error.args else None, "reason", None)
    unanswered = (
        requests.ConnectTimeout,
        requests.exceptions.SSLError,
        requests.exceptions.ProxyError,
    )
    if isinstance(error, ValueError):
        return "not a valid address"
    return (
        _reason(error)
        if isinstance(cause, NewConnectionError) or isinstance(error, unanswered)
        else None
    )


def _reason(error: Exception | None) -> str:
    """The error in a few words, without addresses, which can hold passwords."""
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate is not trusted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refuses"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "no answer in time"
    if match := re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(error)):
        return match[1]
    if isinstance(error, requests.RequestException):
        return "the connection broke"
    return str(error)


# -- members of a remote zip ----------------------------------------------------------------------


class RemoteZip:
    """A zip file whose server gives parts of files; fetches its directory.

    Raises:
        NoRangesError: The server gives the file only as a whole.
        SourceError: The server does not give the file, or it is not a zip.
    """

    def __init__(self, web: Web, url: str, auth: tuple[str, str] | None = None) -> None:
        self._web, self._url, self._auth = web, url, auth
        _, size = web.read(url, 0, 0, auth)
        self._file = _RangeFile(lambda first, last: web.read(url, first, last, auth)[0], size)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except zipfile.BadZipFile as error:
            raise SourceError(f"not a zip file: {error}") from error

    def span(self, member: str) -> tuple[int, int]:
        """First byte of a member's record, and the byte after its last.

        Raises:
            SourceError: There is no such member.
        """
        try:
            start = self._zip.getinfo(member).header_offset
        except KeyError:
            raise SourceError(f"it has no {member}") from None
        after = [i.header_offset for i in self._zip.infolist() if i.header_offset > start]
        return start, min([*after, self._zip.start_dir])

    def extract(self, member: str, part: Path, target: Path, progress: Progress) -> None:
        """Fetch one member into ``target`` through ``part``, which holds its compressed bytes.

        Raises:
            NoRangesError: The server no longer gives parts of the file.
            SourceError: The server does not give the bytes, or they are not the member's.
        """
        span = self.span(member)
        self._web.download(self._url, part, progress, span=span, auth=self._auth)
        self._file.pieces[span[0]] = part.read_bytes()
        try:
            unpack(self._zip, member, target)
        finally:
            del self._file.pieces[span[0]]


class _RangeFile(io.RawIOBase):
    """A remote file for ``zipfile``: a seek costs nothing, a read asks for what is not held."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self._size, self._position = fetch, size, 0
        tail = max(0, size - _TAIL)
        self.pieces: dict[int, bytes] = {tail: fetch(tail, size - 1)}
        """Bytes that are held, by their position."""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if base[whence] + offset < 0:
            raise OSError("before the file's start")
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer)
        end = min(self._position + len(target), self._size)
        if end <= self._position:
            return 0
        data = self._held(self._position, end) or self._fetch(self._position, end - 1)
        target[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _held(self, first: int, end: int) -> bytes | None:
        for start, piece in self.pieces.items():
            if start <= first < start + len(piece):
                return piece[first - start : end - start]
        return None


def unpack(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Write a member of an open zip to ``target``.

    Raises:
        SourceError: There is no such member, or it is damaged.
    """
    import zlib

    try:
        with archive.open(member) as source, target.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                sink.write(chunk)
    except KeyError:
        raise SourceError(f"it has no {member}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise WrongBytesError(f"its {member} is damaged: {error}") from error
