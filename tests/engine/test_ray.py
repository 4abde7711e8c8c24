"""The work on a real Ray cluster of two nodes: ``make ray`` runs this."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rekognition_dagster.backfill import analyze_many, locate, workers_for
from rekognition_dagster.engine import analyze, open_workers
from rekognition_dagster.errors import ConfigurationError, VideoError
from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import LABEL_DETECTION
from rekognition_dagster.videos import Video

from .conftest import write_video

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="make ray runs this")

LABELS = "label_detection"
SPOT = "ray_detectors:Spot"
SLOW = "ray_detectors:Slow"
ROOM = {"object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def cluster(aws_endpoint):
    """A head without cores, and two nodes of a core each."""
    Cluster = importlib.import_module("ray.cluster_utils").Cluster
    tests = str(Path(__file__).parents[1])  # the nodes' actors import the detectors from there
    os.environ["PYTHONPATH"] = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    os.environ["AWS_ENDPOINT_URL"] = aws_endpoint
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **ROOM}
    )
    for _ in range(2):
        made.add_node(num_cpus=1, **ROOM)
    ray.init(made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two minutes: four spans."""
    path = tmp_path_factory.mktemp("videos") / "video.mp4"
    return write_video(path, range(0, 120_000, 200), gop=20)


def rows_of(path, **how):
    rows = []
    analyze(path, {LABELS: rows.extend}, **{"detector": SPOT, **how})
    return json.dumps(rows)


def test_rows_are_those_of_one_process(cluster, video):
    told: list[float] = []
    with open_workers(ray=cluster.address) as workers:
        assert workers.size == 2
        assert rows_of(video, workers=workers, progress=told.append) == rows_of(video)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_node_that_is_lost_in_mid_work_costs_nothing_but_time(cluster, video):
    begun, lost = threading.Event(), []

    def lose():
        begun.wait(60)
        node = cluster.list_all_nodes()[-1]
        cluster.remove_node(node, allow_graceful=False)
        lost.append(node)

    killer = threading.Thread(target=lose)
    killer.start()
    with open_workers(ray=cluster.address) as workers:
        rows = rows_of(video, detector=SLOW, workers=workers, progress=lambda _: begun.set())
    killer.join()
    cluster.add_node(num_cpus=1, **ROOM)
    assert lost
    assert rows == rows_of(video)


def test_videos_in_s3_are_fetched_by_the_nodes_and_a_bad_one_fails_alone(
    cluster, video, aws, tmp_path, monkeypatch
):
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="films")
    s3.upload_file(str(video), "films", "a.mp4")
    s3.put_object(Bucket="films", Key="b.mp4", Body=b"no video" * 100)
    found = [locate(Video("films", key), s3) for key in ("a.mp4", "b.mp4")]
    todo = [(v, [LABEL_DETECTION]) for v in (*found, locate(Video.from_uri(str(video))))]
    ended = {}
    with workers_for(None, cluster.address) as workers:
        for one, what in analyze_many(
            todo, Lake(tmp_path / "lake"), detector=SPOT, workers=workers
        ):
            if not isinstance(what, float):
                ended[one.uri] = what
    assert ended[found[0].uri] == ended[todo[2][0].uri] == {LABELS: len(json.loads(rows_of(video)))}
    assert "s3://films/b.mp4: is not a video" in str(ended[found[1].uri])


def test_the_services_jobs_are_worked_on_by_the_nodes(cluster, aws, video, tmp_path):
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="reels")
    s3.upload_file(str(video), "reels", "a.mp4")
    with (tmp_path / "log").open("w") as log:
        service = subprocess.Popen(
            [
                *(sys.executable, "-m", "rekognition_dagster.service", "--port", "0", "--no-auth"),
                *("--store", tmp_path / "store", "--ray", cluster.address, "--detector", SPOT),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert service.stdout is not None
            client = aws.client("rekognition", endpoint_url=service.stdout.readline().strip())
            where = {"S3Object": {"Bucket": "reels", "Name": "a.mp4"}}
            job = client.start_label_detection(Video=where)["JobId"]
            deadline = time.monotonic() + 120
            while (told := client.get_label_detection(JobId=job))["JobStatus"] == "IN_PROGRESS":
                assert time.monotonic() < deadline
                time.sleep(0.5)
        finally:
            service.terminate()
            service.wait(60)
    assert told["JobStatus"] == "SUCCEEDED", told
    assert told["Labels"][0]["Timestamp"] == 0
    assert len(told["Labels"]) == len(json.loads(rows_of(video)))


def test_a_file_that_no_node_has_is_told_with_the_remedy(cluster, tmp_path):
    with (
        open_workers(ray=cluster.address) as workers,
        pytest.raises(VideoError, match=r"on the Ray node .* Put it where every node has it"),
    ):
        analyze(tmp_path / "gone.mp4", {LABELS: print}, detector=SPOT, workers=workers)


def test_the_example_analyses_on_a_cluster_and_skips_what_is_done(cluster, video, tmp_path):
    script = Path(__file__).parents[2] / "examples" / "ray" / "archive.py"
    command = [sys.executable, script, "--address", cluster.address, "--lake", tmp_path / "lake"]
    for told in (f"file://{video}: ", ""):
        done = subprocess.run(
            [*command, "--detector", SPOT, video], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(told)
        assert bool(done.stdout) == bool(told)
    with Lake(tmp_path / "lake").connect() as duckdb:
        assert duckdb.sql("SELECT DISTINCT status FROM jobs").fetchall() == [("SUCCEEDED",)]


def test_an_address_where_no_cluster_is_is_told(cluster):
    ray.shutdown()
    try:
        with pytest.raises(ConfigurationError, match="no Ray cluster at 'http://nonsense'"):
            open_workers(ray="http://nonsense")
    finally:
        ray.init(cluster.address, log_to_driver=False)
