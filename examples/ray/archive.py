"""An archive on a Ray cluster: every video that is named, into a lake, from one command.

    ray start --head --disable-usage-stats --include-dashboard=false     # on the first machine
    ray start --address=FIRST:6379 --disable-usage-stats                 # on each of the others
    python examples/ray/archive.py --address auto --lake s3://lake s3://cameras/2026/gate.mp4 ...

Without a cluster, ``--address local`` makes one of this machine's cores. The videos are objects in
S3, or files that every node has under the same path. What is done already is skipped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from rekognition_dagster.backfill import analyze_many, backend_name, is_done, locate, workers_for
from rekognition_dagster.errors import VideoError
from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import LABEL_DETECTION, PERSON_TRACKING, Operation
from rekognition_dagster.videos import Video

OPERATIONS = (PERSON_TRACKING, LABEL_DETECTION)


def main() -> int:
    """Analyse the videos; the number of those that could not be is the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--address", default="auto")
    parser.add_argument("--lake", default="lake")
    parser.add_argument("--detector")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    asked = parser.parse_args()
    lake = Lake(asked.lake)

    def todo() -> Iterator[tuple[Video, list[Operation]]]:
        for uri in asked.videos:
            video = locate(Video.from_uri(uri))
            names = {o: backend_name(o, asked.detector) for o in OPERATIONS}
            if left := [o for o in OPERATIONS if not is_done(video, o, lake, names[o])]:
                yield video, left

    bad = 0
    with workers_for(None, asked.address, asked.detector) as workers:
        for video, told in analyze_many(todo(), lake, detector=asked.detector, workers=workers):
            if isinstance(told, VideoError):
                bad += 1
                print(f"error: {told}", file=sys.stderr)
            elif isinstance(told, dict):
                print(f"{video.uri}: {told}")
    return min(bad, 100)


if __name__ == "__main__":
    sys.exit(main())
