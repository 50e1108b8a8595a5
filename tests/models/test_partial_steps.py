"""Training that was stopped between two rounds of a step goes on with the next one, bit for bit."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.decoder import Decoder
from models.objectives import LossAndMetrics, NextToken
from models.packing import Document
from models.parallel.plan import ALONE
from models.parallel.workers import Workers
from models.train import BEGUN, Trainer
from tests.models.test_train import assert_bit_equal
from tests.numerics.parallel_cases import LLAMA, Case, make_trainer, train
from tests.numerics.partial_cases import stop_within

CASES = [
    Case("next-token", ALONE),
    Case("next-token-bf16", ALONE, LLAMA, state_dtype="bf16"),
    Case("next-token-lora", ALONE, adapted="lora", state_dtype="bf16"),
    Case("preference", ALONE, LLAMA, "preference"),
    Case("preference-dora", ALONE, objective="preference", adapted="dora"),
    Case("regression", ALONE, LLAMA, "regression"),
]


def fresh(case: Case, spoil: Document | None = None) -> Trainer[Any]:
    trainer = make_trainer(case, Workers())
    trainer.microbatch_tokens = 16  # hardly two examples in a row
    if spoil is not None:
        assert isinstance(trainer.model, Decoder)
        trainer.objective = Spoiled(trainer.model, spoil)
    return trainer


class Spoiled(NextToken):
    """Next-token training whose loss is NaN for one of the documents."""

    def __init__(self, model: Decoder, spoil: Document) -> None:
        super().__init__(model)
        self.spoil = spoil

    def loss(self, documents: Sequence[Document], total_weight: float, /) -> LossAndMetrics:
        loss, metrics = super().loss(documents, total_weight)
        loss = loss * float("nan" if self.spoil in documents else 1.0)
        return loss, metrics | {"loss": loss.detach()}


def rounds_of(case: Case, step: int) -> list[list[list[int]]]:
    """How the batch of a step is dealt out."""
    trainer = fresh(case)
    trainer.totals.step = step
    return trainer._begin().dealt


def assert_resumes(case: Case, step: int, folder: Path, spoil: Document | None = None) -> Trainer[Any]:
    """From after any round of the step but the last; returns the trainer that was not stopped."""
    straight = fresh(case, spoil)
    count = len(rounds_of(case, step))
    assert count > 2
    reports = train(straight)
    for rounds in range(1, count):
        checkpoint = folder / f"{step}-{rounds}"
        checkpoint.mkdir()
        before = stop_within(fresh(case, spoil), step, rounds, checkpoint)
        resumed = fresh(case, spoil)
        assert resumed.restore(checkpoint) == 0
        assert resumed.begun is not None and resumed.begun.done == rounds
        assert repr(before + train(resumed)) == repr(reports)  # NaN is like NaN
        assert_bit_equal(resumed, straight)
    return straight


@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_step_goes_on_after_any_of_its_rounds(case: Case, step: int, tmp_path: Path) -> None:
    assert_resumes(case, step, tmp_path)


@pytest.mark.parametrize("place", [0, -1])
def test_a_step_that_is_skipped_for_one_of_its_rounds_stays_skipped(place: int, tmp_path: Path) -> None:
    """The NaN comes in the step's first round or in its last: before the stop or after it."""
    trainer = fresh(CASES[0])
    index = rounds_of(CASES[0], 1)[place][0][0]
    spoil = trainer.examples[trainer.plan.batch(1)[index]]
    assert assert_resumes(CASES[0], 1, tmp_path, spoil).totals.skipped > 0


def test_another_packing_does_the_step_again_from_its_beginning(tmp_path: Path) -> None:
    """As from the checkpoint before the step, bit for bit."""
    for folder in (tmp_path / "within", tmp_path / "before"):
        folder.mkdir()
    stop_within(fresh(CASES[0]), 2, 2, tmp_path / "within")
    stopped = fresh(CASES[0])
    train(stopped, until=2)
    stopped.save(tmp_path / "before")()
    within, before = fresh(CASES[0]), fresh(CASES[0])
    within.microbatch_tokens = before.microbatch_tokens = 40
    assert within.restore(tmp_path / "within") == 2 and within.begun is None
    assert before.restore(tmp_path / "before") == 0
    reports = train(within)
    assert reports == train(before)
    assert_bit_equal(within, before)
    expected = train(fresh(CASES[0]))[2:]
    assert [report["loss"] for report in reports] == pytest.approx([report["loss"] for report in expected], rel=1e-5)


def test_a_checkpoint_after_a_step_holds_no_gradients(tmp_path: Path) -> None:
    trainer = fresh(CASES[0])
    train(trainer, until=1)
    trainer.save(tmp_path)()
    resumed = fresh(CASES[0])
    assert resumed.restore(tmp_path) == 0 and resumed.begun is None
    assert all(parameter.grad is None for parameter in resumed.parameters.values())


def test_time_and_tokens_of_the_rounds_before_count(tmp_path: Path) -> None:
    stopped = fresh(CASES[0])
    stop_within(stopped, 1, 2, tmp_path)
    place = tmp_path / BEGUN.format(0)
    state = json.loads(place.read_text())
    place.write_text(json.dumps(state | {"seconds": 1000.0, "waited": 500.0}))
    resumed = fresh(CASES[0])
    resumed.restore(tmp_path)
    batch = [resumed.examples[index] for index in resumed.plan.batch(1)]
    done = sum(len(batch[index].inputs) for bins in state["dealt"][:2] for members in bins for index in members)
    assert resumed.tokens == resumed.totals.tokens + done > resumed.totals.tokens
    heard: list[float] = []
    report = next(resumed.run(heard.append))
    assert report.seconds == pytest.approx(1000, abs=60) and report.waited == pytest.approx(0.5, abs=0.03)
    assert heard[0] > 1 + done / report.tokens and heard[-1] == 2.0
    assert resumed.tokens == resumed.totals.tokens


def test_random_numbers_go_on_within_a_step(tmp_path: Path) -> None:
    stopped, resumed = fresh(CASES[0]), fresh(CASES[0])
    torch.manual_seed(77)
    stop_within(stopped, 1, 1, tmp_path)
    expected = torch.rand(3)
    torch.manual_seed(1)
    resumed.restore(tmp_path)
    assert torch.equal(torch.rand(3), expected)
