"""The trainer: any objective, one process or many, exact resume.

    for each step:
        the plan names the step's examples: the global batch
        they are packed into rows of at most `microbatch_tokens`, and dealt out to the data-parallel processes
        each row adds its share of the batch's loss and gradient
        the gradient is clipped, AdamW moves the weights       (not where loss or gradient is NaN or Inf: counted)

A checkpoint holds weights, optimizer moments, RNG and counters, and between two rounds of a step the gradient summed so
far; the step alone fixes the data position, so training that was killed and resumed gives the same bytes as training
that was not. Parallel plans and precision are applied to the model from outside (`models.parallel`).
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from models.accumulation import Accumulation
from models.batches import BatchPlan
from models.flops import Work
from models.objectives import Objective
from models.optim import MOMENTS, OptimizerSettings, make_optimizer
from models.parallel.workers import Workers
from models.train_state import load_state, save_state, stored_shapes

Example = TypeVar("Example")

MOST_SKIPPED = 20
"""Steps that may be skipped one after another before training gives up."""
SPIKE_WINDOW = 32
"""Healthy steps whose losses a spike is measured against."""
SPIKE_STEPS = 3
"""Steps in a row whose loss must be a spike before training stops."""
TOTALS, BEGUN = "totals.json", "begun-{:05d}.json"
"""The second for each data-parallel group, where a step was under way."""


class Diverged(ValueError):
    """Loss or gradient stayed NaN or Inf, or the loss stayed far above what it was."""


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
    work: Work
    seconds: float
    waited: float
    """Share of the seconds in which examples were fetched and packed."""
    skipped: bool

    def values(self) -> dict[str, float]:
        """What goes on the curves."""
        return self.metrics | {
            "learning_rate": self.learning_rate,
            "grad_norm": self.grad_norm,
            "tokens_per_s": self.tokens / self.seconds,
            "data_wait_share": self.waited,
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
    best_loss: float = math.inf
    """Lowest of any step."""
    recent: list[float] = field(default_factory=list)
    """Losses of the last healthy steps."""
    spikes_in_a_row: int = 0

    @property
    def updates(self) -> int:
        """Steps that moved the weights."""
        return self.step - self.skipped

    def add(self, report: StepReport) -> None:
        self.step = report.step
        self.tokens += report.tokens
        self.skipped += report.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if report.skipped else 0
        if not report.skipped:
            self.sums = {name: self.sums.get(name, 0.0) + value for name, value in report.metrics.items()}
            self.last = report.metrics
            self.best_loss = min(self.best_loss, report.metrics["loss"])

    def watch(self, loss: float, factor: float) -> None:
        """Count a loss of more than `factor` times the largest of the last steps; any other takes its place there."""
        if len(self.recent) == SPIKE_WINDOW and loss > factor * max(self.recent) > 0:
            self.spikes_in_a_row += 1
        else:
            self.spikes_in_a_row = 0
            self.recent = [*self.recent[1 - SPIKE_WINDOW :], loss]

    def means(self) -> dict[str, float]:
        return {name: total / self.updates for name, total in self.sums.items()}


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
        workers: Workers | None = None,
    ) -> None:
        self.model = model
        self.workers = workers or Workers()
        self.objective = objective
        self.examples = examples
        self.plan = plan
        self.settings = settings
        self.microbatch_tokens = microbatch_tokens
        # By the names of the state dict, which other kernels' modules share.
        self.parameters = {name: p for name, p in model.state_dict(keep_vars=True).items() if p.requires_grad}
        self.optimizer = make_optimizer(self.parameters.values(), settings)
        self.totals = Totals()
        self.begun: Accumulation[Example] | None = None
        """The step under way, seen between its rounds."""

    def run(self, on_microbatch: Callable[[float], None] = lambda done: None) -> Iterator[StepReport]:
        """Yield after every step until the plan ends. `on_microbatch` hears steps done, with the current one's share;
        then, too, the trainer may be saved.

        Raises Diverged when steps keep giving NaN or Inf, or losses far above the ones before.
        """
        self.model.train()
        while self.totals.step < self.plan.steps:
            report = self._train_step(on_microbatch)
            self.totals.add(report)
            self._check_health(report)
            yield report
        self.model.eval()

    def _check_health(self, report: StepReport) -> None:
        if self.totals.skipped_in_a_row >= MOST_SKIPPED:
            raise Diverged(
                f"loss or gradient was NaN or Inf in {MOST_SKIPPED} steps in a row, up to step {report.step}"
            )
        factor = self.settings.spike_factor
        if factor is None or report.skipped:
            return
        self.totals.watch(report.metrics["loss"], factor)
        if self.totals.spikes_in_a_row >= SPIKE_STEPS:
            raise Diverged(
                f"the loss was above {factor:g} times the largest of {SPIKE_WINDOW} steps before ("
                f"{max(self.totals.recent):g}) in {SPIKE_STEPS} steps in a row, up to step {report.step} with "
                f"{report.metrics['loss']:g}"
            )

    def _train_step(self, on_microbatch: Callable[[float], None]) -> StepReport:
        step = self.totals.step
        if self.begun is None:
            self.optimizer.zero_grad(set_to_none=True)
            self.begun = self._begin()
        run = self.begun
        for share in run.rounds(Tensor.backward):
            on_microbatch(step + share)
        self.begun = None
        metrics = run.metrics()
        rate = self.settings.rate(step, self.plan.steps)
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        grad_norm = self.workers.clip(self.parameters.values(), limit)
        healthy = math.isfinite(grad_norm) and math.isfinite(metrics["loss"])
        if healthy:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        seconds = run.seconds()
        waited = run.waited / seconds
        return StepReport(step + 1, metrics, rate, grad_norm, run.tokens, run.work, seconds, waited, not healthy)

    def _begin(self) -> Accumulation[Example]:
        """The next step, nothing of it done."""
        started = time.perf_counter()
        batch = [self.examples[index] for index in self.plan.batch(self.totals.step)]
        return Accumulation(self.objective, batch, self.microbatch_tokens, self.workers, started)

    @property
    def mid_step(self) -> bool:
        """Whether a step is under way, with rounds to come."""
        return self.begun is not None and self.begun.done < len(self.begun.dealt)

    @property
    def tokens(self) -> int:
        """Trained on so far, also in the step under way."""
        return self.totals.tokens + (self.begun.tokens_done if self.begun else 0)

    def evaluate(self, examples: Sequence[Example]) -> float:
        """The objective's loss over examples that it is not trained on."""
        loss = evaluate(self.objective, examples, self.microbatch_tokens, self.workers)["loss"]
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # without a backward pass the gathered weights would stay, and grow stale
        return loss

    def save(self, folder: Path) -> Callable[[], None]:
        """Copy now what `restore` needs and write it into an existing folder in the background; the result waits.

        All processes call it; each writes its own part.
        """
        if self.workers.rank == 0:
            (folder / TOTALS).write_text(json.dumps(asdict(self.totals)))
        if self.begun is not None and self.workers.rank % self.workers.plan.tensor == 0:  # its neighbours know the same
            (folder / BEGUN.format(self.workers.data_rank)).write_text(json.dumps(self.begun.state()))
        return save_state(self._tensors(), folder)

    def restore(self, folder: Path) -> int:
        """Go on from a folder that `save` wrote, perhaps by other processes than these.

        A step that was under way goes on with its next round where this trainer deals its batch out alike, and else
        from its beginning; returns the rounds that are then done again. Raises ValueError where the folder belongs to
        another model.
        """
        self.totals = Totals(**json.loads((folder / TOTALS).read_text()))
        left_aside = self._go_on(folder)
        stored = stored_shapes(folder)
        if self.totals.updates:
            self.optimizer.prepare(self.totals.updates)
        for name, parameter in self.parameters.items():
            goes_on = self.begun is not None and f"gradients.{name}" in stored
            parameter.grad = torch.zeros_like(parameter) if goes_on else None
        tensors = self._tensors()
        # What a loss does not use (the unembedding of a reward model) has no moments.
        tensors = {name: t for name, t in tensors.items() if name in stored or name.startswith("weights.")}
        load_state(tensors, folder, leaving_out="gradients." if left_aside else None)
        torch.set_rng_state(tensors["rng"])
        return left_aside

    def _go_on(self, folder: Path) -> int:
        """Take up the step under way, if there was one; returns the rounds that cannot be taken up."""
        self.begun = None
        first, own = (folder / BEGUN.format(group) for group in (0, self.workers.data_rank))
        if not first.exists():
            return 0
        run, state = self._begin(), json.loads((own if own.exists() else first).read_text())
        if not run.go_on(state):
            return state["done"]
        self.begun = run
        return 0

    def _tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds now: moments after the first update, gradients within a step."""
        weights = {f"weights.{name}": parameter.detach() for name, parameter in self.parameters.items()}
        state = self.optimizer.state
        moments = {
            f"{moment}.{name}": state[parameter][moment]
            for moment in MOMENTS
            for name, parameter in self.parameters.items()
            if self.totals.updates and parameter in state
        }
        gradients = {
            f"gradients.{name}": parameter.grad
            for name, parameter in self.parameters.items()
            if self.begun is not None and parameter.grad is not None
        }
        return weights | moments | gradients | {"rng": torch.get_rng_state()}


@torch.no_grad()
def evaluate(
    objective: Objective[Example], examples: Sequence[Example], microbatch_tokens: int, workers: Workers | None = None
) -> dict[str, float]:
    """The objective's metrics over all `examples`, without training on them."""
    run = Accumulation(objective, examples, microbatch_tokens, workers or Workers())
    for _ in run.rounds(lambda loss: None):
        continue
    return run.metrics()
