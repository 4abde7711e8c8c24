"""Every command, query, program and configuration that the pages and ``--help`` show is run.

Each page is followed from beginning to end in a folder of its own, in one shell, with AWS on
loopback. Shown output is compared; `make docs-write` writes the outputs back.
"""

from __future__ import annotations

import os
import re
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import yaml
from docs_shell import Shell
from documents import PAGES, ROOT, Block, Command, blocks, differences, help_block, write_back

from rekognition_dagster import Lake, RekognitionVideoComponent, Settings, build_definitions
from rekognition_dagster.cli import main

WRITE = os.environ.get("REKOGNITION_DAGSTER_TEST_DOCS") == "write"

NOT_RUN = {
    r"make (demo|dev|test|build|chaos)|source .venv|python3 -m venv|pip install": "sets up an "
    "environment from a package index: minutes; tests/e2e runs the pipeline that it then starts",
    r"rekognition-dagster demo": "a minute for each; tests/e2e and tests/cli/test_demo.py run it",
    r"rekognition-dagster dev|cp lobby.mp4 .rekognition-dagster": "until Ctrl-C; tests/stack runs "
    "its parts",
    r"dagster dev": "until Ctrl-C; tests/orchestration loads the same definitions",
    r"docker |cd examples/compose": "builds images; tests/examples checks the files",
    r"kubectl |helm ": "needs a cluster; tests/examples checks the files",
    r"(ssh|scp) ": "needs a second machine",
    r"aws ": "the AWS CLI is not installed; tests/service/test_clients.py runs it",
    r"(?!storage:).*postgres": "needs a PostgreSQL server; make postgres",
    r".*ultralytics": "six gigabytes and AGPL-3.0; make ultralytics",
    r".*my_package|.*onnx:|.*openvino:": "a detector of the reader's own; tests/engine has some",
    r".*--ray |.*ray=": "needs a Ray cluster; make ray",
    r"rekognition-dagster models list .*--(speed|detector)": "measures for half a minute; "
    "tests/cli/test_models.py",
    r"export REKOGNITION_DAGSTER_MODELS=https": "an address of the reader's own mirror",
    r"rekognition-dagster completion|eval .*completion": "tests/cli/test_completion.py runs it in "
    "its shell",
    r"rekognition-dagster jobs": "jobs of the reader's own; tests/cli/test_jobs.py makes some",
    r"rekognition-dagster (find|refresh|zones (check|draw)) .*(north|--lake lake)": "zones of the "
    "reader's own; docs/answers.md has some, and runs all of these",
    r"storage:": "a part of Dagster's own settings, for PostgreSQL; tests/examples has it whole",
}
"""Why a command or block is not run, by the beginning of its text."""

WITHIN = {
    "first_seen_ms": 250,
    "dwell_ms": 400,
    "path_in_frame_widths": 0.15,
    "sharpest": 10,
    "yaw": 10,
    "at_ms": 10_000,  # of two frames that are nearly as sharp, either may win
}
"""What another processor's arithmetic may change in a column."""

_PLACES = ("/mnt/archive", "/data/", "/models/", "/srv/", "/var/lib/rekognition", "/etc/rekog")
_AWS = "https://sqs.eu-central-1.amazonaws.com"
_LANGUAGES = {"console", "python", "sql", "yaml"}
_OTHER = {"text", "ini", ""}


def not_run(text: str) -> str | None:
    """Why a command or block is not run."""
    bare = re.sub(r"^(\w+=\S+ )+(\\\n *)?", "", text)
    return next((why for p, why in NOT_RUN.items() if re.match(p, bare, re.S)), None)


@pytest.mark.parametrize("page", [*PAGES, None], ids=lambda p: p.stem if p else "help")
def test_what_a_page_shows_works(
    page: Path | None, place: Path, shell: Shell, aws_endpoint: str, free_port: int
) -> None:
    reader = _Reader(place, shell, aws_endpoint, free_port)
    for block in blocks(page) if page else [help_block(main)]:
        if block.language in _LANGUAGES:
            getattr(reader, block.language)(block)
    if page and WRITE:
        write_back(page, reader.outputs)
        return
    assert not reader.faults, "\n".join(reader.faults)


class _Reader:
    """Follows a page; notes what does not work."""

    def __init__(self, place: Path, shell: Shell, endpoint: str, port: int):
        self.place, self.shell = place, shell
        self.faults: list[str] = []
        self.outputs: dict[int, list[Command]] = {}
        self._there = [("8722", str(port)), *((p, f"{place}{p}") for p in _PLACES)]
        self._back = [(f"http://localhost:{endpoint.rpartition(':')[2]}", _AWS), (endpoint, _AWS)]
        self._back += [(there, here) for here, there in self._there]
        self._names: dict[str, Any] = {}
        self._port, self._serves = port, False

    def console(self, block: Block) -> None:
        """Type the commands of a block; compare what they print where the block shows it."""
        printed: list[Command] = []
        for command in block.commands():
            printed.append(command)
            if not_run(command.text):
                continue
            status, output = self._type(command.text)
            output = [_replaced(line, self._back) for line in output]
            if status:
                self._fault(block, command.text, f"status {status}: " + " / ".join(output[-8:]))
            elif command.shown:
                for difference in differences(command.shown, output, WITHIN):
                    self._fault(block, command.text, difference)
                printed[-1] = Command(command.text, [x.rstrip() for x in output])
        if any(c.shown for c in printed):
            self.outputs[block.line] = printed

    def python(self, block: Block) -> None:
        """Run a program after those that the page showed before."""
        if not_run(block.text.lstrip()):
            return
        environment = self.shell.environment()
        with pytest.MonkeyPatch.context() as patch:
            for name in set(os.environ) - set(environment):
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(boto3, "DEFAULT_SESSION", None)
            patch.chdir(environment["PWD"])
            try:
                exec(compile(_replaced(block.text, self._there), block.name, "exec"), self._names)
            except Exception as error:
                self._fault(block, block.text, f"{type(error).__name__}: {error}")

    def sql(self, block: Block) -> None:
        """Ask the demo's lake."""
        with Lake(self.place / ".rekognition-dagster" / "lake").connect() as connection:
            try:
                connection.execute(block.text).fetchall()
            except Exception as error:
                self._fault(block, block.text, str(error))

    def yaml(self, block: Block) -> None:
        """Load a component, or check the configuration of a run."""
        document = yaml.safe_load(block.text)
        if not_run(block.text):
            return
        try:
            if "type" in document:
                attributes = yaml.safe_dump(document["attributes"])
                assert document["type"] == "rekognition_dagster.RekognitionVideoComponent"
                RekognitionVideoComponent.resolve_from_yaml(attributes)
            else:
                _check_run(document)
        except Exception as error:
            self._fault(block, block.text, f"{type(error).__name__}: {error}")

    def _type(self, text: str) -> tuple[int, list[str]]:
        """Type a command; a service goes on in the background."""
        typed = _replaced(text, self._there)
        if not re.match(r"rekognition-dagster serve(?! --help)", text):
            return self.shell.run(typed)
        if not self._serves:
            port = "" if "--port" in typed else f" --port {self._port}"
            bare = typed.split("#")[0].rstrip().rstrip("&")
            self.shell.run(f"{bare}{port} >serve.log 2>&1 &")
            self._wait()
        self._serves = True
        return 0, []

    def _wait(self) -> None:
        """Wait until the service that runs in the background is ready."""
        for _ in range(150):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ready", timeout=5)
                return
            except OSError:
                self.shell.run("sleep 0.2")
        log = (self.place / "serve.log").read_text()
        raise AssertionError(f"the service did not become ready: {log[-2000:]}")

    def _fault(self, block: Block, what: str, why: str) -> None:
        self.faults.append(f"{block.name}: {what.splitlines()[0]}: {why}")


def _replaced(text: str, pairs: list[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _check_run(document: dict[str, Any]) -> None:
    """Check the configuration of the job, or of the assets, whose op it names."""
    definitions = build_definitions(Settings())
    (op,) = document["ops"]
    jobs = [d for d in definitions.get_repository_def().get_all_jobs() if d.has_node_named(op)]
    if jobs:
        dg.validate_run_config(jobs[0], document)
        return
    selection = dg.AssetSelection.assets(op)
    job = dg.define_asset_job("one", selection)
    extended = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    dg.validate_run_config(extended.resolve_job_def("one"), document)


def test_each_reason_not_to_run_something_is_needed() -> None:
    texts: list[str] = []
    for page in PAGES:
        for block in blocks(page):
            is_console = block.language == "console"
            texts += [c.text for c in block.commands()] if is_console else [block.text.lstrip()]
    texts += [c.text for c in help_block(main).commands()]
    used = {p for p in NOT_RUN for t in texts if NOT_RUN[p] == not_run(t)}
    assert used == set(NOT_RUN)


def test_each_block_has_a_language_that_says_whether_it_runs() -> None:
    known = _LANGUAGES | _OTHER - {""}
    unknown = [b.name for page in PAGES for b in blocks(page) if b.language not in known]
    assert unknown == []


def test_what_runs_is_most_of_what_is_shown() -> None:
    """Counts, for whoever asks: ``pytest -s tests/docs/test_blocks.py -k most``."""
    counts: dict[str, int] = defaultdict(int)
    for block in [*(b for page in PAGES for b in blocks(page)), help_block(main)]:
        if block.language not in _LANGUAGES:
            continue
        is_console = block.language == "console"
        for text in [c.text for c in block.commands()] if is_console else [block.text.lstrip()]:
            counts[not_run(text) or "run"] += 1
    print(*(f"{n:4} {why}" for why, n in counts.items()), sep="\n")
    assert counts["run"] > sum(counts.values()) / 2
    assert ROOT.exists()
