"""AdamW and the learning rate's course.

constant   warmup, then the full rate                              (paper: every alignment stage)
cosine     warmup, then half a cosine down to the final rate
wsd        warmup, the full rate, then a straight line down over the last part
decay      an exponential from the first step to the final rate    (paper: continued pretraining, steep decay)
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.parallel.workers import local

MOMENTS = ("exp_avg", "exp_avg_sq")
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
    state_dtype: Literal["fp32", "bf16"] = "fp32"
    """Of both moments."""
    spike_factor: float | None = None
    """Losses above this many times the largest of the steps before, three in a row, stop training; None never does."""

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


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW, whose state can be made before its first step, to be filled from a checkpoint."""

    state_dtype: torch.dtype | None = None
    """Of the moments; None takes the parameters' own."""

    def prepare(self, updates: int) -> None:
        """Give every parameter zero moments, as if after `updates` steps."""
        for parameter in self._all():
            moments = {name: torch.zeros_like(parameter, dtype=self.state_dtype) for name in MOMENTS}
            step = torch.tensor(float(updates), device=parameter.device)
            self.state[parameter] = {"step": step} | moments

    def _all(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class CompactAdamW(AdamW):
    """AdamW with both moments in bf16, half the state; sums are made in fp32. For beta2 up to about 0.98: a smaller
    share of the squared gradient than 2^-8 of the old value is lost in rounding."""

    state_dtype = torch.bfloat16

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if any(parameter not in self.state for parameter in self._all()):
            self.prepare(0)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        state["step"] += 1
        updates, (beta1, beta2) = float(state["step"]), group["betas"]
        gradient = local(gradient).float()
        mean, square = (local(state[name]) for name in MOMENTS)
        mean32 = mean.float().lerp_(gradient, 1 - beta1)
        square32 = square.float().mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        mean.copy_(mean32)
        square.copy_(square32)
        spread = square32.div_(1 - beta2**updates).sqrt_().add_(group["eps"])
        weights = local(parameter)
        weights.mul_(1 - group["lr"] * group["weight_decay"])
        weights.addcdiv_(mean32, spread, value=-group["lr"] / (1 - beta1**updates))


def make_optimizer(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> AdamW:
    """AdamW over `parameters`; raises ValueError where there are none."""
    wanted = list(parameters)
    if not wanted:
        raise ValueError("no parameter is trainable; expected at least one with requires_grad")
    groups = [
        {"params": [p for p in wanted if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in wanted if p.dim() < 2], "weight_decay": 0.0},
    ]
    kind = CompactAdamW if settings.state_dtype == "bf16" else AdamW
    return kind(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=settings.state_dtype == "fp32",
    )
