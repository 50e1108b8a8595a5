"""One run of `tiny` through the real servers, as a user starts it; the tests of this folder look at it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.environment import bare_environment

RUN_S = 1200
"""Seconds that a whole turn may take on a busy machine."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    document: Any
    err: str


@dataclass(frozen=True)
class Turned:
    """A workspace in which the wheel has turned once."""

    workspace: Path
    ended: Ended

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        return {stage["name"]: stage for stage in self.ended.document["iterations"][0]["stages"]}


def command_line(workspace: Path, *arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "ratchet"), *arguments, "--workspace", str(workspace), "--json"]


def ratchet(workspace: Path, *arguments: str) -> Ended:
    """Run the installed command."""
    done = subprocess.run(
        command_line(workspace, *arguments), capture_output=True, text=True, timeout=RUN_S, env=bare_environment()
    )
    return Ended(done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr)


@pytest.fixture(scope="session")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Turned:
    workspace = tmp_path_factory.mktemp("wheel") / "workspace"
    ended = ratchet(workspace, "run", "--preset", "tiny")
    assert ended.code == 0, ended.err[-6000:]
    return Turned(workspace, ended)


@pytest.fixture(scope="session")
def command(turned: Turned) -> Callable[..., Ended]:
    """Runs further commands in the workspace of the run."""
    return lambda *arguments: ratchet(turned.workspace, *arguments)
