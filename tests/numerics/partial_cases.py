"""Trainings stopped between two rounds of a step, by any number of processes.

python partial_cases.py FOLDER WORLD RANK     every case, straight through and stopped, its results into FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from models.parallel.plan import ParallelPlan
from models.parallel.workers import Workers
from models.train import Trainer
from tests.numerics.parallel_cases import LLAMA, Case, make_trainer, train

CASES = [
    Case("fsdp", ParallelPlan(shards=2), LLAMA, "preference"),
    Case("fsdp-lora", ParallelPlan(shards=2), state_dtype="bf16", adapted="lora"),
    Case("tensor", ParallelPlan(tensor=2)),
]
STOPPED_IN, AFTER = 1, 1
"""The 0-based step, and its rounds that were done."""


class Stopped(Exception):
    """Training was, between two rounds."""


def stop_within(trainer: Trainer[Any], step: int, rounds: int, folder: Path) -> list[dict[str, float]]:
    """Train until so many rounds of the 0-based `step` are done, save, and go on for a round that is then lost; returns
    what the steps before reported."""
    reports: list[dict[str, float]] = []
    saving: list[Any] = []

    def on_microbatch(done: float) -> None:
        if saving:
            saving.pop()()
            raise Stopped
        if trainer.begun is not None and (trainer.totals.step, trainer.begun.done) == (step, rounds):
            saving.append(trainer.save(folder))

    try:
        for report in trainer.run(on_microbatch):
            reports.append(report.metrics | {"grad_norm": report.grad_norm})
    except Stopped:
        return reports
    raise AssertionError(f"step {step} has no round after its first {rounds}")


def write(trainer: Trainer[Any], reports: list[dict[str, float]], folder: Path, name: str) -> None:
    """What was told, and the trained weights, whole."""
    detached = {name: parameter.detach() for name, parameter in trainer.parameters.items()}
    weights = {name: w.full_tensor() if isinstance(w, DTensor) else w for name, w in detached.items()}
    if trainer.workers.rank == 0:
        save_file(weights, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(reports))


def main(folder: Path, world: int, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-{world}", rank=rank, world_size=world)
    for case in CASES:
        workers = Workers(case.plan, row_multiple=case.plan.tensor)
        straight = make_trainer(case, workers)
        write(straight, train(straight), folder, f"{case.name}-straight")
        checkpoint = folder / case.name
        checkpoint.mkdir(exist_ok=True)
        before = stop_within(make_trainer(case, workers), STOPPED_IN, AFTER, checkpoint)
        resumed = make_trainer(case, workers)
        assert resumed.restore(checkpoint) == 0 and resumed.begun is not None and resumed.begun.done == AFTER
        write(resumed, before + train(resumed), folder, f"{case.name}-resumed")
    widened = make_trainer(CASES[0], Workers(CASES[0].plan))
    assert widened.restore(folder / "alone") == AFTER and widened.begun is None
    write(widened, train(widened), folder, "widened")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
