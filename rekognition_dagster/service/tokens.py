"""Pagination tokens: opaque, signed, and bound to one job and one order of its rows."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from rekognition_dagster.service.protocol import ApiError

_MAC_BYTES = 16


def next_token(secret: bytes, job_id: str, order: str, offset: int) -> str:
    """The token for the page that begins at row ``offset``; 32 characters.

    Args:
        secret: The store's secret.
        job_id: The job whose rows are paged.
        order: The order that the rows are in; a token of one order is wrong in another.
        offset: Zero-based row.
    """
    where = offset.to_bytes(8, "big")
    return base64.urlsafe_b64encode(where + _mac(secret, job_id, order, where)).decode()


def offset_of(secret: bytes, job_id: str, order: str, token: str | None) -> int:
    """The row that ``token`` points at; 0 for no token or an empty one.

    Raises:
        ApiError: ``InvalidPaginationTokenException``.
    """
    if not token:
        return 0
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    where, mac = raw[:8], raw[8:]
    if len(where) != 8 or not hmac.compare_digest(mac, _mac(secret, job_id, order, where)):
        raise ApiError(
            "InvalidPaginationTokenException",
            "NextToken is not one that this job and order gave: pass it unchanged, "
            "with the JobId, SortBy and AggregateBy of the call that returned it",
        )
    return int.from_bytes(where, "big")


def _mac(secret: bytes, job_id: str, order: str, where: bytes) -> bytes:
    bound = b"\0".join((job_id.encode(), order.encode(), where))
    return hmac.new(secret, bound, hashlib.sha256).digest()[:_MAC_BYTES]
