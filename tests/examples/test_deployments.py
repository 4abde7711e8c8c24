"""The deployment examples: their files are what they claim to be, and their commands run."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import kubernetes.client
import pytest
import yaml
from compose_spec import PyCompose
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from deployment import put_videos
from postgresql import Cluster

from rekognition_dagster import Settings
from rekognition_dagster.api import provision
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.stack.processes import Process

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
COMPOSE = EXAMPLES / "compose"
KUBERNETES = EXAMPLES / "kubernetes"
PROGRAMS = Path(sys.executable).parent


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def variables(path: Path) -> dict[str, str]:
    """The settings in an environment file."""
    lines = (line for line in path.read_text().splitlines() if "=" in line and line[0] != "#")
    return dict(line.split("=", 1) for line in lines)


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """A compose file's text with its variables filled in, as docker compose does."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        given = environment.get(match["name"], "" if match["how"] == "-" else None)
        if match["name"] not in environment or (match["how"] in (":-", ":?") and not given):
            assert match["how"] != ":?", f"{match['name']} is required"
            return match["default"] or ""
        return given or ""

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?:(?P<how>:-|-|:\?)(?P<default>[^}]*))?\}", value, text)


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    text = (COMPOSE / "compose.yaml").read_text()
    return yaml.safe_load(interpolated(text, environment))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(condition: Callable[[], Any], what: str, processes: list[Process]) -> Any:
    """What ``condition`` answers once that is true."""
    end = time.monotonic() + 150
    while not (found := condition()):
        for process in processes:
            assert process.is_running, f"{process.name} ended: {process.log.read_text()[-3000:]}"
        said = "\n".join(f"{p.name}: {p.log.read_text()[-2000:]}" for p in processes)
        assert time.monotonic() < end, f"{what} did not happen. {said}"
        time.sleep(0.2)
    return found


def loaded_locations(port: int) -> list[str]:
    """Code locations that the web server has loaded without an error."""
    query = """{workspaceOrError {... on Workspace {locationEntries {
        name locationOrLoadError {__typename}}}}}"""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            entries = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
    except OSError:
        return []
    return [
        e["name"]
        for e in entries
        if (e["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
    ]


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes of the test, stopped when it is over."""
    processes: list[Process] = []
    yield processes
    for process in reversed(processes):
        process.stop()


@pytest.fixture
def settings(aws: boto3.Session, bucket: str, unique: str, tmp_path: Path) -> dict[str, str]:
    """A deployment's variables, over the loopback's own queue."""
    return {
        **{k: v for k, v in os.environ.items() if k.startswith("AWS_")},
        **provision(aws, unique).environment(),
        "REKOGNITION_DAGSTER_NAME": unique,
        "REKOGNITION_DAGSTER_BUCKET": bucket,
        "REKOGNITION_DAGSTER_PREFIX": "",
        "REKOGNITION_DAGSTER_LAKE": str(tmp_path / "lake"),
        "REKOGNITION_DAGSTER_OPERATIONS": "person-tracking",
        "REKOGNITION_DAGSTER_SENSOR_INTERVAL": "2",
    }


def bare_environment() -> dict[str, str]:
    """This process's environment without a deployment's settings."""
    return {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("AWS_", "DAGSTER_", "REKOGNITION_DAGSTER_"))
    }


# -- one host -------------------------------------------------------------------------------------


def test_one_host_finds_a_video(
    settings: dict[str, str], bucket: str, tmp_path: Path, started: list[Process]
) -> None:
    home, folder = tmp_path / "dagster", tmp_path / "project"
    home.mkdir()
    folder.mkdir()
    shutil.copy(EXAMPLES / "one-host" / "dagster.yaml", home)
    written = variables(EXAMPLES / "one-host" / "settings.env") | settings
    (folder / ".env").write_text("".join(f"{k}={v}\n" for k, v in written.items()))
    put_videos(bucket, "a.mp4")
    port = free_port()
    command = [
        str(PROGRAMS / "dagster"),
        *("dev", "--module-name", "rekognition_dagster.definitions", "--port", str(port)),
    ]
    env = {**bare_environment(), "DAGSTER_HOME": str(home)}
    shell = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]
    started.append(Process("dagster dev", shell, env=env, log=tmp_path / "dev.log", grace_s=1))
    until(lambda: loaded_locations(port), "loading", started)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        name = str(Deployment(Settings.from_env(written)).partitions.name)
        until(lambda: instance.get_dynamic_partitions(name), "discovery", started)
        assert instance.get_dynamic_partitions(name) == [f"{bucket}/a.mp4"]


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*/settings.env")), ids=lambda p: p.parent.name
)
def test_settings_files_say_what_the_pipeline_understands(path: Path) -> None:
    said = variables(path)
    prefix = "REKOGNITION_DAGSTER_"
    known = {prefix + name.upper() for name in Settings.model_fields}
    assert {name for name in said if name.startswith(prefix)} <= known
    assert Settings.from_env(said).bucket == "my-videos"


# -- docker compose -------------------------------------------------------------------------------


def test_the_compose_file_is_one() -> None:
    document = compose(variables(COMPOSE / "settings.env"))
    read = PyCompose.from_json(json.dumps(document))
    assert read.service_names() == ["postgres", "code", "daemon", "webserver", "rekognition"]
    volumes = [v for s in document["services"].values() for v in s["volumes"]]
    for source in {v.split(":")[0] for v in volumes}:
        assert (COMPOSE / source).is_file() if source[0] == "." else source in document["volumes"]
    for service in document["services"].values():
        assert set(service.get("depends_on", {})) <= set(document["services"])


def test_the_services_of_the_compose_file_work_together(
    settings: dict[str, str],
    bucket: str,
    unique: str,
    postgres: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: list[Process],
) -> None:
    """A video that is none: found, started, refused by the engine, announced, and known to be."""
    postgres.create(unique)
    home, ports = tmp_path / "dagster", {p: free_port() for p in (3000, 4000, 8722)}
    home.mkdir()
    settings |= {
        "AWS_ENDPOINT_URL_REKOGNITION": f"http://127.0.0.1:{ports[8722]}",
        "DAGSTER_POSTGRES_USER": "tests",
        "DAGSTER_POSTGRES_DB": unique,
    }
    here = {
        "DAGSTER_POSTGRES_HOST": "127.0.0.1",
        "DAGSTER_POSTGRES_PORT": str(postgres.port),
        "DAGSTER_HOME": str(home),
    }

    def on_this_machine(text: str) -> str:
        for there, path in {"/opt/dagster": home, "/var/lib": tmp_path, "/lake": tmp_path}.items():
            text = text.replace(there, str(path))
        text = text.replace("@postgres:5432", f"@127.0.0.1:{postgres.port}")
        for port, free in ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return {"dagster": f"{PROGRAMS}/dagster", "python": sys.executable}.get(
            text, text.replace("0.0.0.0", "127.0.0.1")
        )

    for name in ("dagster.yaml", "workspace.yaml"):
        text = (COMPOSE / name).read_text().replace("host: code", "host: 127.0.0.1")
        (home / name).write_text(on_this_machine(text))
    given = variables(COMPOSE / "settings.env") | settings
    services = compose(given)["services"]

    def start(name: str) -> None:
        said = {k: on_this_machine(v) for k, v in services[name].get("environment", {}).items()}
        command = [on_this_machine(a) for a in services[name]["command"]]
        if "/" not in command[0]:
            command[0] = str(PROGRAMS / command[0])
        env = {**bare_environment(), **given, **said, **here}
        shell = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(ROOT), *command]
        started.append(Process(name, shell, env=env, log=tmp_path / f"{name}.log", grace_s=1))

    def healthy(name: str) -> bool:
        _, *command = (on_this_machine(a) for a in services[name]["healthcheck"]["test"])
        done = subprocess.run(command, capture_output=True, check=False, env=bare_environment())
        return done.returncode == 0

    for name in ("code", "rekognition"):
        start(name)
    for name in ("code", "rekognition"):
        until(lambda name=name: healthy(name), f"the health of {name}", started)
    for name in ("daemon", "webserver"):
        start(name)
    put_videos(bucket, "a.mp4")
    until(lambda: loaded_locations(ports[3000]), "loading", started)
    for name, value in {**settings, **here, "DAGSTER_POSTGRES_PASSWORD": "x"}.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        key = dg.AssetKey("person_tracking_completion")
        completion = until(
            lambda: instance.get_latest_materialization_event(key), "a completion", started
        )
        assert completion.asset_materialization.partition == f"{bucket}/a.mp4"
        assert completion.asset_materialization.metadata["status"].value == "FAILED"
        assert type(instance.run_storage).__name__ == "PostgresRunStorage"


# -- Kubernetes -----------------------------------------------------------------------------------

_KINDS = {
    "Deployment": kubernetes.client.V1Deployment,
    "Service": kubernetes.client.V1Service,
    "ConfigMap": kubernetes.client.V1ConfigMap,
    "Secret": kubernetes.client.V1Secret,
    "PodDisruptionBudget": kubernetes.client.V1PodDisruptionBudget,
}


@pytest.mark.parametrize("name", ["rekognition.yaml", "settings.yaml"])
def test_kubernetes_objects_are_what_they_claim_to_be(name: str) -> None:
    for document in documents(KUBERNETES / name):
        kind = _KINDS[document["kind"]]
        k8s_model_from_dict(kind, k8s_snake_case_dict(kind, document))


def test_the_service_of_kubernetes_is_started_with_options_that_there_are() -> None:
    from rekognition_dagster.service.__main__ import main

    deployment, *_ = documents(KUBERNETES / "rekognition.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][-1] == main.callback.__module__.removesuffix(".__main__")  # type: ignore[union-attr]
    options = main.make_context("service", list(container["args"])).params
    assert options["port"] == container["ports"][0]["containerPort"]
    assert pod["terminationGracePeriodSeconds"] > 25, "workers get --drain-s seconds"


def test_the_settings_of_kubernetes_are_what_the_pipeline_and_the_chart_read() -> None:
    config, settings, postgresql = documents(KUBERNETES / "settings.yaml")
    values = yaml.safe_load((KUBERNETES / "dagster-values.yaml").read_text())
    assert Settings.from_env(config["data"]).lake.startswith("s3://"), "pods share no disk"
    assert values["global"]["postgresqlSecretName"] == postgresql["metadata"]["name"]
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert code["envConfigMaps"] == [{"name": config["metadata"]["name"]}]
    assert code["envSecrets"] == [{"name": settings["metadata"]["name"]}]
    _, service, _ = documents(KUBERNETES / "rekognition.yaml")
    where = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert config["data"]["AWS_ENDPOINT_URL_REKOGNITION"] == where


def test_the_values_make_an_instance_that_dagster_accepts(tmp_path: Path) -> None:
    """The chart renders these values into a dagster.yaml; what of it is ours is loaded here."""
    values = yaml.safe_load((KUBERNETES / "dagster-values.yaml").read_text())
    daemon, launcher = values["dagsterDaemon"], values["runLauncher"]
    k8s = launcher["config"][launcher["type"][0].lower() + launcher["type"][1:]]
    instance = {
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": {"max_concurrent_runs": 10},
        },
        "run_launcher": {
            "module": "dagster_k8s",
            "class": launcher["type"],
            "config": {
                "load_incluster_config": False,
                "service_account_name": "dagster",
                "dagster_home": "/opt/dagster/dagster_home",
                "instance_config_map": "dagster-instance",
                "job_image": "rekognition-dagster:0.1.0",
                "image_pull_policy": k8s["imagePullPolicy"],
                "resources": k8s["resources"],
                "run_k8s_config": snake_case(k8s["runK8sConfig"]),
            },
        },
        "sensors": snake_case(daemon["sensors"]),
        "schedules": snake_case(daemon["schedules"]),
        "run_monitoring": snake_case(daemon["runMonitoring"]),
        "telemetry": values["telemetry"],
        "retention": {k: snake_case(values["retention"][k]) for k in ("sensor", "schedule")},
        **values["additionalInstanceConfig"],
    }
    assert not daemon["runRetries"]["enabled"], "else the chart writes run_retries a second time"
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(instance))
    with dg.DagsterInstance.from_config(str(tmp_path)) as read:
        assert read.run_retries_enabled
        assert not read.get_settings("run_retries")["retry_on_asset_or_op_failure"]
        assert read.run_monitoring_enabled
        assert read.get_settings("retention")["sensor"]["purge_after_days"]["skipped"] == 2


def snake_case(value: Any) -> Any:
    """Keys as dagster.yaml has them, from the chart's camelCase, one level deep."""
    return {re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), k): v for k, v in value.items()}


# -- the image ------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M))
    return [(w, rest) for w, _, rest in (line.partition(" ") for line in text.splitlines()) if w]


def test_the_image_copies_what_there_is_and_installs_what_is_offered() -> None:
    said = instructions()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for sources in (rest.split()[:-1] for word, rest in said if word == "COPY"):
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    (installed,) = (r for w, r in said if w == "RUN" and r.startswith("pip install"))
    extras = set(re.findall(r"\[([\w,]+)\]", installed)[0].split(","))
    project = (ROOT / "pyproject.toml").read_text()
    offered = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    assert extras <= set(re.findall(r"^(\w+) = ", offered, re.M))
    (command,) = (ast.literal_eval(r) for w, r in said if w == "CMD")
    assert command[:3] == ["python", "-m", "rekognition_dagster.service"]
