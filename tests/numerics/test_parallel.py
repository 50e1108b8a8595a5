"""One process = FSDP = hybrid FSDP = tensor + sequence parallel = their product, in losses, gradients and weights.

All in fp32 over gloo. Losses and gradient norms within 1e-5 of the single process's (relative), weights within 2e-5:
sums over processes and microbatches are made in another order, and AdamW's first steps are as large for small
gradients.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.lora import merge_lora
from models.parallel.workers import Workers
from models.train import Trainer
from tests.numerics.parallel_cases import ADAPTED, CASES, SAVED_AT, Case, decoder_of, logits_of, make_trainer, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    for name in ("checkpoint", "adapted"):
        (folder / name).mkdir()
    for world in (4, 2):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        command = [sys.executable, "-m", "tests.numerics.parallel_cases", str(folder), str(world)]
        running = [
            subprocess.Popen([*command, str(rank)], env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
            for rank in range(world)
        ]
        errors = [process.communicate(timeout=600)[1] for process in running]
        assert not any(process.returncode for process in running), "\n".join(errors)
    return folder


def alone(case: Case) -> tuple[Trainer, list[dict[str, float]]]:
    same = replace(case, plan=Workers().plan, recompute="none")
    trainer = make_trainer(same, Workers())
    reports = train(trainer)
    if case.adapted:
        merge_lora(decoder_of(trainer))
    return trainer, reports


def assert_same(results: Path, name: str, trainer: Trainer, reports: list[dict[str, float]]) -> None:
    folder = results / name
    found = json.loads((folder / "reports.json").read_text())
    for ours, expected in zip(found, reports, strict=True):
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6)
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 2
    weights = {name: weight for path in files for name, weight in load_file(path).items()}
    for parameter, expected in trainer.model.named_parameters():
        torch.testing.assert_close(weights[parameter], expected.detach(), rtol=0, atol=2e-5)
    logits = load_file(folder / "logits.safetensors")["logits"]
    torch.testing.assert_close(logits, logits_of(decoder_of(trainer)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_split_model_trains_as_a_whole_one(results: Path, case: Case) -> None:
    assert_same(results, case.name, *alone(case))


def test_two_processes_go_on_from_a_checkpoint_of_four(results: Path) -> None:
    trainer, reports = alone(CASES[0])
    assert_same(results, "resumed", trainer, reports[SAVED_AT:])


def test_one_process_goes_on_from_a_checkpoint_of_four(results: Path) -> None:
    whole, reports = alone(CASES[0])
    trainer = make_trainer(Case("", Workers().plan), Workers())
    trainer.restore(results / "checkpoint")
    assert [report["loss"] for report in train(trainer)] == pytest.approx(
        [report["loss"] for report in reports[SAVED_AT:]], rel=1e-5
    )
    for name, parameter in whole.model.named_parameters():
        torch.testing.assert_close(trainer.parameters[name].detach(), parameter.detach(), rtol=0, atol=2e-5)


def test_two_unsplit_processes_go_on_from_low_rank_additions_that_were_split(results: Path) -> None:
    trainer, reports = alone(ADAPTED)
    assert_same(results, "resumed-adapted", trainer, reports[SAVED_AT:])


def test_one_process_goes_on_from_low_rank_additions_that_were_split(results: Path) -> None:
    trainer, reports = alone(ADAPTED)
    resumed = make_trainer(replace(ADAPTED, plan=Workers().plan), Workers())
    resumed.restore(results / "adapted")
    for ours, expected in zip(train(resumed), reports[SAVED_AT:], strict=True):
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6)
    merge_lora(decoder_of(resumed))
    for name, weight in decoder_of(trainer).named_parameters():
        torch.testing.assert_close(decoder_of(resumed).get_parameter(name), weight, rtol=0, atol=2e-5)
