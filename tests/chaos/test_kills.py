"""kill -9 in the middle of a stage, then the same command: it finishes, and nothing shows that anything happened."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import list_artifacts
from infra.processes import end_marked, marked
from infra.services import stack_id
from infra.storage import Storage
from tests.environment import bare_environment

PLAN = Path(__file__).with_name("three_stages.py")
RUN_S = 300
Strike = Callable[[Path, subprocess.Popen], None]
"""Kills something of the run in this workspace, which that process started."""


@dataclass
class Run:
    """One start of the plan: the events it told, and how it ended."""

    workspace: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    code: int = 0
    err: str = ""

    def go(self, strike: Strike | None = None, stage: str = "", done: float = 0.0) -> "Run":
        """Follow to the end; once `stage` has made that part of its progress, `strike` hits, once."""
        with (self.workspace.parent / "stderr.txt").open("w+") as errors:
            command = [sys.executable, "-P", str(PLAN), str(self.workspace)]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=bare_environment()
            )
            assert process.stdout is not None
            for line in filter(lambda line: line.startswith("{"), process.stdout):  # MLflow prints there, too
                self.events.append(event := json.loads(line))
                if strike and self.is_at(event, stage, done):
                    strike(self.workspace, process)
                    strike = None
            self.code = process.wait(RUN_S)
            errors.seek(0)
            self.err = errors.read()
        assert strike is None, f"{stage} never was at {done:.0%}: {self.err[-2000:]}"
        return self

    @staticmethod
    def is_at(event: dict[str, Any], stage: str, done: float) -> bool:
        if (event["kind"], event["label"]) != ("progress", stage):
            return False
        return done * event["total"] <= event["done"] < event["total"]

    def labels(self, kind: str) -> list[str]:
        return [event["label"] for event in self.events if event["kind"] == kind]


def kill_command(workspace: Path, process: subprocess.Popen) -> None:
    process.kill()


def kill_driver(workspace: Path, process: subprocess.Popen) -> None:
    drivers = [each for each in marked(stack_id(workspace)) if "tasks.job" in each.cmdline()]
    assert len(drivers) == 1, drivers
    drivers[0].kill()


def kill_head(workspace: Path, process: subprocess.Popen) -> None:
    (head,) = [each for each in marked(stack_id(workspace)) if each.name() == "gcs_server"]
    os.kill(head.pid, signal.SIGKILL)


def bytes_of(workspace: Path) -> dict[str, str]:
    """Digest over the files of every artifact by its place."""
    store = Storage.open(workspace / "store")
    return {artifact.key: artifact.manifest().sha256() for artifact in list_artifacts(store)}


def times_made(workspace: Path) -> Counter[str]:
    """How often a driver brought each stage to its end, from the logs that the drivers keep in the store."""
    lines = [line for log in (workspace / "store" / "jobs").rglob("log-*.txt") for line in log.read_text().splitlines()]
    events = [json.loads(line.removeprefix("@event ")) for line in lines if line.startswith("@event ")]
    return Counter(event["label"] for event in events if event["event"] == "made")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "workspace"
    end_marked(stack_id(tmp_path / "workspace"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = Run(tmp_path_factory.mktemp("undisturbed") / "workspace").go()
    assert run.code == 0, run.err
    return bytes_of(run.workspace)


@pytest.mark.timeout(900)
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(workspace: Path, undisturbed: dict[str, str]) -> None:
    """The command in its first job, a driver in the second, the Ray head in the third; then it is left alone."""
    first = Run(workspace).go(kill_command, "documents", done=0.1)
    assert first.code == -signal.SIGKILL and "documents" not in first.labels("made")

    second = Run(workspace).go(kill_driver, "pretrain", done=0.3)
    assert second.code == 1 and "the same command goes on from the last finished shard or checkpoint" in second.err

    third = Run(workspace).go(kill_head, "continued pretraining", done=0.2)
    assert third.code == 1 and "ClusterLost" in third.err, third.err
    resumed = [event["done"] for event in third.events if event["kind"] == "progress" and event["label"] == "pretrain"]
    assert resumed[0] > 1, "pretraining began anew instead of at its checkpoint"

    last = Run(workspace).go()
    assert last.code == 0, last.err
    assert bytes_of(workspace) == undisturbed
    assert set(times_made(workspace).values()) == {1}, times_made(workspace)
    assert marked(stack_id(workspace)) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strike", [kill_command, kill_driver, kill_head])
@pytest.mark.parametrize(("stage", "done"), [("documents", 0.5), ("pretrain", 0.2), ("teacher", 0.7)])
def test_any_kill_in_any_stage(
    workspace: Path, undisturbed: dict[str, str], strike: Strike, stage: str, done: float
) -> None:
    assert Run(workspace).go(strike, stage, done).code != 0
    again = Run(workspace).go()
    assert again.code == 0, again.err
    assert bytes_of(workspace) == undisturbed
    assert set(times_made(workspace).values()) == {1}
