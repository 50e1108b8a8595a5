"""Where a user's own texts go: the steps that the documented plan comes to."""

from pathlib import Path

import pytest

from deployments.plans import load_plan
from flows.execution import Planner, running
from flows.foundations import prepare
from flows.iteration import iteration
from flows.steps import Step
from tests.own_texts import write_example

BOTH = ["code", "english", "multilingual"]


def walk(path: Path, *changes: str) -> dict[str, Step]:
    """Every step of the first iteration, by label."""
    plan, planner = load_plan(None, path, changes), Planner(str(path.parent / "store"))
    with running(planner):
        given = prepare(plan, None, None)
        iteration.fn(plan.for_iteration(1), 1, given.generator, given)
    steps = [step for _, steps in planner.jobs for step in steps]
    assert len({step.label for step in steps}) == len(steps)
    return {step.label: step for step in steps}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    return write_example(tmp_path / "data")


def labels(steps: dict[str, Step], label: str, name: str) -> list[str]:
    made = {step.artifact: step.label for step in steps.values()}
    return [made[artifact] for part, artifact in steps[label].parents() if part == name]


def test_each_text_is_read_and_tokenized_once(example: Path) -> None:
    steps = walk(example)
    read = [*(f"documents {name}" for name in BOTH), "continued documents questions"]
    tokens = [*(f"tokens {name}" for name in BOTH), "continued tokens questions"]
    assert [label for label in steps if "documents" in label] == read
    assert labels(steps, "tokenizer", "texts") == read[:3], "of the main phase only"
    assert labels(steps, "pretrain", "tokens") == tokens[:3]
    assert labels(steps, "continued pretraining", "tokens") == tokens
    assert labels(steps, "teacher", "dialogues") == labels(steps, "general mix", "human") == ["clean human rows"]
    assert labels(steps, "clean human rows", "rows") == ["human rows"]
    assert labels(steps, "clean human rows", "evaluation_set") == ["evaluation set"]


def test_another_text_in_the_second_phase_is_another_step(example: Path) -> None:
    extra = example.parent / "more"
    extra.mkdir()
    (extra / "page.txt").write_text("Something else.")
    before, steps = walk(example), walk(example, f"pretraining.continued_documents.english.path={extra}")
    assert steps["pretrain"].artifact == before["pretrain"].artifact, "what is trained stays"
    assert steps["continued pretraining"].artifact != before["continued pretraining"].artifact
    assert labels(steps, "pretrain", "tokens")[1] == "tokens english", "an alias in the file is not changed with it"
    assert "continued tokens english" in labels(steps, "continued pretraining", "tokens")


def test_the_order_in_the_file_and_the_place_change_nothing(example: Path, tmp_path: Path) -> None:
    elsewhere = write_example(tmp_path / "elsewhere" / "data")
    lines = elsewhere.read_text().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if "english: &english" in line)
    elsewhere.write_text("".join([*lines[:first], lines[first + 1], lines[first], *lines[first + 2 :]]))
    found = []
    for path in (example, elsewhere):
        with running(planner := Planner("/nowhere/store")):
            prepare(load_plan(None, path, ()), None, None)
        found.append({step.label: step.artifact for _, steps in planner.jobs for step in steps})
    assert [*found[0]] == [*found[1]] and found[0] == found[1]


def test_the_world_s_words_are_those_of_both_phases_and_its_people_are_not_compared() -> None:
    with running(planner := Planner("/nowhere/store")):
        prepare(load_plan("tiny", None, ()), None, None)
    steps = {step.label: step for _, found in planner.jobs for step in found}
    assert labels(steps, "tokenizer", "texts") == ["documents", "continued documents"]
    assert labels(steps, "teacher", "dialogues") == ["human rows"] and "clean human rows" not in steps
