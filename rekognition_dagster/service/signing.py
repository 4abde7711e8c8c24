"""AWS Signature Version 4, as a server checks it.

Source: the AWS General Reference, Signature Version 4 signing process. Errors have the codes and
the wording that AWS's JSON services use.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote, unquote

from rekognition_dagster.service.credentials import Credentials, Principal
from rekognition_dagster.service.protocol import ApiError

SERVICE = "rekognition"
SKEW_S = 15 * 60
"""How far a request's time may be from ours."""

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+(?=.*Credential=(?P<credential>[^,\s]+))"
    r"(?=.*SignedHeaders=(?P<headers>[^,\s]+))(?=.*Signature=(?P<signature>[0-9a-f]{64})(?:,|\s|$))"
)
_MUST_BE_SIGNED = ("host", "x-amz-date", "x-amz-target", "x-amz-security-token")
_DATE = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class SignedRequest:
    """What of an HTTP request a signature covers.

    Args:
        method: ``POST``.
        path: As it was sent, percent-encoded.
        query: As it was sent, without ``?``.
        headers: By lower-case name; several of one name joined by commas.
        body: The payload.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


def caller(
    request: SignedRequest,
    credentials: Credentials,
    *,
    region: str | None = None,
    now: Callable[[], float] = time.time,
) -> Principal:
    """Who signed ``request``.

    Args:
        request: The request.
        credentials: The accepted access keys.
        region: The region that must be signed for; none takes any.
        now: Seconds since 1970.

    Raises:
        ApiError: Unsigned, wrong, too old or too new, with AWS's code for it.
    """
    header = request.headers.get("authorization")
    if not header:
        raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token")
    match = _AUTHORIZATION.match(header)
    scope = match["credential"].split("/") if match else []
    if match is None or len(scope) != 5:
        raise ApiError(
            "IncompleteSignatureException",
            "Authorization must be 'AWS4-HMAC-SHA256 Credential=<access key>/<date>/<region>/"
            "rekognition/aws4_request, SignedHeaders=..., Signature=...'",
        )
    access_key, day, signed_region, service, terminator = scope
    principal = credentials.principal(access_key)
    if principal is None:
        raise ApiError(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )
    stamp = _check_time(request, now())
    if day != stamp[:8]:
        raise _invalid(f"Date in Credential scope does not match YYYYMMDD of the date {stamp}.")
    if service != SERVICE:
        raise _invalid(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if terminator != "aws4_request":
        raise _invalid("Credential should be scoped with a valid terminator: 'aws4_request'.")
    if region is not None and signed_region != region:
        raise _invalid(f"Credential should be scoped to a valid region: '{region}'.")
    names = match["headers"].split(";")
    for name in _MUST_BE_SIGNED:
        if name not in names and (name in request.headers or name == "host"):
            raise _invalid(f"'{name}' must be a 'SignedHeader' in the Authorization header.")
    _check_payload(request)
    expected = signature(request, principal.secret_key, stamp, scope[1:], names)
    if not hmac.compare_digest(expected, match["signature"]):
        raise _invalid(
            "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method."
        )
    _check_session(principal, request, now())
    return principal


def signature(
    request: SignedRequest, secret_key: str, stamp: str, scope: list[str], names: list[str]
) -> str:
    """The signature in hexadecimal.

    Args:
        request: The request.
        secret_key: The signer's secret.
        stamp: The time, ``YYYYMMDDTHHMMSSZ``.
        scope: Date, region, service, ``aws4_request``.
        names: The signed headers in their order.
    """
    headers = "".join(
        f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in names
    )
    canonical = "\n".join(
        (
            request.method,
            quote(unquote(request.path), safe="/-_.~") or "/",
            _canonical_query(request.query),
            headers,
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, "/".join(scope), digest))
    key = f"AWS4{secret_key}".encode()
    for part in (*scope, to_sign):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def _canonical_query(query: str) -> str:
    pairs = (p.partition("=") for p in query.split("&") if p)
    encoded = sorted(
        (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~"))
        for name, _, value in pairs
    )
    return "&".join(f"{name}={value}" for name, value in encoded)


def _check_time(request: SignedRequest, now: float) -> str:
    stamp = request.headers.get("x-amz-date", "")
    try:
        moment = datetime.strptime(stamp, _DATE).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        raise ApiError(
            "IncompleteSignatureException",
            f"Date must be in ISO-8601 'basic format', as in X-Amz-Date. Got '{stamp[:40]}'.",
        ) from None
    ours = datetime.fromtimestamp(now, timezone.utc).strftime(_DATE)
    if moment < now - SKEW_S:
        raise _invalid(
            f"Signature expired: {stamp} is more than 15 min. earlier than {ours}. "
            "Check the clock of the caller."
        )
    if moment > now + SKEW_S:
        raise _invalid(
            f"Signature not yet current: {stamp} is more than 15 min. later than {ours}. "
            "Check the clock of the caller."
        )
    return stamp


def _check_payload(request: SignedRequest) -> None:
    claimed = request.headers.get("x-amz-content-sha256")
    actual = hashlib.sha256(request.body).hexdigest()
    if claimed is not None and not hmac.compare_digest(claimed.encode(), actual.encode()):
        raise _invalid("The provided 'x-amz-content-sha256' header does not match the payload.")


def _check_session(principal: Principal, request: SignedRequest, now: float) -> None:
    token = request.headers.get("x-amz-security-token", "")
    if not hmac.compare_digest(token.encode(), (principal.session_token or "").encode()):
        raise ApiError(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )
    if principal.expires_at is not None and principal.expires_at <= now:
        raise ApiError(
            "ExpiredTokenException", "The security token included in the request is expired"
        )


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidSignatureException", message)
