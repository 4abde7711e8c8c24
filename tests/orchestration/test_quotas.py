"""The quota of jobs in flight, as Service Quotas tells it, or does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from deployment import Deployment
from rekognition_double import ApiFault

from rekognition_dagster import RekognitionVideoResource, Settings
from rekognition_dagster.api import quotas
from rekognition_dagster.errors import ConfigurationError


@dataclass
class ServiceQuotas:
    """An endpoint of Service Quotas; tests set what it answers."""

    applied: float | None = None
    default: float = 20.0
    denied: bool = False
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def answer(self, operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append((operation, request))
        if self.denied:
            return 400, {"__type": "AccessDeniedException", "Message": "not you"}
        value = self.applied if operation == "GetServiceQuota" else self.default
        if value is None:
            return 400, {"__type": "NoSuchResourceException", "Message": "none applied"}
        return 200, {"Quota": {"Value": value}}


@pytest.fixture
def service_quotas(aws: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceQuotas]:
    double = ServiceQuotas()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = double.answer(self.headers["X-Amz-Target"].split(".")[1], body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(quotas, "_known", {})
    yield double
    server.shutdown()
    server.server_close()


def asked(said: list[str]) -> int:
    return RekognitionVideoResource().most_in_flight("service-quotas", said.append)


def test_the_accounts_own_quota_holds_and_is_asked_once(service_quotas: ServiceQuotas) -> None:
    service_quotas.applied = 35.0
    said: list[str] = []
    assert [asked(said) for _ in range(3)] == [35, 35, 35]
    assert said == []
    assert service_quotas.calls == [
        ("GetServiceQuota", {"ServiceCode": "rekognition", "QuotaCode": "L-A6079699"})
    ]


def test_without_one_of_its_own_the_default_holds(service_quotas: ServiceQuotas) -> None:
    service_quotas.default = 25.0
    assert asked([]) == 25
    assert [name for name, _ in service_quotas.calls] == [
        "GetServiceQuota",
        "GetAWSDefaultServiceQuota",
    ]


def test_a_refusal_is_told_once_and_what_was_known_holds_on(
    service_quotas: ServiceQuotas, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_quotas.denied = True
    said: list[str] = []
    assert [asked(said), asked(said)] == [20, 20]
    (told,) = said
    assert "AccessDeniedException" in told
    assert "servicequotas:GetServiceQuota" in told

    service_quotas.denied, service_quotas.applied = False, 35.0
    monkeypatch.setattr(quotas.time, "monotonic", lambda now=quotas.time.monotonic: now() + 301)
    assert asked(said) == 35
    service_quotas.denied = True
    monkeypatch.setattr(quotas.time, "monotonic", lambda now=quotas.time.monotonic: now() + 3601)
    assert asked(said) == 35
    assert "Going on with 35" in said[1]


@pytest.mark.usefixtures("service_quotas")
def test_an_endpoint_that_is_not_there_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", "http://127.0.0.1:9")
    said: list[str] = []
    assert asked(said) == 20
    assert "Could not connect" in said[0]


def test_no_more_jobs_are_started_than_the_quota_has(
    deployment: Deployment, service_quotas: ServiceQuotas
) -> None:
    service_quotas.applied = 2.0
    deployment.set(max_jobs_in_flight="service-quotas")
    deployment.discover("a.mp4", "b.mp4", "c.mp4")
    deployment.dispatch()
    assert len(deployment.double.jobs) == 2
    result = deployment.tick("job_dispatch")
    assert str(result.skip_message) == "All 2 jobs are in flight"


def test_the_setting_is_a_number_or_service_quotas() -> None:
    name = "REKOGNITION_DAGSTER_MAX_JOBS_IN_FLIGHT"
    assert Settings.from_env({name: "7"}).max_jobs_in_flight == 7
    assert Settings.from_env({name: "service-quotas"}).max_jobs_in_flight == "service-quotas"
    for wrong in ("0", "many"):
        with pytest.raises(ConfigurationError, match=name):
            Settings.from_env({name: wrong})


def test_a_start_that_is_lost_every_time_holds_up_no_other(deployment: Deployment) -> None:
    def lose(request: dict[str, Any]) -> None:
        if request["Video"]["S3Object"]["Name"] == "a.mp4":
            raise ApiFault("InternalServerError", 500)

    deployment.double.on_start = lose
    deployment.set(max_jobs_in_flight=1)
    deployment.discover("a.mp4", "b.mp4", "c.mp4")
    assert deployment.dispatch() == 1
    (job,) = deployment.double.jobs.values()
    assert job["Video"]["S3Object"]["Name"] == "b.mp4"


def test_a_start_whose_answer_is_lost_does_not_exceed_the_quota(deployment: Deployment) -> None:
    lost: list[str] = []

    def lose(request: dict[str, Any]) -> None:
        if not lost:
            lost.append(request["Video"]["S3Object"]["Name"])
            raise ConnectionAbortedError

    deployment.double.on_started = lose
    deployment.set(max_jobs_in_flight=2)
    deployment.discover("a.mp4", "b.mp4", "c.mp4")
    deployment.dispatch()
    assert len(deployment.double.jobs) == 2
    deployment.dispatch()
    assert len(deployment.double.jobs) == 2
    assert str(deployment.tick("job_dispatch").skip_message) == "All 2 jobs are in flight"
    assert deployment.double.calls["StartPersonTracking"] == 3
