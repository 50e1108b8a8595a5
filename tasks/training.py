"""What every training stage does around the trainer: open models, resume, tell the curves, write the result.

Rows become examples with `examples_of`, which counts what it drops; `train` runs to the end from the last checkpoint;
`write_model` only lets a model out that reads back with the same logits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError, StageFailed
from infra.output import Output
from models.batches import ExampleBatches
from models.checkpoint import load_model, open_empty, open_streamed, save_model
from models.decoder import Decoder
from models.lora import add_lora
from models.optim import OptimizerSettings
from models.parallel.gather import gathering, home
from models.parallel.workers import Workers
from models.tokenizer import Tokenizer
from models.train import Diverged, StepReport, Trainer
from tasks.configs.base import Resources
from tasks.configs.search import one_value
from tasks.configs.training import AlignmentConfig, TrainingConfig
from tasks.distribution import device_for
from tasks.resume_points import BackgroundCheckpoints
from tasks.training_speed import Speed, peak_memory_gib

Row = Mapping[str, Any]
Example = TypeVar("Example")

CURVE_POINTS = 500
"""Most points of a training curve."""
PROBE_TOKENS = 64
LOGIT_TOLERANCE = 1e-4


class Dropped(Exception):
    """A row that cannot become an example; its message is the reason that is counted."""


def open_model(checkpoint: Artifact, resources: Resources) -> tuple[Decoder, Tokenizer]:
    """A checkpoint on the device that the stage asks for. Raises InputError where there is no model."""
    device = device_for(resources)
    with opening(checkpoint):
        model, tokenizer = load_model(checkpoint.folder())
    return model.to(device), tokenizer


def open_trainee(checkpoint: Artifact, config: TrainingConfig) -> tuple[Decoder, Tokenizer]:
    """A checkpoint to train; low-rank additions are made of whole weights."""
    if config.trainable != "all":
        return open_model(checkpoint, config.resources)
    return open_for(config.resources, checkpoint)


def open_for(resources: Resources, checkpoint: Artifact) -> tuple[Decoder, Tokenizer]:
    """A checkpoint for `tasks.distribution.spread`, which lets processes that share it read their slices alone."""
    if resources.training_workers == 1:
        return open_model(checkpoint, resources)
    with opening(checkpoint):
        return open_empty(checkpoint.folder())


@contextmanager
def opening(checkpoint: Artifact) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{checkpoint.uri} holds no model that can be opened: {error}", "give a checkpoint") from error


def examples_of(rows: Iterable[Row], make: Callable[[Row], Example], what: str) -> tuple[list[Example], dict[str, int]]:
    """Examples in the order of the rows, and the counts "in", "kept" and "dropped:<reason>".

    `make` raises Dropped for a row to leave out. Raises EmptyDataset where none is left, with the counts; `what` says
    what the rows are.
    """
    examples: list[Example] = []
    counts = {"in": 0, "kept": 0}
    for row in rows:
        counts["in"] += 1
        try:
            examples.append(make(row))
            counts["kept"] += 1
        except Dropped as reason:
            counts[f"dropped:{reason}"] = counts.get(f"dropped:{reason}", 0) + 1
    if not examples:
        raise EmptyDataset(f"no {what} to train on: {counts}", "give more rows, or raise max_tokens")
    return examples, counts


def encoded(encode: Callable[[], Example]) -> Example:
    """What `encode` makes of a row; a conversation that the chat template refuses is dropped."""
    try:
        return encode()
    except ValueError as error:
        raise Dropped("not renderable") from error


def keep_short(tokens: int, limit: int) -> None:
    if tokens > limit:
        raise Dropped(f"over {limit} tokens")


def token_limit(config: TrainingConfig, model: Decoder) -> int:
    """Most tokens of one sequence: the stage's setting, and no more positions than the model has."""
    return min(config.max_tokens, model.config.max_positions)


def choose_weights(model: Decoder, config: TrainingConfig) -> None:
    """Leave all of the model's weights trainable, or freeze them beside low-rank additions; `merge_lora` undoes it."""
    if config.trainable != "all":
        add_lora(model, config.lora_rank, config.lora_alpha, config.seed, magnitudes=config.trainable == "dora")


def optimizer_settings(config: TrainingConfig) -> OptimizerSettings:
    return OptimizerSettings(
        learning_rate=one_value("learning_rate", config.learning_rate),
        schedule=config.schedule,
        warmup_steps=config.warmup_steps,
        decay_fraction=config.decay_fraction,
        final_fraction=config.final_fraction,
        weight_decay=config.weight_decay,
        beta1=config.adam_beta1,
        beta2=config.adam_beta2,
        clip_norm=config.clip_norm,
        state_dtype=config.optimizer_dtype,
        spike_factor=config.spike_factor,
    )


def example_batches(
    config: AlignmentConfig, examples: Sequence[Any], prompts: Sequence[str] | None = None
) -> ExampleBatches:
    """`prompts`: of each example; those of one prompt are trained on together."""
    epochs = config.epochs if config.steps is None else None
    return ExampleBatches(
        len(examples), config.global_batch_size, config.seed, epochs=epochs, steps=config.steps, together=prompts
    )


def train(
    trainer: Trainer[Any],
    config: TrainingConfig,
    output: Output,
    on_step: Callable[[StepReport], None] = lambda report: None,
    save: Callable[[Path], None] = lambda folder: None,
) -> dict[str, float]:
    """Train to the end, from the last checkpoint where there is one; returns metrics.

    `on_step` runs after every step; `save` may add files to a checkpoint. Raises StageFailed when training diverges.
    """
    speed, steps = Speed(trainer, config), trainer.plan.steps

    with BackgroundCheckpoints(trainer, output, save, config.resources.checkpoint_every_s) as checkpoints:

        def on_microbatch(done: float) -> None:
            output.progress(done, steps, "steps", tokens_per_s=speed.tokens_per_s())
            checkpoints.after_round()

        try:
            for report in trainer.run(on_microbatch):
                log_step(report, steps, speed, output)
                on_step(report)
                checkpoints.after_step()
        except Diverged as error:
            raise StageFailed(str(error), "lower the learning rate, or look at the data of these steps") from error
    output.say(speed.summary())
    return training_metrics(trainer) | speed.metrics()


def log_step(report: StepReport, steps: int, speed: Speed, output: Output) -> None:
    """A point of the curves, of which there are at most CURVE_POINTS."""
    figures = speed.add(report)
    if report.step % max(1, steps // CURVE_POINTS) == 0 or report.step == steps:
        output.log_metrics(report.step, report.values() | figures)


def resume(trainer: Trainer[Any], output: Output) -> Path | None:
    """Go on from the stage's last checkpoint; returns its folder."""
    found = output.last_checkpoint()
    if found is None:
        return None
    step, folder = found
    left_aside, next_one = trainer.restore(folder), ""
    if (begun := trainer.begun) is not None:
        next_one = f", after {begun.done} of {len(begun.dealt)} rounds of the next one"
    elif left_aside:
        next_one = (
            f"; {left_aside} rounds of the next one were of another microbatch_tokens or number of data-parallel "
            "processes: it begins anew"
        )
    output.say(f"resumed at step {step} of {trainer.plan.steps}{next_one}")
    return folder


def training_metrics(trainer: Trainer[Any]) -> dict[str, float]:
    """Means over the run and last values of the objective's metrics, with counters."""
    totals = trainer.totals
    means = {f"mean_{name}": value for name, value in totals.means().items()}
    last = {f"final_{name}": value for name, value in totals.last.items()}
    counters = {"steps": totals.step, "skipped_steps": totals.skipped, "tokens": totals.tokens}
    return means | last | counters | {"peak_memory_gib": peak_memory_gib(trainer.workers.device)}


@torch.no_grad()
def write_model(model: Decoder, tokenizer: Tokenizer, output: Output, probe: Sequence[int], workers: Workers) -> None:
    """Write a Hugging Face folder, after comparing the logits of what was written on the `probe` tokens.

    Every process calls it, since each may hold a part of the weights; the first one writes. No process holds more than
    a shard of the folder, or a weight of either side. Raises StageFailed where the logits differ.
    """
    folder = output.scratch_folder()
    save_model(model, tokenizer, folder, workers=workers)
    token_ids_1T = torch.tensor([list(probe)[:PROBE_TOKENS]])
    ours = gathering(model, workers)(token_ids_1T.to(home(workers)))
    if workers.rank == 0:
        written, _ = open_streamed(folder)
        check_same(ours, written(token_ids_1T), "logits")
        output.write_folder(folder)


def check_same(trained: torch.Tensor, written: torch.Tensor, what: str) -> None:
    """Raises StageFailed where what was written differs from what was trained, or is not finite."""
    difference = float((trained - written).abs().max())
    if not difference <= LOGIT_TOLERANCE:
        raise StageFailed(
            f"the written model's {what} differ from the trained one's by {difference:g}, over {LOGIT_TOLERANCE:g}",
            "this is a defect of the export, or the weights are not finite; the model was not kept",
        )


def licences_of(base: Artifact | None, rows: Iterable[Row]) -> list[str]:
    """Every licence that the model and the rows carry: a model's licence is derived from all of them."""
    result = base.manifest().result if base is not None else {}
    stated = result.get("licences") or [result.get("licence")]
    return sorted({licence for licence in [*stated, *(row["licence"] for row in rows)] if licence})
