"""The certificate that the service shows: checked at the start, and replaced when its files change.

A connection that is open keeps the certificate that it began with.
"""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.service.settings import Settings

log = logging.getLogger(__name__)

_POLL_S = 1.0
_OUT_OF_DATES = (9, 10)
"""OpenSSL's codes for a certificate that is not yet valid, or has expired."""


class Certificate:
    """A certificate and its key, in files that may be replaced.

    Args:
        certificate: PEM file with the chain.
        key: PEM file with the private key.

    Raises:
        ConfigurationError: They cannot be used.
    """

    def __init__(self, certificate: str, key: str):
        self._files = (certificate, key)
        self._seen = self._tried = self._stamp()
        self._current = self.context = _context(certificate, key)
        # The context itself never changes: a half-replaced pair of files must not get into it.
        self.context.sni_callback = self._choose

    @classmethod
    def of(cls, settings: Settings) -> Certificate | None:
        """The settings' certificate, if they have one."""
        if not settings.tls_cert or not settings.tls_key:
            return None
        return cls(settings.tls_cert, settings.tls_key)

    def _choose(self, connection: ssl.SSLObject, *_: object) -> None:
        """Called for each handshake, also one without a server name."""
        if self._current is not connection.context:
            connection.context = self._current

    def watch(self, stop: threading.Event) -> None:
        """Read the files again when they have changed, until ``stop`` is set."""
        while not stop.wait(_POLL_S):
            self.refresh()

    def refresh(self) -> None:
        """Use the files' certificate if they have changed and changed no more since the last call.

        One that cannot be used is logged, and the one before is kept.
        """
        stamp, before = self._stamp(), self._seen
        self._seen = stamp
        if stamp == self._tried or stamp != before:
            return
        self._tried = stamp
        try:
            self._current = _context(*self._files)
        except ConfigurationError as error:
            log.error("the certificate of before is kept", extra={"error": error})
        else:
            log.info("certificate read again", extra={"file": self._files[0]})

    def _stamp(self) -> tuple[object, ...]:
        return tuple(_stamp(Path(file)) for file in self._files)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS for a server.

    Raises:
        ConfigurationError: The files cannot be used, or the certificate is out of its dates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password, OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password="none")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"TLS with {certificate} and {key} does not work: {error}. Both must be PEM files, "
            "belong together, and the key must have no password"
        ) from error
    _check_dates(context, certificate)
    return context


def _check_dates(server: ssl.SSLContext, certificate: str) -> None:
    """Refuse a certificate out of its dates, by a handshake in memory with who trusts it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, True))
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in _OUT_OF_DATES:
                raise ConfigurationError(
                    f"{certificate}: {error.verify_message}. No client would take it; renew it"
                ) from error
            return
