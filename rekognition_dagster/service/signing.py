"""AWS Signature Version 4, as a server checks it.

botocore, which signs for callers, computes the signature here, too. Headers are checked first, in
little time however long they are. Errors have the codes and the wording of AWS's JSON services.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys

from rekognition_dagster.service.credentials import Credentials, Principal
from rekognition_dagster.service.protocol import ApiError

SERVICE = "rekognition"
SKEW_S = 15 * 60
"""How far a request's time may be from ours."""

MAX_AUTHORIZATION_BYTES = 4096
"""No SDK's header comes near this length."""

_SIGNATURE = re.compile("[0-9a-f]{64}")
_TOKEN = "x-amz-security-token"
_MUST_BE_SIGNED = ("host", "x-amz-date", "x-amz-target", _TOKEN)
_TEMPORARY = (
    "This service cannot check temporary credentials that AWS issued (of a role, SSO, an instance "
    "profile): their secret key, which signed the request, is known to AWS and to the caller only. "
    "Sign with an access key of the service's credentials file; see docs/service.md, Temporary "
    "credentials."
)
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


@dataclass(frozen=True)
class Claim:
    """What a request's headers say of its caller: checked, except for the signature.

    Args:
        principal: Whose access key it names.
        stamp: The time, ``YYYYMMDDTHHMMSSZ``.
        region: The region that it is signed for.
        names: The signed headers.
        signature: In hexadecimal.
    """

    principal: Principal
    stamp: str
    region: str
    names: Sequence[str]
    signature: str


def caller(
    request: SignedRequest,
    credentials: Credentials,
    *,
    region: str | None = None,
    now: Callable[[], float] = time.time,
) -> Principal:
    """Return who signed ``request``; see :func:`claimed` and :func:`verified`."""
    return verified(request, claimed(request.headers, credentials, region=region, now=now), now=now)


def claimed(
    headers: Mapping[str, str],
    credentials: Credentials,
    *,
    region: str | None = None,
    now: Callable[[], float] = time.time,
) -> Claim:
    """Check everything of a signature that needs no body and no cryptography.

    Args:
        headers: By lower-case name.
        credentials: The accepted access keys.
        region: The region that must be signed for; none takes any.
        now: Seconds since 1970.

    Raises:
        ApiError: Unsigned, of an unknown key, too old or too new, with AWS's code for it.
    """
    header = headers.get("authorization")
    if not header:
        raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token")
    fields = _fields(header)
    scope = fields.get("Credential", "").split("/")
    signature = fields.get("Signature", "")
    if len(scope) != 5 or "SignedHeaders" not in fields or not _SIGNATURE.fullmatch(signature):
        raise ApiError(
            "IncompleteSignatureException",
            "Authorization must be 'AWS4-HMAC-SHA256 Credential=<access key>/<date>/<region>/"
            "rekognition/aws4_request, SignedHeaders=..., Signature=...', at most "
            f"{MAX_AUTHORIZATION_BYTES} bytes",
        )
    access_key, day, signed_region, service, terminator = scope
    principal = credentials.principal(access_key)
    if principal is None:
        raise _unrecognized(headers.get(_TOKEN))
    stamp = _check_time(headers.get("x-amz-date", ""), now())
    if day != stamp[:8]:
        raise _invalid(f"Date in Credential scope does not match YYYYMMDD of the date {stamp}.")
    if service != SERVICE:
        raise _invalid(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if terminator != "aws4_request":
        raise _invalid("Credential should be scoped with a valid terminator: 'aws4_request'.")
    if region is not None and signed_region != region:
        raise _invalid(f"Credential should be scoped to a valid region: '{region}'.")
    names = fields["SignedHeaders"].split(";")
    for name in _MUST_BE_SIGNED:
        if name not in names and (name in headers or name == "host"):
            raise _invalid(f"'{name}' must be a 'SignedHeader' in the Authorization header.")
    return Claim(principal, stamp, signed_region, names, signature)


def verified(
    request: SignedRequest, claim: Claim, *, now: Callable[[], float] = time.time
) -> Principal:
    """Check a claim's signature over the whole request, and its session.

    Raises:
        ApiError: The signature or the session token is wrong, or the session is over.
    """
    _check_payload(request)
    if not hmac.compare_digest(_signature(request, claim), claim.signature):
        raise _invalid(
            "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method."
        )
    _check_session(claim.principal, request, now())
    return claim.principal


class _Signer(SigV4Auth):
    """botocore's signer, of exactly the headers that a request has."""

    def headers_to_sign(self, request: Any) -> Any:
        return request.headers


def _signature(request: SignedRequest, claim: Claim) -> str:
    """The signature that the claim's principal makes, in hexadecimal."""
    query = f"?{request.query}" if request.query else ""
    signed = AWSRequest(
        request.method,
        f"https://{request.headers.get('host', '')}{request.path}{query}",
        headers={name: request.headers.get(name, "") for name in claim.names},
        data=request.body,
    )
    signed.context["timestamp"] = claim.stamp
    keys = Keys(claim.principal.access_key, claim.principal.secret_key)
    signer = _Signer(keys, SERVICE, claim.region)
    try:
        canonical = signer.canonical_request(signed)
    except ValueError:  # a host or path that is none
        raise _invalid("The request has no valid URL.") from None
    return str(signer.signature(signer.string_to_sign(signed, canonical), signed))


def _fields(authorization: str) -> Mapping[str, str]:
    """The fields of an Authorization header; none where it is not of Signature Version 4."""
    scheme, _, rest = authorization.partition(" ")
    if scheme != "AWS4-HMAC-SHA256" or len(authorization) > MAX_AUTHORIZATION_BYTES:
        return {}
    pairs = (part.strip().partition("=") for part in rest.replace(" ", ",").split(","))
    return {name: value for name, _, value in pairs if name}


def _check_time(stamp: str, now: float) -> str:
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
    token = request.headers.get(_TOKEN, "")
    if not hmac.compare_digest(token.encode(), (principal.session_token or "").encode()):
        raise _unrecognized(token)
    if principal.expires_at is not None and principal.expires_at <= now:
        raise ApiError(
            "ExpiredTokenException", "The security token included in the request is expired"
        )


def _unrecognized(token: str | None) -> ApiError:
    """The error of a key or session token that is not in the credentials."""
    text = "The security token included in the request is invalid."
    if token:
        text += f" {_TEMPORARY}"
    return ApiError("UnrecognizedClientException", text)


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidSignatureException", message)
