"""Memory that a plan's training stages take, beside what there is."""

from dataclasses import dataclass

import psutil

from infra.errors import InputError
from models.config import ModelConfig
from models.planner import TrainingMemory, TrainingSetup, training_memory
from tasks.configs.base import Resources, StageConfig
from tasks.configs.training import PreferenceTuningConfig, RewardModelConfig, TrainingConfig


@dataclass(frozen=True)
class StageMemory:
    """Estimates in bytes, at the peak."""

    on_gpus: bool
    needed: int
    """On each GPU; without GPUs, of all training processes of one machine."""
    available: int
    """`resources.gpu_memory_gb`; without GPUs, what this machine has."""
    fits: bool
    host: int
    """In the machine's memory, of each process that keeps its weights there (`resources.offload`)."""
    weights: int
    """Of each process, as what follows."""
    gradients: int
    moments: int
    gathered: int
    activations: int
    passing: int
    """The loss or one layer's backward pass, whichever takes more."""


def stage_memory(label: str, config: StageConfig, shape: ModelConfig | None) -> StageMemory | None:
    """None for a stage that trains no decoder, and while the model's shape is not known.

    Raises InputError where the model cannot be split as the stage's resources say.
    """
    if shape is None or not isinstance(config, TrainingConfig) or is_closed_form(config):
        return None
    resources = config.resources
    try:
        memory = training_memory(shape, training_setup(config, shape))
    except ValueError as error:
        raise InputError(f"{label}: {error}", "change the stage's resources") from error
    processes = processes_together(resources)
    needed = processes * (memory.device if resources.gpus else memory.total)
    available = round(resources.gpu_memory_gb * 1e9) if resources.gpus else psutil.virtual_memory().total
    return StageMemory(
        on_gpus=resources.gpus > 0,
        needed=needed,
        available=available,
        fits=needed <= available,
        host=memory.host if resources.gpus else 0,
        **parts(memory),
    )


def is_closed_form(config: TrainingConfig) -> bool:
    return isinstance(config, RewardModelConfig) and config.mode == "ridge"


def training_setup(config: TrainingConfig, shape: ModelConfig) -> TrainingSetup:
    """What a stage's settings come to, for its longest row: an example longer than a microbatch has one of its own."""
    resources = config.resources
    # Of a pair each answer may be as long as that, after a prompt that stands once.
    longest = min(config.max_tokens, shape.max_positions) * (2 if isinstance(config, PreferenceTuningConfig) else 1)
    return TrainingSetup(
        plan=resources.parallel_plan,
        precision=resources.written_precision,
        state_dtype=config.optimizer_dtype,
        microbatch_tokens=max(resources.microbatch_tokens, longest),
        recompute=resources.recompute,
        offload=resources.offload and resources.gpus > 0,
        trainable=config.trainable,
        lora_rank=config.lora_rank,
        reads_logits=not isinstance(config, RewardModelConfig),
    )


def processes_together(resources: Resources) -> int:
    """Training processes that share one GPU, or one machine where there are none."""
    return -(-resources.training_workers // (resources.nodes * max(1, resources.gpus)))


def parts(memory: TrainingMemory) -> dict[str, int]:
    return {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "moments": memory.moments,
        "gathered": memory.gathered,
        "activations": memory.activations,
        "passing": max(memory.loss, memory.layer),
    }


def refuse_too_large(stages: dict[str, StageMemory]) -> None:
    """Raises InputError for stages, by label, that do not fit, naming the largest."""
    too_large = {label: memory for label, memory in stages.items() if not memory.fits}
    if not too_large:
        return
    label, worst = max(too_large.items(), key=lambda item: item[1].needed / item[1].available)
    where = "on each GPU, which has (resources.gpu_memory_gb)" if worst.on_gpus else "on this machine, which has"
    others = f"; {len(too_large) - 1} more stages do not fit" if len(too_large) > 1 else ""
    raise InputError(
        f"{label} takes {gigabytes(worst.needed)} {where} {gigabytes(worst.available)}: "
        f"{gigabytes(worst.activations)} of it are activations of a row of tokens{others}",
        remedy(worst),
    )


def remedy(memory: StageMemory) -> str:
    """What helps, in the stage's settings: rows where they take most, else the weights' states."""
    states = memory.weights + memory.gradients + memory.moments
    if memory.activations + memory.passing > states:
        return "lower the stage's resources.microbatch_tokens and max_tokens, or set its resources.recompute=full"
    more = "resources.offload=true, or more resources.gpus or nodes" if memory.on_gpus else "a smaller base model"
    return f"give the stage {more}, or trainable=lora"


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
