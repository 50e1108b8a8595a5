"""A search through the real servers: the last round's beta on a workspace in which one of its values was trained."""

import json
import subprocess
from pathlib import Path

import pytest

from infra.artifacts import Artifact
from tests.environment import bare_environment
from tests.integration.conftest import RUN_S, command_line

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_search_reuses_what_is_there_and_goes_on_with_its_choice(turned):
    change = "preference_tuning.3.beta={low: 0.2, high: 0.4, points: 2}"
    command = command_line(turned.workspace, "run", "--preset", "tiny", "--set", change)
    environment = bare_environment() | {"RATCHET_PROJECT": "searched"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, env=environment)
    assert done.returncode == 0, done.stderr[-6000:]
    document = json.loads(done.stdout)
    stages = {stage["name"]: stage for stage in document["iterations"][0]["stages"]}
    plain = turned.stages
    assert stages["rpo 3 [1 of 2]"] == plain["rpo 3"] | {"name": "rpo 3 [1 of 2]", "state": "cached", "seconds": 0.0}
    assert {stages[name]["state"] for name in ("rpo 3 [2 of 2]", "rpo 3 [2 of 2] dev", "rpo 3 search")} == {"made"}
    result = artifact(turned.workspace, stages["rpo 3 search"]).manifest().result
    chosen = artifact(turned.workspace, stages[f"rpo 3 [{result['chosen'] + 1} of 2]"])
    examined = artifact(turned.workspace, stages["candidate exam"]).manifest().inputs["model"]
    assert examined == chosen.fingerprint
    assert "rpo 3 search: 2 candidates" in Path(document["report"]).read_text()


def artifact(workspace: Path, stage: dict[str, str]) -> Artifact:
    name, fingerprint = stage["artifact"].split("/")[-2:]
    return Artifact(stage=name, kind="unknown", fingerprint=fingerprint, store=str(workspace / "store"))
