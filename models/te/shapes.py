"""What FP8 asks of a model's sizes and of a row's length; imports no torch.

FP8 matrix products read runs of 16 bytes along the dimension that they sum over. The forward pass sums over an input's
size, the backward pass also over an output's size and, for the weight's gradient, over tokens: so all three are
multiples of 16. Transformer Engine itself checks tokens only against 8, which is the forward pass's rule, and pads its
own grouped products to 16 (`get_align_size_for_quantization`), with either scaling.
"""

from typing import Literal

from models.config import ModelConfig
from models.planner import Precision

Scaling = Literal["current", "block"]
"""FP8 with one scale for a tensor, or one for each 128 values of an input and each 128 x 128 block of a weight."""

FP8_MULTIPLE = 16


def padding_tokens(tokens: int, precision: Precision) -> int:
    """How many tokens a row of `tokens` lacks to the next length that the arithmetic takes."""
    return -tokens % FP8_MULTIPLE if precision == "fp8" else 0


def check_shape(config: ModelConfig, precision: Precision, tensor_parallel: int = 1) -> None:
    """Raises ValueError where Transformer Engine cannot run a model of this shape."""
    if tensor_parallel != 1:
        raise ValueError(
            f"tensor_parallel is {tensor_parallel}; expected 1 with kernels=te, whose layers are not split here "
            "(shard the weights over the GPUs instead, or set kernels=torch)"
        )
    if precision != "fp8":
        return
    heads = config.num_heads + 2 * config.num_kv_heads
    sizes = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_heads * head_dim": config.num_heads * config.head_dim,
        "(num_heads + 2 * num_kv_heads) * head_dim": heads * config.head_dim,
    }
    wrong = ", ".join(f"{name} is {size}" for name, size in sizes.items() if size % FP8_MULTIPLE)
    if wrong:
        raise ValueError(
            f"{wrong}; FP8 takes multiples of {FP8_MULTIPLE} (set precision=bf16, or take a model of other sizes)"
        )
