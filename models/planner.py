"""How much memory generation and training take on each device, from a model's shape alone; imports no torch.

Weights and key/value heads are split evenly over the devices of a tensor-parallel group; what does not divide (norms,
and key/value heads where there are fewer than devices) is held by each.

Training keeps weights, gradients and AdamW's two moments in fp32, sharded over the workers of one copy: 16 bytes a
parameter. To compute, a worker gathers the embeddings (for as long as a microbatch takes) and two layers (the one at
work and the next) in the precision of the arithmetic, and brings together the gradients of one group at a time, also in
fp32 for their sum. What an accelerator's runtime takes for itself, about 1 GB, is not in it.

V = vocabulary, D = hidden size.
"""

from dataclasses import dataclass
from typing import Literal

from models.activations import ELEMENT_BYTES, Precision, Recompute, layer_activations
from models.config import ModelConfig
from models.flops import layer_matrices, lora_parameters
from models.parallel.plan import ALONE, ParallelPlan

__all__ = ["GenerationMemory", "Precision", "TrainingMemory", "TrainingSetup", "generation_memory", "training_memory"]

WEIGHT_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp8": 1}
CACHE_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp8": 2}
"""Keys and values stay in bf16 beside FP8 weights."""
GATHERED_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp8": 4}
"""FP8 weights are made from gathered bf16 ones, once by rows and once by columns."""
MASTER_BYTES = 4
LOSS_CHUNK_ELEMENTS = 1 << 24
"""`models.losses.logprobs.CHUNK_ELEMENTS`: logits that a loss holds at once."""
LEAST_CHUNK_TOKENS = 32
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
    check_heads(config, tensor_parallel)
    heads = max(1, config.num_kv_heads // tensor_parallel)
    weights = -(-config.num_parameters * WEIGHT_BYTES[precision] // tensor_parallel)
    per_token = 2 * config.num_layers * heads * config.head_dim * CACHE_BYTES[precision]
    if device_bytes is None:
        return GenerationMemory(weights, per_token, None)
    room = (device_bytes - weights) // 2 if kind == "own" else device_bytes * 9 // 10 - weights
    return GenerationMemory(weights, per_token, max(0, room) // per_token)


def check_heads(config: ModelConfig, tensor_parallel: int) -> None:
    if tensor_parallel < 1 or config.num_heads % tensor_parallel:
        raise ValueError(
            f"tensor_parallel is {tensor_parallel}; expected a divisor of the model's {config.num_heads} query heads"
        )


@dataclass(frozen=True)
class TrainingSetup:
    """How training is spread over workers, and what it computes with."""

    plan: ParallelPlan = ALONE
    """One process a device."""
    precision: Precision = "fp32"
    """Of the arithmetic; weights and gradients are kept in fp32 in any case."""
    state_dtype: Literal["fp32", "bf16"] = "fp32"
    """Of AdamW's two moments."""
    microbatch_tokens: int = 2048
    """Tokens of one packed row, which a tensor-parallel group works on together."""
    recompute: Recompute = "none"
    offload: bool = False
    """Weights, gradients and moments are kept in the processor's memory."""
    trainable: Literal["all", "lora", "dora"] = "all"
    lora_rank: int = 0
    reads_logits: bool = True
    """False for a reward model."""

    @property
    def holders(self) -> int:
        """Processes that hold one copy of the weights together."""
        return self.plan.shards * self.plan.tensor


@dataclass(frozen=True)
class TrainingMemory:
    """On each worker, in bytes."""

    weights: int
    gradients: int
    moments: int
    gathered: int
    """Copies of some weights and gradients that are together while they are used."""
    activations: int
    """What all layers keep for the backward pass."""
    loss: int
    """Chunks of logits, and the gradients of hidden states and unembedding that are known before the backward pass."""
    layer: int
    """What one layer's backward pass holds, beside what the loss still keeps; the two peaks come one after another."""
    offload: bool

    @property
    def states(self) -> int:
        """What stays from step to step."""
        return self.weights + self.gradients + self.moments

    @property
    def device(self) -> int:
        """At the peak, where the arithmetic is done."""
        passing = self.gathered + self.activations + max(self.loss, self.layer)
        return passing if self.offload else passing + self.states

    @property
    def host(self) -> int:
        """In the processor's memory beside a device."""
        return self.states if self.offload else 0

    @property
    def total(self) -> int:
        """Of both; without an accelerator they are one."""
        return self.device + self.host


def training_memory(config: ModelConfig, setup: TrainingSetup) -> TrainingMemory:
    """Raises ValueError where the model's layers cannot be split so."""
    setup.plan.check(config)
    added = added_parameters(config, setup)
    weights, trained = config.num_parameters + added, added or config.num_parameters
    moment_bytes = 2 * (4 if setup.state_dtype == "fp32" else 2)
    rank, magnitudes = (setup.lora_rank if added else 0), setup.trainable == "dora"
    kept = layer_activations(config, setup.precision, setup.plan.tensor, rank, magnitudes)
    tokens, value = setup.microbatch_tokens, ELEMENT_BYTES[setup.precision]
    slopes, loss = loss_bytes(config, setup)
    # The final norm's input, and of its result the places that a loss reads.
    ends = 2 * tokens * config.hidden_size * value
    return TrainingMemory(
        weights=-(-weights * MASTER_BYTES // setup.holders),
        gradients=-(-trained * MASTER_BYTES // setup.holders),
        moments=-(-trained * moment_bytes // setup.holders),
        gathered=gathered_bytes(config, setup),
        activations=tokens * config.num_layers * kept.kept(setup.recompute) + ends,
        loss=loss,
        layer=slopes + tokens * kept.held(setup.recompute) + largest_matrix(config) * value // setup.plan.tensor,
        offload=setup.offload,
    )


def added_parameters(config: ModelConfig, setup: TrainingSetup) -> int:
    """Of low-rank additions, which alone are trained; 0 without."""
    if setup.trainable == "all":
        return 0
    outputs = sum(outputs for outputs, _ in layer_matrices(config).values()) * config.num_layers
    return lora_parameters(config, setup.lora_rank) + (outputs if setup.trainable == "dora" else 0)


def gathered_bytes(config: ModelConfig, setup: TrainingSetup) -> int:
    """Nothing where one worker computes in the precision that it keeps."""
    if setup.plan.world == 1 and setup.precision == "fp32":
        return 0
    layer = sum(outputs * inputs for outputs, inputs in layer_matrices(config).values())
    embeddings = config.num_parameters - layer * config.num_layers
    weights = (embeddings + 2 * layer) * GATHERED_BYTES[setup.precision]
    summed = 0 if setup.precision == "fp32" else MASTER_BYTES
    gradients = max(embeddings, layer) * (ELEMENT_BYTES[setup.precision] + summed) if setup.trainable == "all" else 0
    return (weights + gradients) // setup.plan.tensor


def loss_bytes(config: ModelConfig, setup: TrainingSetup) -> tuple[int, int]:
    """What the loss keeps until the backward pass is over, and what it takes at its peak, every token being trained."""
    tokens, value = setup.microbatch_tokens, ELEMENT_BYTES[setup.precision]
    slopes = tokens * config.hidden_size * value
    if not setup.reads_logits:
        return slopes, 2 * slopes
    rows = -(-config.vocab_size // setup.plan.tensor)
    if setup.trainable == "all":
        slopes += rows * config.hidden_size * value
    chunk = min(tokens, max(LEAST_CHUNK_TOKENS, LOSS_CHUNK_ELEMENTS // rows)) * rows
    # Logits as the product gives them and in fp32; later the slopes, scaled.
    element = MASTER_BYTES + (0 if value == MASTER_BYTES else value)
    return slopes, slopes + max(slopes, chunk * element)


def largest_matrix(config: ModelConfig) -> int:
    """Elements of a layer's largest matrix, whose new gradient stands beside the sum of those before."""
    return max(outputs * inputs for outputs, inputs in layer_matrices(config).values())
