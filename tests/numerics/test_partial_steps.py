"""Two processes that were stopped between two rounds of a step go on with the next one, to the same bits; other numbers
of processes do that step again, within the tolerances of `test_parallel.py`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.parallel.plan import ALONE
from models.parallel.workers import Workers
from models.train import Trainer
from tests.numerics.parallel_cases import Case, make_trainer, train
from tests.numerics.partial_cases import AFTER, CASES, STOPPED_IN, stop_within

ROOT = Path(__file__).parents[2]
FIRST_ALONE = replace(CASES[0], plan=ALONE)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("partial")
    (folder / "alone").mkdir()
    stop_within(make_trainer(FIRST_ALONE, Workers()), STOPPED_IN, AFTER, folder / "alone")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "tests.numerics.partial_cases", str(folder), "2"]
    running = [
        subprocess.Popen([*command, str(rank)], env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=600)[1] for process in running]
    assert not any(process.returncode for process in running), "\n".join(errors)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_processes_go_on_within_a_step_to_the_same_bits(results: Path, case: Case) -> None:
    straight, resumed = (f"{case.name}-{how}" for how in ("straight", "resumed"))
    assert (results / f"{straight}.json").read_text() == (results / f"{resumed}.json").read_text()
    expected, found = (load_file(results / f"{name}.safetensors") for name in (straight, resumed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def assert_near(found: list[dict[str, float]], weights: dict[str, torch.Tensor]) -> None:
    """To what one process alone comes to, from the step on that was stopped."""
    trainer: Trainer = make_trainer(FIRST_ALONE, Workers())
    for ours, expected in zip(found, train(trainer)[STOPPED_IN:], strict=True):
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for name, parameter in trainer.parameters.items():
        torch.testing.assert_close(weights[name], parameter.detach(), rtol=0, atol=2e-5)


def test_two_processes_do_the_step_of_one_again(results: Path) -> None:
    assert_near(json.loads((results / "widened.json").read_text()), load_file(results / "widened.safetensors"))


def test_one_process_does_the_step_of_two_again(results: Path) -> None:
    trainer = make_trainer(FIRST_ALONE, Workers())
    assert trainer.restore(results / CASES[0].name) == AFTER and trainer.begun is None
    reports = train(trainer)
    assert_near(reports, {name: p.detach() for name, p in trainer.parameters.items()})
