"""The command: a wrong setting is one line on standard error, and never a traceback."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta, timezone

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.service import Settings
from rekognition_dagster.service.__main__ import main

LOCKED_KEY = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"


def said(*arguments: str) -> str:
    """What the command says before it refuses to start."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"127.0.0.1:{port}" in said("--port", port, "--store", str(tmp_path))


def test_a_misspelled_setting_in_the_environment_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("REKOGNITION_DAGSTER_DETECTR", "embedded")
    text = said("--port", "0", "--no-auth", "--store", str(tmp_path))
    assert "did you mean REKOGNITION_DAGSTER_DETECTOR?" in text


def test_an_address_that_is_not_ours_is_told(tmp_path):
    assert "203.0.113.1" in said("--host", "203.0.113.1", "--store", str(tmp_path))


def test_no_authentication_beyond_loopback_is_refused(tmp_path):
    text = said("--no-auth", "--host", "0.0.0.0", "--store", str(tmp_path))
    assert "loopback only" in text


def test_a_credentials_file_that_is_not_there_is_told(tmp_path):
    assert "cannot be read" in said("--credentials", str(tmp_path / "x"), "--store", str(tmp_path))


def test_a_store_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot open the job store" in said("--store", str(tmp_path / "file"))


def test_a_detector_that_cannot_work_is_refused_before_the_address_is_printed(tmp_path):
    store = ("--port", "0", "--no-auth", "--store", str(tmp_path))
    assert "unknown detector 'magic'" in said("--detector", "magic", *store)


def test_results_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    text = said("--results", str(tmp_path / "file" / "results"), "--store", str(tmp_path / "store"))
    assert f"results cannot be written to {tmp_path / 'file' / 'results'}" in text


@pytest.mark.parametrize("name", ["nothing.pem", "text.pem", "locked.pem"])
def test_certificates_that_cannot_work_are_refused(tmp_path, name):
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "locked.pem").write_text(LOCKED_KEY)
    files = ("--tls-cert", str(tmp_path / "text.pem"), "--tls-key", str(tmp_path / name))
    assert "Both must be PEM files" in said(*files, "--port", "0", "--store", str(tmp_path / "s"))


def test_a_certificate_that_has_expired_is_refused(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rekognition.internal")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now - timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(private)
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    text = said(*files, "--port", "0", "--store", str(tmp_path / "s"))
    assert "certificate has expired" in text


def test_half_of_tls_is_told(tmp_path):
    assert "key file" in said("--tls-cert", "cert.pem", "--store", str(tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 99999},
        {"workers": -1},
        {"lease_s": 0},
        {"jobs_in_flight": 0},
        {"sample_fps": "often"},
        {"colour": "red"},
        {"region": "mars"},
        {"region": ""},
    ],
)
def test_a_setting_out_of_its_range_is_named(wrong):
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        Settings.of(**wrong)


@pytest.mark.parametrize(
    ("store", "database", "results"),
    [
        ("/data/jobs", "sqlite:////data/jobs/jobs.sqlite", "/data/jobs/results"),
        ("file:///data/jobs", "sqlite:////data/jobs/jobs.sqlite", "/data/jobs/results"),
        ("sqlite:////data/x.db", "sqlite:////data/x.db", "/data/results"),
        ("postgresql://u@h/d?results=s3://b/p", "postgresql://u@h/d", "s3://b/p"),
        (
            "postgresql://u@h/d?sslmode=require&results=/mnt/r",
            "postgresql://u@h/d?sslmode=require",
            "/mnt/r",
        ),
    ],
)
def test_a_store_is_a_folder_or_a_database_with_a_place_for_results(store, database, results):
    settings = Settings.of(store=store)
    assert (settings.database_url, settings.results_url) == (database, results)


@pytest.mark.parametrize("name", ["what?", "%41", "a#b", "a&results=x", "we[i]rd", "a b"])
def test_a_folder_of_any_name_holds_its_own_store(tmp_path, name):
    from rekognition_dagster.service.store import JobStore

    for store in (str(tmp_path / name), f"file://{tmp_path / name}"):
        settings = Settings.of(store=store)
        JobStore(settings.database_url).close()
        assert (tmp_path / name / "jobs.sqlite").is_file()
        assert [p.name for p in tmp_path.iterdir()] == [name]
        assert settings.results_url == str(tmp_path / name / "results")
