"""How much memory generation takes on each device, from a model's shape alone; imports no torch.

Weights and key/value heads are split evenly over the devices of a tensor-parallel group; what does not divide (norms,
and key/value heads where there are fewer than devices) is held by each.
"""

from dataclasses import dataclass
from typing import Literal

from models.config import ModelConfig

Precision = Literal["fp32", "bf16", "fp8"]
WEIGHT_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp8": 1}
CACHE_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp8": 2}
"""Keys and values stay in bf16 beside FP8 weights."""
Kind = Literal["own", "vllm"]


@dataclass(frozen=True)
class GenerationMemory:
    """On each device, in bytes."""

    weights: int
    cache_per_token: int
    """Keys and values of one token of one row."""
    cache_tokens: int | None
    """Tokens that the engine keeps room for beside the weights; None where the device's memory is not known."""


def generation_memory(
    config: ModelConfig,
    precision: Precision,
    tensor_parallel: int = 1,
    device_bytes: int | None = None,
    kind: Kind = "own",
) -> GenerationMemory:
    """Our own engine takes half of what the weights leave, vLLM nine tenths of the device with the weights.

    Raises ValueError where the query heads cannot be split over the devices.
    """
    if tensor_parallel < 1 or config.num_heads % tensor_parallel:
        raise ValueError(
            f"tensor_parallel is {tensor_parallel}; expected a divisor of the model's {config.num_heads} query heads"
        )
    heads = max(1, config.num_kv_heads // tensor_parallel)
    weights = -(-config.num_parameters * WEIGHT_BYTES[precision] // tensor_parallel)
    per_token = 2 * config.num_layers * heads * config.head_dim * CACHE_BYTES[precision]
    if device_bytes is None:
        return GenerationMemory(weights, per_token, None)
    room = (device_bytes - weights) // 2 if kind == "own" else device_bytes * 9 // 10 - weights
    return GenerationMemory(weights, per_token, max(0, room) // per_token)
