"""Peak memory and time of a job's rows in the order INDEX, which they do not come in.

Rows come by time, with several people in view and a face for every fifth, as the engine makes them;
the file is sorted when the last one is written.

    python -m benchmarks.sorting [--rows 5000000] [--people 5]
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rekognition_dagster.lake import TABLES, Storage, TableWriter

PERSONS = TABLES["person_detections"].schema
_BATCH = 10_000
_INDEX = ("person_index", "unsureness", "timestamp_ms")
_SCHEMA = PERSONS.append(pa.field("unsureness", pa.float32()))


@functools.cache
def _faces() -> pa.Array:
    face = {
        "bounding_box": {"left": 0.1, "top": 0.2, "width": 0.1, "height": 0.2},
        "confidence": 99.0,
        "landmarks": [{"type": t, "x": 0.1, "y": 0.2} for t in ("eyeLeft", "eyeRight", "nose")],
        "pose": {"roll": 1.0, "yaw": 2.0, "pitch": 3.0},
    }
    rows = [face if i % 5 == 0 else None for i in range(_BATCH)]
    return pa.array(rows, PERSONS.field("face").type)


def _batch(first: int, people: int, dice: np.random.Generator) -> pa.Table:
    """Rows ``first`` and following: numbers at random, faces like the engine's."""
    n = _BATCH
    faces = _faces()
    box = PERSONS.field("bounding_box").type
    sides = [pa.array(dice.random(n).astype(np.float32)) for _ in box]
    confidence = (50 + 50 * dice.random(n)).astype(np.float32)
    columns = {
        "video": pa.repeat(pa.scalar("s3://cameras/lobby.mp4"), n),
        "job_id": pa.repeat(pa.scalar("a" * 64), n),
        "timestamp_ms": pa.array((first + np.arange(n)) // people * 40),
        "person_index": pa.array((first + np.arange(n)) % people),
        "bounding_box": pa.StructArray.from_arrays(sides, fields=list(box)),
        "confidence": pa.array(confidence),
        "face": faces,
        "unsureness": pa.array(-confidence),
    }
    nulls = {f.name: pa.nulls(n, f.type) for f in _SCHEMA if f.name not in columns}
    return pa.table({**columns, **nulls}).select(_SCHEMA.names).cast(_SCHEMA)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write and sort, and say what that took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--people", type=int, default=5)
    chosen = parser.parse_args()
    dice = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        began = time.perf_counter()
        storage = Storage.at(f"{folder}/results")
        with TableWriter(storage, "index.parquet", _SCHEMA, _INDEX, row_group_rows=4096) as writer:
            for first in range(0, chosen.rows, _BATCH):
                writer.write(_batch(first, chosen.people, dice))
            before, written = _peak_mb(), time.perf_counter()
        sorted_at = time.perf_counter()
        rows = pq.read_metadata(f"{folder}/results/index.parquet").num_rows
        print(
            f"{rows:,} rows: peak {_peak_mb():,.0f} MB ({before:,.0f} MB before the sort), "
            f"written in {written - began:.0f} s, sorted in {sorted_at - written:.0f} s; "
            f"left in the working directory: {sorted(set(os.listdir()) - {'results'})}"
        )


if __name__ == "__main__":
    main()
