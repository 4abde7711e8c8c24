"""Whose fault an error is: the video's, or of what surrounds it."""

from __future__ import annotations

import errno

import av.error
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from sqlalchemy.exc import OperationalError

from rekognition_dagster.errors import ConfigurationError, LakeError, ModelError, VideoError
from rekognition_dagster.service.faults import (
    AROUND,
    ATTEMPT,
    VIDEO,
    GoneError,
    LimitError,
    fault_of,
    is_gone,
    reason_of,
)


def s3(status: int, code: str) -> ClientError:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")  # type: ignore[arg-type]


def caused(error: Exception, cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as first:
            raise error from first
    except Exception as second:
        return second


DATABASE = OperationalError("UPDATE jobs SET secret", {}, Exception("disk I/O error"))


@pytest.mark.parametrize(
    ("error", "kind", "part"),
    [
        (VideoError("s3://b/v.mp4", "is empty"), VIDEO, None),
        # FFmpeg reports these for broken videos, too.
        (caused(VideoError("v", "no"), av.error.FFmpegError(errno.EIO, "x")), VIDEO, None),
        (caused(VideoError("v", "no"), OSError(errno.ENOENT, "x")), VIDEO, None),
        (caused(VideoError("v", "no"), OSError(errno.ENOSPC, "full")), AROUND, "disk"),
        (caused(VideoError("v", "no"), OSError(errno.EMFILE, "files")), AROUND, "disk"),
        (LimitError("it took longer than 1 hour"), ATTEMPT, None),
        (GoneError("S3 no longer has the object"), ATTEMPT, None),
        (ZeroDivisionError("x"), ATTEMPT, None),
        (MemoryError(), ATTEMPT, None),
        (KeyError("x"), ATTEMPT, None),
        (s3(503, "SlowDown"), AROUND, "s3"),
        (s3(500, "InternalError"), AROUND, "s3"),
        (s3(403, "ExpiredToken"), AROUND, "s3"),
        (s3(403, "AccessDenied"), AROUND, None),
        (EndpointConnectionError(endpoint_url="http://10.0.0.1"), AROUND, "s3"),
        (OSError("When uploading part: AWS Error SLOW_DOWN during UploadPart"), AROUND, "s3"),
        (caused(LakeError("no"), OSError("AWS Error ACCESS_DENIED")), AROUND, "s3"),
        (OSError(errno.ENOSPC, "full"), AROUND, "disk"),
        (OSError(errno.EDQUOT, "full"), AROUND, "disk"),
        (caused(LakeError("no"), OSError(errno.EROFS, "read-only")), AROUND, "disk"),
        (OSError(errno.EMFILE, "files"), AROUND, None),
        (DATABASE, AROUND, "database"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), AROUND, None),
        (ModelError("no weights"), AROUND, None),
        (ConfigurationError("no cluster"), AROUND, None),
        (RuntimeError("a device was lost"), AROUND, None),
        (ImportError("x"), AROUND, None),
    ],
    ids=repr,
)
def test_an_error_is_the_videos_or_of_what_surrounds_it(error, kind, part):
    fault = fault_of(error)
    assert (fault.kind, fault.part) == (kind, part)


def test_an_object_is_gone_where_s3_says_so_and_not_where_it_fails():
    assert is_gone(s3(404, "404"))
    assert is_gone(s3(404, "NoSuchKey"))
    assert not is_gone(s3(503, "SlowDown"))
    assert not is_gone(OSError(errno.ENOENT, "x"))


@pytest.mark.parametrize(
    "error",
    [
        DATABASE,
        OSError(errno.ENOSPC, "No space left on device", "/secret/path"),
        caused(
            LakeError("cannot write /secret/path"), OSError(errno.EROFS, "Read-only", "/secret")
        ),
        EndpointConnectionError(endpoint_url="http://secret/path"),
    ],
    ids=repr,
)
def test_reasons_name_no_path_no_address_and_no_statement(error):
    assert "secret" not in reason_of(error)
    assert "secret" not in fault_of(error).text
