"""AdamW and the learning rate's course.

constant   warmup, then the full rate                              (paper: every alignment stage)
cosine     warmup, then half a cosine down to the final rate
wsd        warmup, the full rate, then a straight line down over the last part
decay      an exponential from the first step to the final rate    (paper: continued pretraining, steep decay)
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Schedule = Literal["constant", "cosine", "wsd", "decay"]


@dataclass(frozen=True)
class OptimizerSettings:
    learning_rate: float
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    decay_fraction: float = 0.2
    """Share of all steps over which "wsd" goes down."""
    final_fraction: float = 0.0
    """Last learning rate as a share of the full one, where the schedule goes down; above 0 for "decay"."""
    weight_decay: float = 0.0
    """On matrices only; norms and biases never decay."""
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip_norm: float | None = 1.0
    """Largest global gradient norm; None never clips."""

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of the 0-based `step` of `steps`."""
        return self.learning_rate * self._share(step, steps)

    def _share(self, step: int, steps: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        down = _progress(step, self.warmup_steps, steps)
        match self.schedule:
            case "constant":
                return 1.0
            case "cosine":
                return self._between((1 + math.cos(math.pi * down)) / 2)
            case "wsd":
                start = max(self.warmup_steps, steps - round(self.decay_fraction * steps))
                return self._between(1 - _progress(step, start, steps))
            case "decay":
                return self.final_fraction**down

    def _between(self, height: float) -> float:
        """1 at height 1, the final fraction at height 0."""
        return self.final_fraction + (1 - self.final_fraction) * height


def _progress(step: int, start: int, steps: int) -> float:
    """0 up to `start`, 1 at the last step."""
    return min(1.0, max(0, step - start + 1) / max(1, steps - start))


def make_optimizer(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over `parameters`; raises ValueError where there are none."""
    wanted = list(parameters)
    if not wanted:
        raise ValueError("no parameter is trainable; expected at least one with requires_grad")
    groups = [
        {"params": [p for p in wanted if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in wanted if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,
    )
