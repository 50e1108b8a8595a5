"""What the decoder keeps of a training row between its forward and backward pass; imports no torch.

One token of one layer, by who needs it again. Linear layers need their inputs, attention its operands and result, norms
their inputs; what one operation needs of another's result is kept once. Recomputation keeps the input of what it makes
again, and holds the rest of one such part only, while that part's backward pass runs.

D = hidden size, Q = width of all query heads, K = width of all key heads, F = MLP width, H = query heads.
"""

from dataclasses import dataclass
from typing import Literal

from models.config import ModelConfig

Precision = Literal["fp32", "bf16", "fp8"]
Recompute = Literal["none", "selective", "full"]
ELEMENT_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp8": 2}
"""Of what the operations between linear layers keep."""
INPUT_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp8": 1}
"""Of the linear layers' inputs."""


@dataclass(frozen=True)
class LayerActivations:
    """Bytes of one token on each device of a tensor-parallel group."""

    entry: int
    """The layer's input."""
    attention: int
    """What the norm before it and the attention block keep beside the layer's input."""
    mlp_entry: int
    """The MLP's input and what the norm before it keeps."""
    mlp: int
    """What the MLP keeps beside its input."""
    passing: int
    """Gradients and products that the backward pass holds at once, at most."""

    def kept(self, recompute: Recompute) -> int:
        """From the forward pass to the backward pass."""
        match recompute:
            case "none":
                return self.entry + self.attention + self.mlp_entry + self.mlp
            case "selective":
                return self.entry + self.attention + self.mlp_entry
            case "full":
                return self.entry

    def held(self, recompute: Recompute) -> int:
        """Beside what is kept, while one layer's backward pass runs."""
        return self.kept("none") - self.kept(recompute) + self.passing


def layer_activations(
    config: ModelConfig,
    precision: Precision = "fp32",
    tensor_parallel: int = 1,
    lora_rank: int = 0,
    magnitudes: bool = False,
) -> LayerActivations:
    """Heads and MLP width are split over the group, and between them the tokens; each reads all normed tokens.

    Low-rank additions keep their narrow middle, of every linear layer; with `magnitudes` (DoRA) also its result.
    """
    value, entering = ELEMENT_BYTES[precision], INPUT_BYTES[precision]
    hidden, share = config.hidden_size, config.hidden_size / tensor_parallel
    queries = config.num_heads // tensor_parallel * config.head_dim
    keys = max(1, config.num_kv_heads // tensor_parallel) * config.head_dim
    width = config.intermediate_size / tensor_parallel
    logsumexp = 4 * config.num_heads // tensor_parallel
    nemotron = config.family == "nemotron"
    # Squared ReLU keeps its root; SwiGLU gate and up, and makes what comes between again.
    inner, passing = (1, 2) if nemotron else (2, 0)
    attention = (2 * queries + 2 * keys) * value + queries * entering + logsumexp
    results = (queries + 2 * keys + hidden, (1 if nemotron else 2) * width + hidden) if magnitudes else (0, 0)
    return LayerActivations(
        entry=round(share * value),
        attention=round(hidden * entering + attention + (4 * lora_rank + results[0]) * value),
        mlp_entry=round(share * value + hidden * entering),
        mlp=round(inner * width * value + width * entering + (3 * lora_rank + results[1]) * value),
        passing=round((passing * width + hidden) * value),
    )
