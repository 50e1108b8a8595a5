"""The trainer: one device, any objective, exact resume.

    for each step:
        the plan names the step's examples: the global batch
        they are packed into rows of at most `microbatch_tokens`
        each row adds its share of the batch's loss and gradient
        the gradient is clipped, AdamW moves the weights       (not where loss or gradient is NaN or Inf: counted)

A checkpoint holds weights, optimizer moments, RNG and counters; the step alone fixes the data position, so training
that was killed and resumed gives the same bytes as training that was not. Parallel plans and precision are applied to
the model from outside.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.batches import BatchPlan
from models.objectives import Objective
from models.optim import OptimizerSettings, make_optimizer
from models.packing import pack

Example = TypeVar("Example")

MOMENTS = ("exp_avg", "exp_avg_sq")
MOST_SKIPPED = 20
"""Steps that may be skipped one after another before training gives up."""


class Diverged(ValueError):
    """Loss or gradient stayed NaN or Inf."""


@dataclass(frozen=True)
class StepReport:
    """One optimizer step, as it is logged."""

    step: int
    """Steps done, this one included."""
    metrics: dict[str, float]
    """The objective's own, over the global batch; "loss" among them."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: int
    seconds: float
    skipped: bool

    def values(self) -> dict[str, float]:
        """What goes on the curves."""
        return self.metrics | {
            "learning_rate": self.learning_rate,
            "grad_norm": self.grad_norm,
            "tokens_per_s": self.tokens / self.seconds,
            "skipped": float(self.skipped),
        }


@dataclass
class Totals:
    """Counters over the whole run, carried through resumes."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    tokens: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    """Sum over steps of each of the objective's metrics; steps with a NaN or Inf loss left out."""
    last: dict[str, float] = field(default_factory=dict)

    def add(self, report: StepReport) -> None:
        self.step = report.step
        self.tokens += report.tokens
        self.skipped += report.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if report.skipped else 0
        if not report.skipped:
            self.sums = {name: self.sums.get(name, 0.0) + value for name, value in report.metrics.items()}
            self.last = report.metrics

    def means(self) -> dict[str, float]:
        return {name: total / (self.step - self.skipped) for name, total in self.sums.items()}


class Trainer(Generic[Example]):
    """Trains the parameters of `model` that require gradients."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Example],
        examples: Sequence[Example],
        plan: BatchPlan,
        settings: OptimizerSettings,
        microbatch_tokens: int,
    ) -> None:
        self.model = model
        self.objective = objective
        self.examples = examples
        self.plan = plan
        self.settings = settings
        self.microbatch_tokens = microbatch_tokens
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.parameters.values(), settings)
        self.totals = Totals()

    def run(self, on_microbatch: Callable[[float], None] = lambda done: None) -> Iterator[StepReport]:
        """Yield after every step until the plan ends. `on_microbatch` hears steps done, with the current one's share.

        Raises Diverged when steps keep giving NaN or Inf.
        """
        self.model.train()
        while self.totals.step < self.plan.steps:
            report = self._train_step(on_microbatch)
            self.totals.add(report)
            if self.totals.skipped_in_a_row >= MOST_SKIPPED:
                raise Diverged(
                    f"loss or gradient was NaN or Inf in {MOST_SKIPPED} steps in a row, up to step {report.step}"
                )
            yield report
        self.model.eval()

    def _train_step(self, on_microbatch: Callable[[float], None]) -> StepReport:
        started = time.perf_counter()
        step = self.totals.step
        batch = [self.examples[index] for index in self.plan.batch(step)]
        self.optimizer.zero_grad(set_to_none=True)
        metrics: dict[str, float] = {}
        for share, part in accumulate(self.objective, batch, self.microbatch_tokens, backward=True):
            metrics = {name: metrics.get(name, 0.0) + float(value) for name, value in part.items()}
            on_microbatch(step + share)
        rate = self.settings.rate(step, self.plan.steps)
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        grad_norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), limit))
        healthy = math.isfinite(grad_norm) and math.isfinite(metrics["loss"])
        if healthy:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        tokens = sum(map(self.objective.length, batch))
        return StepReport(step + 1, metrics, rate, grad_norm, tokens, time.perf_counter() - started, not healthy)

    def save(self, folder: Path) -> None:
        """Write everything that `restore` needs into an existing folder."""
        weights = {name: parameter.detach() for name, parameter in self.parameters.items()}
        save_file(weights | {"rng": torch.get_rng_state()}, folder / "weights.safetensors")
        for moment in MOMENTS:
            save_file(self._moments(moment), folder / f"{moment}.safetensors")
        (folder / "totals.json").write_text(json.dumps(asdict(self.totals)))

    def restore(self, folder: Path) -> None:
        """Go on from a folder that `save` wrote. Raises ValueError where it belongs to another model."""
        weights = load_file(folder / "weights.safetensors")
        rng = weights.pop("rng")
        found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        expected = {name: tuple(parameter.shape) for name, parameter in self.parameters.items()}
        if found != expected:
            differing = sorted(set(found.items()) ^ set(expected.items()))[:4]
            raise ValueError(f"the checkpoint in {folder} is of another model: {differing} differ; remove it")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
        self.totals = Totals(**json.loads((folder / "totals.json").read_text()))
        self._restore_moments({moment: load_file(folder / f"{moment}.safetensors") for moment in MOMENTS})
        torch.set_rng_state(rng)

    def _moments(self, moment: str) -> dict[str, Tensor]:
        state = self.optimizer.state
        return {name: state[parameter][moment] for name, parameter in self.parameters.items() if parameter in state}

    def _restore_moments(self, moments: dict[str, dict[str, Tensor]]) -> None:
        updates = torch.tensor(float(self.totals.step - self.totals.skipped))
        for name, parameter in self.parameters.items():
            if name in moments[MOMENTS[0]]:
                restored = {moment: moments[moment][name].to(parameter) for moment in MOMENTS}
                self.optimizer.state[parameter] = {"step": updates.clone().to(parameter.device)} | restored


def accumulate(
    objective: Objective[Example], batch: Sequence[Example], microbatch_tokens: int, *, backward: bool
) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """Run a global batch in packed microbatches; yields the share done and each one's metrics, which add up."""
    lengths = [objective.length(example) for example in batch]
    total_weight = sum(map(objective.weight, batch))
    done = 0
    for members in pack(lengths, microbatch_tokens):
        loss, metrics = objective.loss([batch[index] for index in members], total_weight)
        if backward:
            loss.backward()
        done += sum(lengths[index] for index in members)
        yield done / sum(lengths), metrics


@torch.no_grad()
def evaluate(objective: Objective[Example], examples: Sequence[Example], microbatch_tokens: int) -> dict[str, float]:
    """The objective's metrics over all `examples`, without training on them."""
    metrics: dict[str, float] = {}
    for _, part in accumulate(objective, examples, microbatch_tokens, backward=False):
        metrics = {name: metrics.get(name, 0.0) + float(value) for name, value in part.items()}
    return metrics
