"""Arithmetic of training, and what share of a device's peak it comes to (MFU); imports no torch.

A multiplication with its addition counts as two operations. A matrix of n parameters costs each token 2n forwards, and
backwards 2n for the inputs' gradient and 2n for its own: 6n. Attention has no parameters; a query that meets a key
costs each layer 2 * H * d for their product and 2 * H * d for the value, and twice that backwards: 12 * H * d. What is
computed a second time (recomputation, attention kernels, logits) is the machine's work, not the model's: it counts
nowhere.

    paper   tokens * (6 * N + 6 * V * D + 12 * L * H * d * sequence)              every token meets a whole sequence
    exact   tokens * 6 * N + predicted * 6 * V * D + pairs * 12 * L * H * d       pairs: causal, inside each document

The paper writes h for H * d (section 2.4); they differ where all heads together are wider or narrower than the hidden
size (Minitron-8B: 6144 and 4096), and the heads are what attention computes with. A document of n tokens has
n * (n + 1) / 2 pairs: half of what the paper's form counts for a sequence of that length.

N = parameters of the layers' matrices, L = layers, H = query heads, d = dimensions of a head, D = hidden size,
V = vocabulary.
"""

import re
from dataclasses import dataclass
from typing import Literal

from models.config import ModelConfig, parameter_shapes

Trainable = Literal["all", "lora", "dora", "none"]
WEIGHT_PASSES: dict[Trainable, int] = {"all": 6, "lora": 4, "dora": 4, "none": 2}
"""Operations per parameter and token: frozen weights have no gradient of their own, scoring has no backward pass."""
PAIR_PASSES: dict[Trainable, int] = {"all": 12, "lora": 12, "dora": 12, "none": 4}


@dataclass(frozen=True)
class Work:
    """What passes through a model; adds up over rows and microbatches."""

    tokens: int
    """That the layers read."""
    pairs: int
    """Queries with the keys that they see."""
    predicted: int
    """Tokens whose logits are made: the trained ones. 0 for a reward model."""

    def __add__(self, other: "Work") -> "Work":
        return Work(self.tokens + other.tokens, self.pairs + other.pairs, self.predicted + other.predicted)


def training_flops(config: ModelConfig, tokens: int, sequence_length: int) -> int:
    """The paper's form, for tokens in full sequences: what its MFU, and everyone's, is counted with."""
    pairs = tokens * sequence_length
    return exact_flops(config, Work(tokens, pairs, predicted=tokens))


def exact_flops(config: ModelConfig, work: Work, trainable: Trainable = "all", lora_rank: int = 0) -> int:
    """Of packed rows (`models.packing.work_of`).

    "lora", "dora": the matrices are frozen, low-rank additions of `lora_rank` are trained beside them. "none": scoring.
    """
    weights = work.tokens * matrix_parameters(config) + work.predicted * config.vocab_size * config.hidden_size
    additions = 6 * work.tokens * lora_parameters(config, lora_rank) if trainable in ("lora", "dora") else 0
    attention = work.pairs * config.num_layers * config.num_heads * config.head_dim
    return WEIGHT_PASSES[trainable] * weights + PAIR_PASSES[trainable] * attention + additions


def causal_pairs(length: int) -> int:
    """Each token sees itself and those before it."""
    return length * (length + 1) // 2


def matrix_parameters(config: ModelConfig) -> int:
    """Of the layers' matrices: embeddings and norms left out (paper: 331.6 B)."""
    return sum(outputs * inputs for outputs, inputs in layer_matrices(config).values()) * config.num_layers


def lora_parameters(config: ModelConfig, rank: int) -> int:
    """Of the low-rank additions to every matrix of the layers."""
    return sum(outputs + inputs for outputs, inputs in layer_matrices(config).values()) * rank * config.num_layers


def layer_matrices(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of one layer's matrices."""
    prefix = "model.layers.0."
    shapes = {name: shape for name, shape in parameter_shapes(config).items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): (shape[0], shape[1]) for name, shape in shapes.items() if len(shape) == 2}


def mfu(flops: float, seconds: float, devices: int, peak: float) -> float:
    """The share of `devices` times `peak` operations a second that a computation of `seconds` reached."""
    if not (seconds > 0 and devices > 0 and peak > 0):
        raise ValueError(f"{seconds} seconds on {devices} devices of {peak} operations/s; expected values above 0")
    return flops / (seconds * devices * peak)


PEAKS: dict[tuple[str, ...], tuple[float, bool]] = {
    ("b200",): (2250e12, True),
    ("gh200",): (989e12, True),
    ("h200",): (989e12, True),
    ("h200", "nvl"): (835e12, True),
    ("h100",): (989e12, True),
    ("h100", "nvl"): (835e12, True),
    ("h100", "pcie"): (756e12, True),
    ("h800",): (989e12, True),
    ("h20",): (148e12, True),
    ("a100",): (312e12, False),
    ("a800",): (312e12, False),
    ("a40",): (149.7e12, False),
    ("a30",): (165e12, False),
    ("a10",): (125e12, False),
    ("l40s",): (362e12, True),
    ("l40",): (181e12, True),
    ("l4",): (121e12, True),
}
"""Words of a device's name; dense bf16 operations a second by its maker's data sheet, and whether FP8 doubles them."""


def peak_flops(device_name: str, precision: Literal["fp32", "bf16", "fp8"] = "bf16") -> float | None:
    """Of a device as torch or nvidia-smi name it ("NVIDIA H100 80GB HBM3"), by the row that shares most words with it.

    None where that is not known: other devices, a part of one (MIG), fp32, FP8 on a device that has none.
    """
    words = {*re.split(r"[^a-z0-9]+", device_name.lower())}
    fitting = [key for key in PEAKS if words.issuperset(key)]
    if not fitting or "mig" in words or precision == "fp32":
        return None
    bf16, has_fp8 = PEAKS[max(fitting, key=len)]
    if precision == "bf16":
        return bf16
    return 2 * bf16 if has_fp8 else None
