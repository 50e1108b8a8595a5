"""The weights of the lowest validation loss so far, kept beside the last ones through every resume."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra.output import Output
from models.train import StepReport, Trainer
from models.train_state import load_state, save_state
from tasks.configs.training import AlignmentConfig
from tasks.training import resume, train

FOLDER, NUMBERS = "best", "best.json"


def train_keeping_best(
    trainer: Trainer[Any], config: AlignmentConfig, output: Output, validation: Sequence[Any]
) -> dict[str, float]:
    """Train to the end, from the last checkpoint where there is one; returns metrics.

    Where there are validation examples, the model is left with the weights of their lowest loss.
    """
    if not validation:
        resume(trainer, output)
        return train(trainer, config, output)
    every = config.evaluate_every or -(-len(trainer.examples) // config.global_batch_size)
    best = BestWeights(trainer, validation, every, output)
    folder = resume(trainer, output)
    if folder is not None:
        best.restore(folder)
    metrics = train(trainer, config, output, best.on_step, best.save)
    best.put_back()
    return metrics | {"best_step": best.step, "best_validation_loss": best.loss}


class BestWeights:
    """Hooks for `tasks.training.train`: validates every so many steps, and after the last."""

    def __init__(self, trainer: Trainer[Any], validation: Sequence[Any], every: int, output: Output) -> None:
        self.trainer, self.validation, self.every, self.output = trainer, validation, every, output
        self.loss, self.step = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def on_step(self, report: StepReport) -> None:
        if report.step % self.every and report.step != self.trainer.plan.steps:
            return
        loss = self.trainer.evaluate(self.validation)
        self.output.log_metrics(report.step, {"validation_loss": loss})
        if loss < self.loss:
            self.loss, self.step = loss, report.step
            self.weights = {name: p.detach().clone() for name, p in self.trainer.parameters.items()}

    def save(self, folder: Path) -> None:
        if self.trainer.workers.rank == 0:
            (folder / NUMBERS).write_text(json.dumps({"loss": self.loss, "step": self.step}))
        if self.weights:
            (folder / FOLDER).mkdir()
            save_state(self.weights, folder / FOLDER)()

    def restore(self, folder: Path) -> None:
        numbers = json.loads((folder / NUMBERS).read_text())
        self.loss, self.step = numbers["loss"], numbers["step"]
        if self.step:
            self.weights = {name: torch.empty_like(p.detach()) for name, p in self.trainer.parameters.items()}
            load_state(self.weights, folder / FOLDER)

    @torch.no_grad()
    def put_back(self) -> None:
        for name, tensor in self.weights.items():
            self.trainer.parameters[name].copy_(tensor)
