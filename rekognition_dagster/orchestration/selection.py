"""Which videos a run is for: those of its partitions, or those that its config names."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from rekognition_dagster.state import State
from rekognition_dagster.state.results import keys_in
from rekognition_dagster.state.videos import known
from rekognition_dagster.videos import Video


class VideosConfig(dg.Config):
    """Narrows a run to some videos, or names those that it is for."""

    videos: list[str] = Field(
        default=[],
        description="Only these, whichever partitions the run was launched for: s3://bucket/key, or"
        " bucket/key as in a partition key. All videos of the partitions by default.",
    )


class JobConfig(VideosConfig):
    """Which jobs to ask for."""

    again: bool = Field(
        default=False,
        description="Start a new job also for those of several videos that are analysed. A single"
        " video that is named, or has a partition of its own, always gets a new job.",
    )


def selected(context: dg.AssetExecutionContext, config: VideosConfig, state: State) -> list[str]:
    """Keys of the videos of a run, the first discovered first.

    Raises:
        Failure: A named video, or a partition of the run, is not known.
    """
    if config.videos:
        keys = [_video(text).partition_key for text in config.videos]
        with state.read() as connection:
            there = known(connection, keys)
        missing = [k for k in keys if k not in there]
    else:
        partitions = list(context.partition_keys)
        with state.read() as connection:
            keys = keys_in(connection, partitions)
            missing = [p for p in partitions if not keys_in(connection, [p])] if not keys else []
    if missing:
        raise unknown(missing)
    return keys


def unknown(missing: Sequence[str]) -> dg.Failure:
    """The failure of a run for videos that the pipeline does not know."""
    return dg.Failure(
        f"videos that are not known ({len(missing)}): {', '.join(missing[:20])}. The sensor "
        "video_discovery finds what is in the bucket, under the configured prefix",
        allow_retries=False,
    )


def _video(text: str) -> Video:
    try:
        return Video.from_uri(text) if "://" in text else Video.from_partition_key(text)
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def failure(what: str, total: int, reasons: dict[str, str]) -> dg.Failure:
    """The failure of a run in which some videos failed; the others are done."""
    return dg.Failure(
        f"{len(reasons)} of {total} videos {what}: " + "; ".join(list(reasons.values())[:20]),
        metadata=dict(list(reasons.items())[:50]),
        allow_retries=False,
    )
