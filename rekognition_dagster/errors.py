"""The few error types that users of rekognition-dagster meet.

Every message says what happened, to which video, and what to do about it. Anything else that
escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rekognition_dagster.engine.metadata import VideoMetadata


class RekognitionDagsterError(Exception):
    """Base of all errors that this package raises on purpose; its text is meant for people."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors go from one process to another, whatever their constructors take."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[Exception], args: tuple[Any, ...], facts: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class ConfigurationError(RekognitionDagsterError):
    """A setting is missing or wrong; nothing was started."""


class AccessError(ConfigurationError):
    """AWS refused these credentials, this region or this signature: no video is at fault."""


class VideoError(RekognitionDagsterError):
    """One video cannot be analysed (missing, empty, corrupt, not a video).

    Args:
        video: The video's URI, or its path, as the user knows it.
        reason: What is wrong with it.
        remedy: What the user can do, as one imperative sentence.
        rows_kept: Rows that had been produced before the video turned out to be bad.
        metadata: What is known of the video beside these rows.
    """

    def __init__(
        self,
        video: str,
        reason: str,
        remedy: str = "",
        rows_kept: int = 0,
        metadata: VideoMetadata | None = None,
    ):
        self.video, self.reason, self.remedy = video, reason, remedy
        self.rows_kept, self.metadata = rows_kept, metadata
        super().__init__(
            ": ".join(filter(None, (video, reason))) + (f". {remedy}" if remedy else "")
        )


class ModelError(RekognitionDagsterError):
    """A detector cannot be had: unknown spec, missing file, wrong hash, extra not installed."""


class OutputError(RekognitionDagsterError):
    """A file that a command was to write cannot be written: no permission, disk full."""


class LakeError(RekognitionDagsterError):
    """The lake cannot be read or written: no permission, disk full, wrong address."""


class DamagedFileError(LakeError):
    """A file of the lake is damaged, so its video was left out; everything else was done."""


class ApiError(VideoError):
    """The Rekognition API refused or failed a call about one video.

    Args:
        code: AWS's error code, e.g. ``InvalidS3ObjectException``, or a job's status.
    """

    def __init__(self, video: str, reason: str, remedy: str = "", *, code: str):
        super().__init__(video, reason, remedy)
        self.code = code


class TransientError(ApiError):
    """Ask again at once: the call was lost, or the service stumbled."""


class UnansweredError(TransientError):
    """The call was sent and no answer came: the service may have done it."""


class DelayedError(ApiError):
    """Ask again later: a quota or a rate is used up, or the job still runs. Nothing is wrong."""


class JobFailedError(ApiError):
    """The job ended as FAILED; the text has its StatusMessage.

    Args:
        backend: What did the work and its version, where the endpoint reports them.
    """

    def __init__(
        self,
        video: str,
        reason: str,
        remedy: str = "",
        *,
        code: str,
        backend: tuple[str | None, str | None] = (None, None),
    ):
        super().__init__(video, reason, remedy, code=code)
        self.backend = backend


class JobExpiredError(ApiError):
    """The service no longer knows the job: results live 7 days."""
