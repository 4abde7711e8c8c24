"""Whether a fault is the video's or of what surrounds it: the one place that decides.

Only what is wrong with the video ends its job early. Everything else delays it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rekognition_dagster.errors import RekognitionDagsterError, VideoError

Part: TypeAlias = Literal["disk", "s3", "database"]
"""What a service needs around it, each of which can be at fault for all jobs at once."""

VIDEO, ATTEMPT, AROUND = "video", "attempt", "around"


@dataclass(frozen=True)
class Fault:
    """What stopped an attempt at a job.

    Args:
        kind: VIDEO ends the job; ATTEMPT counts, and the last one ends it; AROUND delays it.
        text: The reason, for the caller of the API: no path and no address of the server. A whole
            message for VIDEO, a clause otherwise.
        part: What is at fault for other jobs, too.
    """

    kind: Literal["video", "attempt", "around"]
    text: str
    part: Part | None = None


class LimitError(Exception):
    """An attempt exceeded a limit of the service; its text is a clause about the analysis."""


class GoneError(Exception):
    """S3 no longer has the object; the text is a clause that says so."""


_DISK = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
        *(errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.ESTALE),
    }
)
# What a file system can do to the file that FFmpeg reads, and a bad video cannot do: FFmpeg itself
# reports EIO, ENOMEM and ENOENT for some of those.
_NEVER_A_VIDEOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE}
)
_BROKEN = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, TypeError)
_S3_CREDENTIALS = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken"),
        *("RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired"),
    }
)
_S3_LOAD = frozenset({"RequestTimeout", "SlowDown", "Throttling", "TooManyRequestsException"})
_S3_MISSING = frozenset({"404", "NoSuchBucket", "NoSuchKey", "NoSuchVersion"})

_PARTS: dict[Part, str] = {
    "disk": "the service has no space, or cannot write, where it keeps videos and results",
    "s3": "S3 did not serve the service",
    "database": "the service's database did not work",
}


def fault_of(error: BaseException) -> Fault:
    """Return whose fault an error of an attempt is; by default it is of the surroundings."""
    if isinstance(error, VideoError):
        return _of_video(error)
    if isinstance(error, (GoneError, LimitError)):
        return Fault(ATTEMPT, str(error))
    if part := part_of(error):
        return around(part)
    if isinstance(error, RekognitionDagsterError):  # a detector or a setting that stopped working
        return Fault(AROUND, "the service is not set up to analyse it")
    if isinstance(error, (*_BROKEN, ValueError)) or _is_of_library(error):
        return Fault(ATTEMPT, f"it ended with {type(error).__name__}")
    return Fault(AROUND, f"the service failed ({reason_of(error)})")


def around(part: Part) -> Fault:
    """Return the fault of one part of the surroundings."""
    return Fault(AROUND, _PARTS[part], part)


def part_of(error: BaseException) -> Part | None:
    """Return which part of the surroundings an error shows to be at fault."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from sqlalchemy.exc import SQLAlchemyError

    for cause in _causes(error):
        if isinstance(cause, ClientError):
            return "s3" if _is_of_all_s3(cause) else None
        if isinstance(cause, (BotoCoreError, Boto3Error)):
            return "s3"
        if isinstance(cause, SQLAlchemyError):
            return "database"
        if isinstance(cause, OSError):
            if "AWS Error" in str(cause):  # of Arrow, which reports S3's errors as OSError
                return "s3"
            if cause.errno in _DISK:
                return "disk"
    return None


def reason_of(error: BaseException) -> str:
    """Return why a part is at fault, for operators: no path, no address, no video, no statement."""
    from botocore.exceptions import ClientError, HTTPClientError

    for cause in _causes(error):
        if isinstance(cause, ClientError):
            return f"{_code(cause)} from S3"
        if isinstance(cause, HTTPClientError):
            return f"S3 does not respond ({type(cause).__name__})"
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return cause.strerror
    return type(error).__name__


def is_gone(error: BaseException) -> bool:
    """Whether S3 says that there is no such object."""
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError) and _code(error) in _S3_MISSING


def _of_video(error: VideoError) -> Fault:
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _NEVER_A_VIDEOS:
            return around("disk")
    return Fault(VIDEO, str(error))


def _is_of_all_s3(error: object) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)  # type: ignore[attr-defined]
    return status >= 500 or status == 429 or _code(error) in _S3_CREDENTIALS | _S3_LOAD


def _code(error: object) -> str:
    return str(error.response.get("Error", {}).get("Code"))  # type: ignore[attr-defined]


def _is_of_library(error: BaseException) -> bool:
    """Whether OpenCV or FFmpeg refused what it was given."""
    return type(error).__module__.split(".")[0] in ("cv2", "av")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
