"""How commands end: one line for a user's mistake, the exit status, and what AWS errors mean."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from rekognition_dagster.environment import check_environment
from rekognition_dagster.errors import RekognitionDagsterError

_BARE_GROUP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


class Commands(click.Group):
    """A group whose commands end a user's mistake with one line instead of a traceback."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line; every message about a failure begins with ``error:``."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        try:
            sys.exit(super().main(*args, standalone_mode=False, **extra) or 0)
        except _BARE_GROUP as error:  # a group without a command shows its help
            click.echo(error.format_message())
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _print_mistake(error)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("error: interrupted", err=True)
            sys.exit(INTERRUPTED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; end its errors with one line."""
        try:
            if not {"-h", "--help"}.intersection(ctx.args):
                check_environment()
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except RekognitionDagsterError as error:
            fail(str(error))
        except BrokenPipeError:  # the reader has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - flushed by Python at its end
            sys.exit(1)
        except OSError as error:
            fail(str(_earlier(error) or error))
        except Exception as error:
            if (text := _aws_mistake(error)) is None:
                raise
            fail(text)


def fail(text: str | None) -> NoReturn:
    """Print the error, if there is one, and exit with status 1."""
    if text:
        click.echo(f"error: {text}", err=True)
    sys.exit(1)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: what it started is stopped first."""

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_mistake(error: click.ClickException) -> None:
    text = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        end = "" if text.endswith("?") else "."
        text = f"{text}{end} See {context.command_path} --help"
    click.echo(f"error: {text}", err=True)


def _earlier(error: BaseException | None) -> RekognitionDagsterError | None:
    """The error of ours that this one followed: closing a file on a full disk fails once more."""
    while error is not None and not isinstance(error, RekognitionDagsterError):
        error = error.__context__
    return error


def _aws_mistake(error: Exception) -> str | None:
    """The message for an error from the AWS SDK; None for any other error."""
    if not type(error).__module__.startswith(("botocore", "boto3")) and not (
        isinstance(error, ValueError) and str(error).startswith("Invalid endpoint")
    ):
        return None
    from botocore import exceptions as aws

    return f"{str(error).rstrip('.')}. {_aws_remedy(error, aws)}"


def _aws_remedy(error: Any, aws: Any) -> str:
    if isinstance(error, aws.ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        if code == "NoSuchBucket":
            return "Check the bucket's name and the region"
        if any(word in code for word in ("Token", "Signature", "Authentication", "AccessKey")):
            return "Check the AWS credentials (and that the clock is right)"
        return "Check that these credentials may do this, and the region"
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    reached = (aws.ConnectionError, aws.HTTPClientError, ValueError)
    remedies = {
        (aws.NoCredentialsError, aws.PartialCredentialsError): (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ),
        (aws.ProfileNotFound,): "Check AWS_PROFILE",
        (aws.NoRegionError,): "Set AWS_REGION",
        reached: f"AWS_ENDPOINT_URL is {endpoint}" if endpoint else "Check the network",
    }
    for kinds, remedy in remedies.items():
        if isinstance(error, kinds):
            return remedy
    return "Check the AWS settings"
