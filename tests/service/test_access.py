"""Who may call: signatures, credentials, buckets, TLS."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import botocore.auth
import pytest
from service.serving import BUCKET, ENV, client, post, refused, until

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.service import Settings, serve
from rekognition_dagster.service.credentials import Credentials, read_credentials
from rekognition_dagster.service.protocol import ApiError
from rekognition_dagster.service.signing import SignedRequest, caller, claimed
from rekognition_dagster.service.tls import Certificate

HERE = Path(__file__).parent
GET = b'{"JobId": "x"}'


def test_an_unsigned_request_is_refused(service):
    answer = service.post("GetPersonTracking", GET, sign=False)
    assert (answer.code, answer.status) == ("MissingAuthenticationTokenException", 400)


def test_a_half_signed_request_is_refused(service):
    answer = service.post("GetPersonTracking", GET, sign=False, Authorization="AWS4-HMAC-SHA256 x")
    assert (answer.code, answer.status) == ("IncompleteSignatureException", 400)


def test_an_unknown_key_is_refused(service):
    answer = post(service.url, "GetPersonTracking", GET, keys=("AKIDNOBODY", "secret"))
    assert (answer.code, answer.status) == ("UnrecognizedClientException", 400)


def test_a_wrong_secret_is_refused(service):
    keys = (ENV["AWS_ACCESS_KEY_ID"], "guess")
    answer = post(service.url, "GetPersonTracking", GET, keys=keys)
    assert (answer.code, answer.status) == ("InvalidSignatureException", 400)
    assert ENV["AWS_SECRET_ACCESS_KEY"] not in answer.body.decode()


def test_a_token_that_nobody_gave_out_is_refused(service):
    keys = (ENV["AWS_ACCESS_KEY_ID"], ENV["AWS_SECRET_ACCESS_KEY"], "a-session-token")
    answer = post(service.url, "GetPersonTracking", GET, keys=keys)
    assert answer.code == "UnrecognizedClientException"


def test_temporary_credentials_of_aws_are_refused_with_the_reason_and_what_to_do(tmp_path):
    path = tmp_path / "credentials"
    path.write_text(
        "[a]\naws_access_key_id = A\naws_secret_access_key = secret\n"
        "[b]\naws_access_key_id = B\naws_secret_access_key = secret\naws_session_token = issued\n"
    )
    credentials = Credentials(path)
    for keys, is_told in (
        (("ASIAROLE", "of-the-role", "a-session-token"), True),
        (("A", "secret", "a-session-token"), True),
        (("B", "secret", "another-token"), True),
        (("AKIDNOBODY", "secret"), False),
        (("B", "secret"), False),
    ):
        headers, stamp = _signed(GET, *keys)
        request = SignedRequest("POST", "/", "", headers, GET)
        with pytest.raises(ApiError) as caught:
            caller(request, credentials, now=lambda at=stamp: at)
        assert caught.value.code == "UnrecognizedClientException"
        assert ("temporary credentials that AWS issued" in caught.value.message) is is_told
        assert ("Sign with an access key of the service" in caught.value.message) is is_told
        assert "token" not in caught.value.message.replace("security token", "")
    headers, stamp = _signed(GET, "B", "secret", "issued")
    request = SignedRequest("POST", "/", "", headers, GET)
    assert caller(request, credentials, now=lambda: stamp).name == "b"
    section = (HERE.parents[1] / "docs" / "service.md").read_text().partition("### Temporary")[2]
    assert "the secret key that made it" in section.partition("\n## ")[0]


def test_a_signature_for_another_service_is_refused(service):
    answer = post(service.url, "GetPersonTracking", GET, service="s3")
    assert answer.code == "InvalidSignatureException"
    assert "correct service" in answer.json["Message"]


@pytest.mark.parametrize(("minutes", "code"), [(-16, "expired"), (16, "not yet current")])
def test_a_request_from_another_time_is_refused(service, monkeypatch, minutes, code):
    shifted = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(minutes=minutes)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: shifted)
    answer = service.post("GetPersonTracking", GET)
    assert (answer.code, answer.status) == ("InvalidSignatureException", 400)
    assert code in answer.json["Message"]
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda: shifted - timedelta(minutes=minutes * 2 / 16)
    )
    assert service.post("GetPersonTracking", GET).code == "ResourceNotFoundException"


def test_a_body_that_was_changed_on_the_way_is_refused(tmp_path):
    path = tmp_path / "credentials"
    path.write_text("[a]\naws_access_key_id = A\naws_secret_access_key = secret\n")
    headers, stamp = _signed(GET)
    request = SignedRequest("POST", "/", "", headers, GET)
    assert caller(request, Credentials(path), now=lambda: stamp).name == "a"
    for changed in (
        SignedRequest("POST", "/", "", headers, b'{"JobId": "y"}'),
        SignedRequest("POST", "/", "a=b", headers, GET),
        SignedRequest("POST", "/x", "", headers, GET),
        SignedRequest("GET", "/", "", headers, GET),
        SignedRequest("POST", "/", "", {**headers, "x-amz-target": "Other"}, GET),
        SignedRequest("POST", "/", "", {**headers, "x-amz-content-sha256": "0" * 64}, GET),
    ):
        with pytest.raises(ApiError, match="InvalidSignatureException"):
            caller(changed, Credentials(path), now=lambda: stamp)
    with pytest.raises(ApiError, match="valid region: 'eu-west-1'"):
        caller(request, Credentials(path), region="eu-west-1", now=lambda: stamp)


LONG = [
    "AWS4-HMAC-SHA256 " + "Credential=" * 2700,
    "AWS4-HMAC-SHA256 Credential=A" + "/" * 30_000,
    "AWS4-HMAC-SHA256 " + ", " * 15_000,
    "AWS4-HMAC-SHA256 Credential=A/a/b/c/d, SignedHeaders=" + "a;" * 15_000 + ", Signature=0",
    "x" * 30_000,
]


@pytest.mark.parametrize("header", LONG)
def test_a_long_authorization_header_is_refused_at_once(tmp_path, header):
    path = tmp_path / "credentials"
    path.write_text("[a]\naws_access_key_id = A\naws_secret_access_key = secret\n")
    credentials = Credentials(path)
    began = time.process_time()
    for _ in range(100):
        with pytest.raises(ApiError, match="IncompleteSignatureException"):
            claimed({"authorization": header}, credentials)
    assert time.process_time() - began < 0.5  # 5 ms each, where they took a second


@pytest.mark.parametrize("query", ["", "b=2&a=1&a=0", "x=%2F%20y"])
@pytest.mark.parametrize("extra", [{}, {"X-Amz-Meta-B": "  two   words ", "User-Agent": "me"}])
def test_whatever_botocore_signs_is_accepted(tmp_path, query, extra):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Keys

    path = tmp_path / "credentials"
    path.write_text("[a]\naws_access_key_id = A\naws_secret_access_key = secret\n")
    headers = {"X-Amz-Target": "RekognitionService.GetPersonTracking", **extra}
    url = f"http://host:8080/{'?' if query else ''}{query}"
    request = AWSRequest("POST", url, data=GET, headers=headers)
    SigV4Auth(Keys("A", "secret"), "rekognition", "us-east-1").add_auth(request)
    sent = {k.lower(): v for k, v in request.headers.items()} | {"host": "host:8080"}
    signed = SignedRequest("POST", "/", query, sent, GET)
    assert caller(signed, Credentials(path)).name == "a"
    for name in ("host", "x-amz-date", "x-amz-target"):
        spoilt = SignedRequest("POST", "/", query, {**sent, name: sent[name] + "1"}, GET)
        with pytest.raises(ApiError):
            caller(spoilt, Credentials(path))


def test_requests_that_never_end_leave_the_others_served(make_service):
    service = make_service(workers=0, requests_at_once=4)
    host, port = service.url.removeprefix("http://").split(":")
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{ENV['AWS_ACCESS_KEY_ID']}/{stamp[:8]}/us-east-1/rekognition/aws4_request"
    signed = f"SignedHeaders=host;x-amz-date;x-amz-target, Signature={'0' * 64}"
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Date: {stamp}\r\nContent-Length: 1000\r\n"
        "X-Amz-Target: RekognitionService.GetPersonTracking\r\n"
    )
    known = f"{head}Authorization: AWS4-HMAC-SHA256 Credential={scope}, {signed}\r\n\r\n{{"
    with contextlib.ExitStack() as stack:
        for text in [known] * 20 + [f"{head}\r\n{{"] * 20:
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(text.encode())
        for _ in range(5):
            assert service.post("GetPersonTracking", GET).code == "ResourceNotFoundException"
    many = {f"X-{i}": "1" for i in range(120)}
    assert service.post("GetPersonTracking", GET, **many).code == "SerializationException"
    image = b'{"Image": {"Bytes": "' + b"A" * 6_000_000 + b'"}}'
    assert service.post("DetectLabels", image).code == "UnknownOperationException"


def _signed(body: bytes, *keys: str):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Keys

    headers = {"X-Amz-Target": "RekognitionService.GetPersonTracking"}
    request = AWSRequest("POST", "http://host/", data=body, headers=headers)
    signer = SigV4Auth(Keys(*(keys or ("A", "secret"))), "rekognition", "us-east-1")
    signer.add_auth(request)
    signed = {k.lower(): v for k, v in request.headers.items()} | {"host": "host"}
    return signed, time.time()


def test_a_key_that_is_limited_to_buckets_reaches_no_other(cloud, make_service, tmp_path):
    path = tmp_path / "credentials"
    path.write_text(
        "[all]\naws_access_key_id = A\naws_secret_access_key = a\n"
        "[few]\naws_access_key_id = F\naws_secret_access_key = f\nbuckets = other, foot*x\n"
        "[elsewhere]\naws_access_key_id = E\naws_secret_access_key = e\naccount = second\n"
        "[gone]\naws_access_key_id = G\naws_secret_access_key = g\naws_session_token = t\n"
        "expires = 2020-01-01T00:00:00Z\n"
    )
    service = make_service(credentials=str(path), workers=0)
    body = json.dumps({"Video": cloud.video()}).encode()
    job_id = post(service.url, "StartPersonTracking", body, keys=("A", "a")).json["JobId"]
    answer = post(service.url, "StartPersonTracking", body, keys=("F", "f"))
    assert (answer.code, answer.status) == ("AccessDeniedException", 400)
    assert BUCKET in answer.json["Message"]
    get = json.dumps({"JobId": job_id}).encode()
    assert post(service.url, "GetPersonTracking", get, keys=("A", "a")).status == 200
    answer = post(service.url, "GetPersonTracking", get, keys=("F", "f"))
    assert answer.code == "AccessDeniedException"
    answer = post(service.url, "GetPersonTracking", get, keys=("E", "e"))
    assert answer.code == "ResourceNotFoundException"
    answer = post(service.url, "GetPersonTracking", get, keys=("G", "g", "t"))
    assert (answer.code, answer.status) == ("ExpiredTokenException", 400)
    # The environment's key is not a key of this service.
    assert service.post("GetPersonTracking", get).code == "UnrecognizedClientException"

    path.write_text("[new]\naws_access_key_id = N\naws_secret_access_key = n\n")
    until(lambda: post(service.url, "GetPersonTracking", get, keys=("N", "n")).status == 200)
    answer = post(service.url, "GetPersonTracking", get, keys=("A", "a"))
    assert answer.code == "UnrecognizedClientException"
    path.write_text("[half")
    assert post(service.url, "GetPersonTracking", get, keys=("N", "n")).status == 200
    assert "aws_secret" not in service.logged()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no access key"),
        ("[a]\naws_access_key_id = A\n", "aws_secret_access_key"),
        ("[a\n", "no INI file"),
        (
            "[a]\naws_access_key_id = A\naws_secret_access_key = x\nexpires = soon\n",
            "ISO 8601",
        ),
        (
            "[a]\naws_access_key_id = A\naws_secret_access_key = topsecret\n"
            "[b]\naws_access_key_id = A\naws_secret_access_key = topsecret\n",
            "twice",
        ),
        (
            "[a]\naws_access_key_id = A\naws_secret_access_key = topsecret\nbucket = cameras\n",
            r"has bucket in section \[a\]; it may have account, .*buckets",
        ),
    ],
)
def test_a_credentials_file_that_cannot_be_used_is_told_without_its_secrets(tmp_path, text, said):
    path = tmp_path / "credentials"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_credentials(path)
    assert "topsecret" not in str(caught.value)


def test_without_authentication_it_serves_on_loopback_only_and_only_when_asked(monkeypatch):
    with pytest.raises(ConfigurationError, match="loopback only"):
        Settings.of(host="0.0.0.0", anonymous=True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ConfigurationError, match="no credentials"):
        serve(port=0)


def test_anyone_is_served_where_that_was_asked_for(make_service):
    service = make_service(anonymous=True, workers=0)
    answer = service.post("GetPersonTracking", GET, sign=False)
    assert answer.code == "ResourceNotFoundException"


def test_it_serves_https_by_certificate_files_and_takes_up_new_ones(make_service, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    service = make_service(tls_cert=str(certificate), tls_key=str(key), workers=0)
    assert service.url.startswith("https://")
    rekognition = client("rekognition", service.url, verify=str(certificate))
    code, _, _ = refused(rekognition.get_person_tracking, JobId="x")
    assert code == "ResourceNotFoundException"
    key.write_text("half")
    until(lambda: "the certificate of before is kept" in service.logged())
    make_certificate(certificate, key)
    until(lambda: "certificate read again" in service.logged())
    renewed = client("rekognition", service.url, verify=str(certificate))
    code, _, _ = refused(renewed.get_person_tracking, JobId="x")
    assert code == "ResourceNotFoundException"


def make_certificate(certificate, key):
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)


def test_a_certificate_changes_only_once_both_its_files_work(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    shown = Certificate(str(certificate), str(key))
    first = served(shown)
    make_certificate(certificate, tmp_path / "next.pem")  # the key is still the old one
    for _ in range(3):
        shown.refresh()
        assert served(shown) == first
    os.replace(tmp_path / "next.pem", key)
    shown.refresh()
    assert served(shown) == first, "it may be changing still"
    shown.refresh()
    second = served(shown)
    assert second != first
    for broken in (certificate, key):
        broken.unlink()
        for _ in range(3):
            shown.refresh()
        assert served(shown) == second
    assert served(shown, "a.name") == second


def served(certificate: Certificate, name: str | None = None) -> bytes | None:
    """The certificate that a client gets, by a handshake in memory."""
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller.check_hostname, caller.verify_mode = False, ssl.CERT_NONE
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = caller.wrap_bio(here, there, server_hostname=name)
    theirs = certificate.context.wrap_bio(there, here, server_side=True)
    for end in (ours, theirs) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ours.getpeercert(binary_form=True)


def test_tls_files_that_do_not_work_are_told_at_the_start(tmp_path):
    (tmp_path / "x.pem").write_text("no pem")
    path = str(tmp_path / "x.pem")
    with pytest.raises(ConfigurationError, match="must be PEM files"):
        serve(port=0, store=str(tmp_path), tls_cert=path, tls_key=path, workers=0)
    assert os.path.exists(path)
