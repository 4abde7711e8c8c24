"""Who may read the pages for operators: callers from some networks, or with a token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.service.settings import Settings

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
_BEARER = "bearer "


@dataclass(frozen=True)
class Operators:
    """Whom the service shows more than ``ok``.

    Args:
        networks: Addresses that may.
        token_file: File with the token that may from elsewhere.
    """

    networks: Sequence[Network]
    token_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Operators:
        """The operators that the settings name.

        Raises:
            ConfigurationError: A network is none, or the file has no token.
        """
        try:
            names = [n.strip() for n in settings.operators.split(",") if n.strip()]
            networks = [ipaddress.ip_network(name, strict=False) for name in names]
        except ValueError as error:
            raise ConfigurationError(
                f"the setting 'operators' has {error}. It takes addresses and networks, such as "
                "127.0.0.0/8, 10.1.0.0/16, separated by commas"
            ) from None
        file = Path(settings.operator_token).expanduser() if settings.operator_token else None
        if file is not None and not _token(file):
            raise ConfigurationError(f"the operators' token cannot be read from {file}")
        return cls(networks, file)

    def include(self, address: str, authorization: str = "") -> bool:
        """Whether a request comes from an operator.

        Args:
            address: The caller's; with a proxy on this host, what that forwards in X-Forwarded-For.
            authorization: The request's header of that name.
        """
        return self._is_near(address) or self._has_token(authorization)

    def _is_near(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self.networks)

    def _has_token(self, authorization: str) -> bool:
        if self.token_file is None or not authorization.lower().startswith(_BEARER):
            return False
        token = _token(self.token_file)  # read each time, so that it can be replaced
        given = authorization[len(_BEARER) :].strip()
        return bool(token) and hmac.compare_digest(given.encode(), token.encode())


def _token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
