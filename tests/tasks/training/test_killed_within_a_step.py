"""kill -9 between two rounds of a step, which the next attempt does not begin anew; and the clock that decides."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Artifact
from models.tokenizer import Tokenizer
from tasks import resume_points, sft
from tasks.resume_points import CheckpointClock
from tasks.rows import DIALOGUE
from tests.environment import bare_environment
from tests.tasks.training.conftest import Workshop, dialogue
from tests.tasks.training.one_step import ONE_STEP, ROWS

ROOT = Path(__file__).parents[3]


def inputs_in(workshop: Workshop, tokenizer: Tokenizer) -> dict[str, Artifact]:
    rows = [dialogue(f"Say {number} twice.", f"{number} {number}") for number in range(ROWS)]
    base = workshop.put_model("base", tokenizer)
    return {"base": base, "dialogues": workshop.put_rows("dialogues", rows, DIALOGUE)}


def kill_within_the_step(workshop: Workshop, inputs: dict[str, Artifact]) -> None:
    """As soon as the only step has its second whole checkpoint."""
    given = [inputs[name].model_dump_json() for name in ("base", "dialogues")]
    command = [sys.executable, "-m", "tests.tasks.training.one_step", str(workshop.folder), *given]
    process = subprocess.Popen(command, cwd=ROOT, env=bare_environment())
    deadline = time.monotonic() + 120
    while not [*workshop.folder.glob("store/attempts/sft/*/step-00000000-*/complete.json")]:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()


def test_a_step_cut_short_by_a_kill_goes_on_to_the_same_bytes(
    workshop: Workshop, another_workshop: Workshop, tokenizer: Tokenizer
) -> None:
    inputs = inputs_in(workshop, tokenizer)
    kill_within_the_step(workshop, inputs)
    made = workshop.run(sft.run, ONE_STEP, **inputs)
    said = [event["text"] for event in workshop.events if event["event"] == "line"]
    found = re.fullmatch(r"resumed at step 0 of 1, after (\d+) of (\d+) rounds of the next one", said[0])
    assert found, said
    done, rounds = map(int, found.groups())
    assert 1 < done < rounds
    told = [event["done"] for event in workshop.events if event["event"] == "progress"]
    assert told[0] > done / rounds * 0.9 and told[-1] == 1.0
    whole = another_workshop.run(sft.run, ONE_STEP, **inputs_in(another_workshop, tokenizer))
    assert made.manifest().sha256() == whole.manifest().sha256()
    assert not workshop.store.list("attempts")


def test_other_rounds_begin_the_step_anew_and_say_so(workshop: Workshop, tokenizer: Tokenizer) -> None:
    inputs = inputs_in(workshop, tokenizer)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["done"] > 0.1:
            raise KeyboardInterrupt

    output = workshop.address(ONE_STEP, inputs)
    output.events = stop
    with pytest.raises(KeyboardInterrupt):
        sft.run(ONE_STEP, output, **inputs)
    wider = ONE_STEP.model_copy(update={"resources": ONE_STEP.resources.model_copy(update={"microbatch_tokens": 512})})
    workshop.run(sft.run, wider, **inputs)
    said = [event["text"] for event in workshop.events if event["event"] == "line"]
    assert re.match(r"resumed at step 0 of 1; \d+ rounds of the next one were of another microbatch_tokens", said[0])


def test_within_a_step_a_checkpoint_waits_for_its_own_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that ends soon after one was due is not stopped for one that is larger and saves little."""
    now = 100.0
    monkeypatch.setattr(resume_points.time, "monotonic", lambda: now)
    clock = CheckpointClock(60.0)
    now = 170.0
    assert clock.due() and not clock.due(since=130.0)
    now = 191.0
    assert clock.due(since=130.0)
    clock.time(lambda: None)
    assert not clock.due(since=130.0)
