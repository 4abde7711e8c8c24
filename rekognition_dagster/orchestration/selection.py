"""Which videos a run is about: those of its partitions, or those that its config names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg
from pydantic import Field

from rekognition_dagster.orchestration.names import FAILURE, LAUNCHED_TAG
from rekognition_dagster.orchestration.standing import Board, Books, Phase, Standing
from rekognition_dagster.videos import Video

_RUNS_OF_THEIR_OWN = 3


class VideosConfig(dg.Config):
    """Narrows a run to some videos, or names those that it is for."""

    videos: list[str] = Field(
        default=[],
        description="Only these, whichever partitions the run was launched for: s3://bucket/key, or"
        " bucket/key as in a partition key. All videos of the partitions by default.",
    )


def selected(
    context: dg.AssetExecutionContext, config: VideosConfig, board: Board, *phases: Phase
) -> Iterator[Standing]:
    """Where the videos of a run stand, the first discovered first.

    Args:
        context: The run.
        config: Its config.
        board: Of the run's operation.
        phases: Only videos in these phases, where the config names none.

    Raises:
        Failure: A named video is not known.
    """
    named = named_videos(config)
    partitions = selected_partitions(context, named, board.books)
    if not named:
        yield from board.find(*phases, partitions=partitions)
        return
    missing = dict.fromkeys(named)
    for standing in board.find(partitions=partitions):
        if standing.video.partition_key in missing:
            del missing[standing.video.partition_key]
            yield standing
    if missing:
        raise dg.Failure(
            f"{len(missing)} videos are not known in these partitions: "
            f"{', '.join(list(missing)[:20])}. The sensor video_discovery finds what is in the "
            "bucket",
            allow_retries=False,
        )


def named_videos(config: VideosConfig) -> list[str]:
    """The videos that a config names, as their own partition keys."""
    return [_video(text).partition_key for text in config.videos]


def selected_partitions(
    context: dg.AssetExecutionContext, named: Sequence[str], books: Books
) -> Sequence[str]:
    """The partitions of the videos that a run's config names; the run's own where it names none."""
    if not named:
        return context.partition_keys
    videos = (Video.from_partition_key(key) for key in named)
    return list(dict.fromkeys(books.partition_of(v) for v in videos))


def _video(text: str) -> Video:
    try:
        return Video.from_uri(text) if "://" in text else Video.from_partition_key(text)
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def shown_to_fail(
    books: Books, asset: dg.AssetsDefinition, videos: Sequence[Video]
) -> Iterator[dg.RunRequest]:
    """Runs of an asset that ask once more for what cannot be, and fail with the reasons: one for
    each partition, which so turns red, or one for all where they are many."""
    by_partition: dict[str, list[Video]] = {}
    for video in videos:
        by_partition.setdefault(books.partition_of(video), []).append(video)
    if len(by_partition) > _RUNS_OF_THEIR_OWN:
        by_partition = {next(iter(by_partition)): list(videos)}
    for partition, ours in by_partition.items():
        named = {"videos": [v.partition_key for v in ours]}
        yield dg.RunRequest(
            asset_selection=[asset.key],
            partition_key=partition,
            run_config={"ops": {asset.op.name: {"config": named}}},
            tags={LAUNCHED_TAG: FAILURE},
        )
