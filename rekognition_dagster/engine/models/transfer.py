"""HTTP downloads that continue where they broke off.

Which address holds a file is in ``sources`` and ``package_index``.
"""

from __future__ import annotations

import re
import time
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
_RETRIED = (408, 425, 429)
_UNCOMPRESSED = {"Accept-Encoding": "identity"}  # parts of a compressed file are other bytes


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
        self, url: str, first: int, end: int, auth: tuple[str, str] | None = None
    ) -> tuple[bytes, int]:
        """Read the bytes from ``first`` to before ``end``, and the file's size.

        Raises:
            NoRangesError: The server does not give a part of the file.
            SourceError: The server does not give the file.
        """
        return _retry(lambda: self._read(url, first, end, auth))

    def _read(
        self, url: str, first: int, end: int, auth: tuple[str, str] | None
    ) -> tuple[bytes, int]:
        with self.get(url, _range(first, end), auth) as reply:
            _check_status(reply)
            start, total = _content_range(reply)
            if reply.status_code != 206 or start != first or total is None:
                raise NoRangesError
            content = reply.content
            if len(content) != min(end, total) - first:
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
        first, end = span or (0, None)
        expected = end - first if end else size
        held = part.stat().st_size if part.exists() else 0
        if held == expected:
            return
        if expected is not None and held > expected:
            part.unlink()
            held = 0
        headers = _range(first + held, end) if span or held else _UNCOMPRESSED
        with self.get(url, headers, auth) as reply:
            start, total = _content_range(reply)
            if reply.status_code == 416:  # everything has arrived, or the file is another one
                if total == held:
                    return
                part.unlink()
                raise _BrokenOffError("the file has changed")
            _check_status(reply)
            if reply.status_code != 206 or start != first + held:
                if span:
                    raise NoRangesError
                held = 0
            _write(reply, part, held, _wanted(reply, held, expected), progress)


def _write(reply: Any, part: Path, held: int, wanted: int | None, progress: Progress) -> None:
    """Append an answer to the bytes that are held, up to the wanted ones."""
    with part.open("ab" if held else "wb") as sink:
        for chunk in reply.iter_content(_CHUNK):
            held += sink.write(chunk)
            if wanted is not None and held > wanted:
                raise SourceError(f"more than {wanted} bytes arrive")
            if wanted:
                progress(held / wanted)
    if wanted is not None and held < wanted:
        raise _BrokenOffError(f"{held} of {wanted} bytes arrived")


def _wanted(reply: Any, held: int, expected: int | None) -> int | None:
    """Bytes to hold in the end; refuses a server that announces another number."""
    length = reply.headers.get("Content-Length", "")
    if not length.isdigit():
        return expected
    announced = held + int(length)
    if expected is not None and announced != expected:
        raise SourceError(f"the server has {announced} bytes, expected {expected}")
    return announced


def _range(first: int, end: int | None) -> dict[str, str]:
    """Headers for a part of a file, up to the byte before ``end``."""
    return {**_UNCOMPRESSED, "Range": f"bytes={first}-{'' if end is None else end - 1}"}


def _content_range(reply: Any) -> tuple[int | None, int | None]:
    """First byte and the file's size of a partial answer, as far as it says so."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", reply.headers.get("Content-Range", ""))
    first, total = match.groups() if match else (None, None)
    return (int(first) if first else None, int(total) if total and total != "*" else None)


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

    if isinstance(error, ValueError):
        return "not a valid address"
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    kinds = (requests.Timeout, requests.exceptions.SSLError, requests.exceptions.ProxyError)
    if isinstance(error, kinds) or isinstance(cause, NewConnectionError):
        return _reason(error)
    return None


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
