"""What a training stage says of its speed: tokens/s, arithmetic, share of the device's peak (MFU), memory.

`model_tflops_per_s` counts what the model needs of these very examples: causal attention inside each document, logits
of trained tokens. `mfu` is the paper's form (section 2.4), which counts a whole sequence for every token and all
logits, so that it can be compared with published figures; it is told where the device's peak is known.
"""

import resource
import time
from typing import Any

import torch

from models.flops import Trainable, exact_flops, mfu, peak_flops, training_flops
from models.train import StepReport, Trainer
from tasks.configs.training import TrainingConfig


class Speed:
    """Of this process's part of a training, from now on."""

    def __init__(self, trainer: Trainer[Any], config: TrainingConfig) -> None:
        self.trainer = trainer
        self.shape = trainer.objective.config
        self.trainable: Trainable = config.trainable
        self.rank = config.lora_rank
        self.device = trainer.workers.device
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        self.peak = peak_flops(name, config.resources.written_precision) if name else None
        self.started, self.tokens_before = time.monotonic(), trainer.tokens
        self.flops = self.paper_flops = self.busy = 0.0

    def add(self, report: StepReport) -> dict[str, float]:
        """The step's figures for the curves."""
        flops = exact_flops(self.shape, report.work, self.trainable, self.rank)
        # Every token with all of its own document, of (nearly) twice as many pairs as causal ones.
        sequence = round(2 * report.work.pairs / max(1, report.work.tokens))
        paper = training_flops(self.shape, report.work.tokens, sequence)
        self.flops, self.paper_flops, self.busy = (
            self.flops + flops,
            self.paper_flops + paper,
            self.busy + report.seconds,
        )
        return self._rates(flops, paper, report.seconds) | {"peak_memory_gib": peak_memory_gib(self.device)}

    def tokens_per_s(self) -> float:
        return round((self.trainer.tokens - self.tokens_before) / (time.monotonic() - self.started), 1)

    def metrics(self) -> dict[str, float]:
        """Over the steps of this attempt."""
        rates = self._rates(self.flops, self.paper_flops, self.busy) if self.busy else {}
        return {"tokens_per_s": self.tokens_per_s()} | rates

    def summary(self) -> str:
        totals, found = self.trainer.totals, self.metrics()
        share = f", MFU {found['mfu']:.1%}" if "mfu" in found else ""
        memory = peak_memory_gib(self.device)
        return (
            f"{totals.step} steps, {totals.tokens} tokens, {found['tokens_per_s']} tokens/s, "
            f"{found.get('model_tflops_per_s', 0):.3g} TFLOP/s{share}, peak memory {memory:.1f} GiB, "
            f"best loss {totals.best_loss:.4g}, {totals.skipped} skipped"
        )

    def _rates(self, flops: float, paper: float, seconds: float) -> dict[str, float]:
        rates = {"model_tflops_per_s": flops / seconds / 1e12}
        if self.peak is not None:
            rates["mfu"] = mfu(paper, seconds, self.trainer.workers.plan.world, self.peak)
        return rates


def peak_memory_gib(device: torch.device) -> float:
    """Of the GPU that is trained on, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
