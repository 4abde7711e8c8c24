"""Who may call: access keys from a file or the environment, and the buckets each may name.

The file has the form of AWS's own shared credentials file, and is read again when it changes.
Checking signatures is in ``signing``.
"""

from __future__ import annotations

import configparser
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

from rekognition_dagster.errors import ConfigurationError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Principal:
    """One access key and what it may do.

    Args:
        name: Its name in logs; never the key.
        access_key: AWS access key id.
        secret_key: AWS secret access key.
        session_token: What must come along in ``X-Amz-Security-Token``, where it is temporary.
        expires_at: Seconds since 1970 after which it is refused.
        account: Jobs belong to an account; its principals see each other's.
        buckets: Patterns (``*``, ``?``) of the buckets it may name.
        topics: Patterns of the ARNs of the SNS topics it may name.
    """

    name: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    account: str = "default"
    buckets: tuple[str, ...] = ("*",)
    topics: tuple[str, ...] = ("*",)

    def may_read(self, bucket: str) -> bool:
        """Whether it may name ``bucket`` in a request."""
        return any(fnmatchcase(bucket, pattern) for pattern in self.buckets)

    def may_announce_to(self, topic: str) -> bool:
        """Whether it may name the topic with this ARN in a request."""
        return any(fnmatchcase(topic, pattern) for pattern in self.topics)


ANYONE = Principal("anyone", "", "")
"""Who calls where the service does not ask."""


class Credentials:
    """The access keys that are accepted now.

    Args:
        path: The credentials file; without one, ``AWS_ACCESS_KEY_ID`` and
            ``AWS_SECRET_ACCESS_KEY`` of the environment are the one credential.

    Raises:
        ConfigurationError: There are none, or the file cannot be read.
    """

    def __init__(self, path: str | Path | None = None):
        self._path = Path(path).expanduser() if path else None
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        if self._path is not None:
            self._stamp = _stamp(self._path)
            self._by_key = read_credentials(self._path)
        else:
            self._by_key = _from_environment()

    def principal(self, access_key: str) -> Principal | None:
        """Whose access key this is, if it is accepted."""
        self._reload()
        return self._by_key.get(access_key)

    def _reload(self) -> None:
        if self._path is None:
            return
        with self._lock:
            try:
                stamp = _stamp(self._path)
                if stamp == self._stamp:
                    return
                self._stamp = stamp
                self._by_key = read_credentials(self._path)
                log.info("credentials read again: %d access keys", len(self._by_key))
            except ConfigurationError as error:
                # A half-written file must not lock everybody out; a removed key is one removed
                # from a file that can be read.
                log.error("%s; the credentials of before stay", error)


_MEMBERS = frozenset(
    {
        *("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
        *("expires", "account", "buckets", "topics"),
    }
)


def read_credentials(path: Path) -> Mapping[str, Principal]:
    """The access keys in a credentials file.

    Each section is one principal, with ``aws_access_key_id``, ``aws_secret_access_key`` and, if
    wanted, ``aws_session_token``, ``expires`` (ISO 8601), ``account``, ``buckets`` and ``topics``
    (patterns, separated by commas).

    Raises:
        ConfigurationError: The file cannot be read, has no key, or a wrong one.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise ConfigurationError(
            f"the credentials file {path} cannot be read: {error.strerror}"
        ) from error
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = type(error).__name__  # its text may quote a secret
        raise ConfigurationError(f"the credentials file {path} is no INI file: {reason}") from None
    found: dict[str, Principal] = {}
    for name in parser.sections():
        section = parser[name]
        if unknown := sorted(set(section) - _MEMBERS):  # a misspelt limit would limit nothing
            raise ConfigurationError(
                f"the credentials file {path} has {', '.join(unknown)} in section [{name}]; it "
                f"may have {', '.join(sorted(_MEMBERS))}"
            )
        try:
            principal = Principal(
                name,
                section["aws_access_key_id"],
                section["aws_secret_access_key"],
                section.get("aws_session_token"),
                _epoch(section.get("expires")),
                section.get("account", "default"),
                _patterns(section.get("buckets", "*")),
                _patterns(section.get("topics", "*")),
            )
        except KeyError as error:
            raise ConfigurationError(
                f"the credentials file {path} has no {error.args[0]} in section [{name}]"
            ) from None
        except ValueError:
            raise ConfigurationError(
                f"the credentials file {path} has no ISO 8601 time in 'expires' of [{name}]"
            ) from None
        if principal.access_key in found:
            raise ConfigurationError(
                f"the credentials file {path} has one access key twice, in "
                f"[{found[principal.access_key].name}] and [{name}]"
            )
        found[principal.access_key] = principal
    if not found:
        raise ConfigurationError(f"the credentials file {path} has no access key")
    return found


def _from_environment() -> Mapping[str, Principal]:
    access_key = os.environ.get("AWS_ACCESS_KEY_ID")
    secret_key = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        raise ConfigurationError(
            "the service has no credentials to check its callers by. Name a credentials file, set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ask for no authentication on loopback"
        )
    token = os.environ.get("AWS_SESSION_TOKEN")
    return {access_key: Principal("environment", access_key, secret_key, token)}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise ConfigurationError(
            f"the credentials file {path} cannot be read: {error.strerror}"
        ) from error
    return stat.st_mtime_ns, stat.st_ino


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(p.strip() for p in text.split(",") if p.strip())


def _epoch(text: str | None) -> float | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
