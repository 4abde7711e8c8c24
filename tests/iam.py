"""Which calls reach AWS, as IAM sees them; and whether a policy allows them, and no more."""

from __future__ import annotations

import fnmatch
import io
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

POLICIES = Path(__file__).resolve().parents[1] / "examples" / "iam"
REGION, ACCOUNT = "eu-central-1", "123456789012"


@dataclass(frozen=True, order=True)
class Call:
    """One call: its IAM action, and the ARN of what it is on."""

    action: str
    resource: str


@dataclass
class Recorder:
    """Stands before S3, SNS, SQS and IAM on loopback and writes down what is asked of them."""

    url: str = ""
    calls: set[Call] = field(default_factory=set)
    on: bool = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Calls made inside count; those of the test itself are made outside."""
        self.on = True
        yield
        self.on = False

    def before(self, app: Callable[..., Any]) -> Callable[..., Any]:
        """``app`` (a WSGI application), watched."""

        def watched(environ: dict[str, Any], start_response: Any) -> Any:
            if self.on:
                self.calls.add(call(environ))
            return app(environ, start_response)

        return watched


@contextmanager
def recorded_aws() -> Iterator[Recorder]:
    """A recorder over the same AWS as ``aws_endpoint``."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    recorder = Recorder()
    app = recorder.before(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    recorder.url = f"http://127.0.0.1:{server.server_port}"
    yield recorder
    server.shutdown()
    server.server_close()


def call(environ: dict[str, Any]) -> Call:
    """What IAM makes of a request."""
    service = environ["HTTP_AUTHORIZATION"].split("Credential=")[1].split("/")[3]
    if service == "s3":
        return _s3(environ)
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size)
    environ["wsgi.input"] = io.BytesIO(body)
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        operation, members = target.split(".")[1], json.loads(body)
    else:
        members = {k: v[0] for k, v in parse_qs(body.decode()).items()}
        operation = members["Action"]
    return Call(f"{service}:{operation.removesuffix('Batch')}", _arn(service, members))


def _arn(service: str, members: dict[str, Any]) -> str:
    if arn := members.get("TopicArn"):
        return arn
    if role := members.get("RoleName"):
        return f"arn:aws:iam::{ACCOUNT}:role/{role}"
    named = members.get("QueueUrl") or members.get("QueueName") or members.get("Name")
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{named.split('/')[-1]}" if named else "*"


def _s3(environ: dict[str, Any]) -> Call:
    bucket, _, key = unquote(environ["PATH_INFO"]).lstrip("/").partition("/")
    query, method = environ.get("QUERY_STRING", ""), environ["REQUEST_METHOD"]
    arn = f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")
    if not key and "notification" in query:
        verb = "Put" if method == "PUT" else "Get"
        return Call(f"s3:{verb}BucketNotification", arn)
    if not key:
        assert method in ("GET", "HEAD"), f"{method} on a bucket"
        return Call("s3:ListBucket", arn)
    if method == "DELETE":
        return Call("s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject", arn)
    read = "s3:GetObjectVersion" if "versionId" in query else "s3:GetObject"
    return Call(read if method in ("GET", "HEAD") else "s3:PutObject", arn)


def policy(name: str, prefix: str = "") -> list[dict[str, Any]]:
    """The statements of one of the examples; ``prefix`` makes its names a test's own."""
    text = (POLICIES / f"{name}.json").read_text()
    for named in ("my-videos", "my-lake", "cameras-"):
        text = text.replace(named, f"{prefix}{named}")
    return json.loads(text)["Statement"]


def refused(statements: list[dict[str, Any]], calls: Iterable[Call]) -> list[Call]:
    """The calls that a policy does not allow."""
    return sorted(c for c in calls if not any(_allows(s, c) for s in statements))


def idle(statements: list[dict[str, Any]], calls: Iterable[Call]) -> set[str]:
    """What a policy allows and no call needed: ``Sid action``."""
    made = list(calls)
    return {
        f"{s['Sid']} {action}"
        for s in statements
        for action in listed(s["Action"])
        if not any(_allows({**s, "Action": action}, c) for c in made)
    }


def _allows(statement: dict[str, Any], made: Call) -> bool:
    assert statement["Effect"] == "Allow"
    return any(made.action == a for a in listed(statement["Action"])) and any(
        re.fullmatch(fnmatch.translate(r), made.resource) for r in listed(statement["Resource"])
    )


def listed(value: str | list[str]) -> list[str]:
    """One or several, as a list."""
    return [value] if isinstance(value, str) else value
