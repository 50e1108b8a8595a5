"""A phase with ranges, walked without running: its candidates, the choice, and what is known before the choice fell."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.plans import load_plan
from flows.execution import Planner, running
from flows.foundations import prepare
from flows.iteration import iteration
from flows.products import Turn
from flows.search import undecided
from flows.steps import Step
from infra.output import Outcome, Output
from infra.storage import Storage

RANGE = "general_sft.learning_rate={low: 1e-5, high: 1e-4}"
LABELS = [f"general sft [{place} of 3]{exam}" for place in (1, 2, 3) for exam in ("", " dev")]


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path / "store")


@pytest.fixture
def walk(store: Storage) -> Callable[..., tuple[dict[str, Step], Turn]]:
    """`walk("a.b=v", …)`: every step of an iteration of `tiny`, by label, and what the iteration returns."""

    def make(*changes: str) -> tuple[dict[str, Step], Turn]:
        plan, planner = load_plan("tiny", None, changes), Planner(store.uri)
        with running(planner):
            given = prepare(plan, None, None)
            turn = iteration.fn(plan.for_iteration(1), 1, given.generator, given)
        return {step.label: step for _, steps in planner.jobs for step in steps}, turn

    return make


def choose(step: Step, place: int, workspace: Path) -> None:
    """The manifest that the choice would leave."""
    output = Output(step.artifact, step.artifact.storage(), lambda event: None, workspace)
    output.commit(
        Outcome(result={"chosen": place}), recipe=step.config.recipe(), inputs=step.inputs, version=step.config.version,
        label=step.label, device="", wall_s=0.0, code_version="",
    )  # fmt: skip


def test_candidates_are_the_stages_that_plain_values_make(walk) -> None:
    steps, _ = walk(RANGE)
    assert [label for label in steps if label.startswith("general sft")] == [*LABELS, "general sft search"]
    for place, value in enumerate(("1e-5", "3.16228e-5", "1e-4"), 1):
        plain, _ = walk(f"general_sft.learning_rate={value}")
        assert steps[f"general sft [{place} of 3]"].artifact == plain["general sft"].artifact
        assert steps[f"general sft [{place} of 3] dev"].artifact == plain["general sft dev"].artifact


def test_the_choice_sees_development_examinations_alone(walk) -> None:
    steps, _ = walk(RANGE)
    choice = steps["general sft search"]
    assert set(choice.inputs) == {"models", "evaluations"}
    for evaluation in choice.inputs["evaluations"]:
        (examined,) = [step for step in steps.values() if step.artifact == evaluation]
        assert examined.config.half == "dev"  # type: ignore[attr-defined]


def test_what_follows_an_open_choice_is_unknown_and_the_chosen_one_once_it_fell(walk, tmp_path: Path) -> None:
    steps, turn = walk(RANGE)
    table = steps["general sft search"].artifact
    assert turn.steps["general sft"].model.fingerprint == undecided(table)
    assert steps["dpo"].inputs["policy"].fingerprint == undecided(table)
    choose(steps["general sft search"], 1, tmp_path)
    steps, turn = walk(RANGE)
    assert turn.steps["general sft"].model == steps["general sft [2 of 3]"].artifact == steps["dpo"].inputs["policy"]
    assert turn.steps["general sft"].evaluation == steps["general sft [2 of 3] dev"].artifact
    assert turn.steps["general sft"].table == table
    plain, _ = walk("general_sft.learning_rate=3.16228e-5")
    assert steps["rpo 3"].artifact == plain["rpo 3"].artifact, "a search leaves no trace in what follows it"


def test_a_round_of_preference_tuning_makes_its_reference_once(walk) -> None:
    steps, turn = walk("preference_tuning.1.beta={low: 0.1, high: 0.4, points: 2}")
    found = [label for label in steps if label.startswith("rpo 1")]
    exams = [f"rpo 1 [{place} of 2]{exam}" for place in (1, 2) for exam in ("", " dev")]
    assert found == ["rpo 1 reference", *exams, "rpo 1 search"]
    assert turn.steps["dpo"].table is None
