"""What others on the machine and on the network learn: nothing from files, logs and pages."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from service.serving import Service, ended, until
from sqlalchemy.exc import SQLAlchemyError

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.private import private_folder
from rekognition_dagster.service import Settings
from rekognition_dagster.service.folders import prepare_scratch, prepare_store, private_files
from rekognition_dagster.service.logs import JsonLines, TextLines
from rekognition_dagster.service.operators import Operators
from rekognition_dagster.service.store import JobStore

GET = b'{"JobId": "x"}'


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_services_user_may_read_its_store(cloud, make_service, tmp_path):
    store = tmp_path / "store"
    service = make_service()
    rekognition = service.client()
    job_id = rekognition.start_person_tracking(Video=cloud.video(rows=10, seconds=1))["JobId"]
    assert mode(store) == 0o700
    ended(rekognition, "person_tracking", job_id)
    paths = [store, *store.rglob("*")]
    assert {p.suffix for p in paths} >= {".sqlite", ".parquet"}
    assert [p for p in paths if mode(p) & 0o077] == []


def test_a_store_of_before_is_closed_to_others_and_a_folder_of_other_files_stays_as_it_is(tmp_path):
    store, home = tmp_path / "store", tmp_path / "home"
    for folder in (store, home):
        (folder / "results").mkdir(parents=True)
        for path in (folder, folder / "results"):
            path.chmod(0o755)
        (folder / "jobs.sqlite").touch(0o644)
    (home / "letter.txt").touch(0o644)
    for folder in (store, home):
        prepare_store(Settings.of(store=str(folder)))
        assert mode(folder / "results") == 0o700
        assert mode(folder / "jobs.sqlite") == 0o600
    assert (mode(store), mode(home), mode(home / "letter.txt")) == (0o700, 0o755, 0o644)


def test_what_is_made_while_it_serves_is_private_and_what_comes_after_is_as_before(tmp_path):
    with private_files():
        (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o600, 0o666 & ~_umask())


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def test_a_folder_in_the_temporary_folder_is_this_users_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = Settings.of(store="postgresql://u@h/d?results=/r")
    folder = prepare_scratch(settings)
    assert folder.parent == tmp_path
    assert str(os.getuid()) in folder.name
    assert mode(folder) == 0o700
    folder.chmod(0o777)
    prepare_scratch(settings)
    assert mode(folder) == 0o700, "a folder that others could enter is closed"
    # To this user the folder is now one that somebody else made first.
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        prepare_scratch(settings)


def test_a_link_of_another_user_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    assert private_folder(link) == link, "one of this user leads where its user wants"
    if os.geteuid() == 0:
        os.lchown(link, 12345, 12345)
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            private_folder(link)


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "x", **fields})
    return made


FORGED = "a.mp4\n2026-01-01T00:00:00.000Z INFO job SUCCEEDED job_id=1\r\x1b[2K\u2028\u202ex"


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_a_name_that_a_caller_chose_forges_no_line_and_no_field(form):
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        made = record(FORGED, video=FORGED, exc_info=(ValueError, error, error.__traceback__))
    text = form.format(made)
    first, *rest = text.splitlines()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert all(line.startswith("    ") for line in rest), rest
    if isinstance(form, JsonLines):
        assert json.loads(first)["video"] == FORGED
        assert not rest


def test_a_value_with_spaces_is_one_field_and_none_takes_the_place_of_the_time():
    text = TextLines().format(record("job FAILED", video='s3://b/a status="ok" x=1', number=3))
    assert text.endswith(' video="s3://b/a status=\\"ok\\" x=1" number=3')
    line = json.loads(JsonLines().format(record("x", time="forged", video="\ud800")))
    assert line["time"] != "forged"


def test_an_error_of_the_database_is_logged_without_what_was_written(tmp_path):
    store = JobStore(f"sqlite:///{tmp_path}/jobs.sqlite")
    with store._write() as connection:
        connection.execute(sa.text("DROP TABLE tokens"))
    request = {"Video": {"S3Object": {"Bucket": "footage", "Name": "the-key.mp4"}}}
    with pytest.raises(SQLAlchemyError) as caught:
        store.add(
            "person_tracking",
            request,
            account="a",
            token="the-token",
            request_hash="the-hash",
            limit=9,
        )
    store.close()
    made = record("failed", exc_info=(caught.type, caught.value, caught.tb))
    for form in (TextLines(), JsonLines()):
        text = form.format(made)
        assert "no such table" in text
        for secret in ("the-token", "the-hash", "the-key"):
            assert secret not in text


def test_strangers_read_whether_it_is_ready_and_no_more(make_service, tmp_path):
    token = tmp_path / "token"
    token.write_text("correct horse\n")
    service = make_service(
        operators="203.0.113.0/24", operator_token=str(token), workers=0, region="eu-west-1"
    )
    assert read(service, "/health") == (200, {"status": "ok"})
    assert read(service, "/ready") == (200, {"status": "ok"})
    assert read(service, "/metrics")[0] == 403
    assert read(service, "/metrics", "Bearer wrong horse")[0] == 403
    for header in ("Bearer correct horse", "bearer  correct horse"):
        assert read(service, "/ready", header)[1]["workers"] == 0
        assert service.page("/metrics", authorization=header).status == 200
    token.write_text("")
    assert read(service, "/metrics", "Bearer ")[0] == 403, "no token is nobody's"
    # A proxy on this host forwards whose request it is.
    near, far = ({"x-forwarded-for": a} for a in ("203.0.113.9", "198.51.100.1"))
    assert service.page("/metrics", **near).status == 200
    assert service.page("/metrics", **far).status == 403


def read(service: Service, path: str, authorization: str = "") -> tuple[int, dict]:
    answer = service.page(path, authorization=authorization)
    return answer.status, answer.json


def test_strangers_do_not_read_why_it_is_not_ready(make_service):
    service = make_service(operators="", min_free_bytes=2**60)
    until(lambda: service.status("/ready") == 503)
    assert read(service, "/ready")[1] == {"status": "unavailable"}


@pytest.mark.parametrize(
    ("operators", "address", "is_one"),
    [
        ("127.0.0.0/8, ::1", "127.0.0.1", True),
        ("127.0.0.0/8, ::1", "::ffff:127.0.0.1", True),
        ("127.0.0.0/8, ::1", "::1", True),
        ("127.0.0.0/8, ::1", "10.0.0.1", False),
        ("10.1.2.3/16", "10.1.9.9", True),
        ("", "127.0.0.1", False),
        ("127.0.0.0/8", "unix:", False),
    ],
)
def test_an_operator_is_known_by_address(operators, address, is_one):
    assert Operators.of(Settings.of(operators=operators)).include(address) is is_one


def test_operators_that_cannot_be_are_refused_at_the_start(tmp_path):
    with pytest.raises(ConfigurationError, match=r"10\.0\.0\.300"):
        Operators.of(Settings.of(operators="10.0.0.300"))
    with pytest.raises(ConfigurationError, match="token"):
        Operators.of(Settings.of(operator_token=str(tmp_path / "none")))
