"""What every stage's config has: a recipe that is hashed, and resources that never are."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.parallel.plan import ParallelPlan

Precision = Literal["auto", "fp32", "bf16", "fp8"]
Kind = Literal["dataset", "checkpoint", "evaluation", "verdict", "report"]


class Config(BaseModel):
    """Frozen, closed to unknown keys, defaults validated too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class EndpointResources(Config):
    """How a hosted model is spoken to. The plan's `endpoint` goes to every stage that has none of its own."""

    concurrency: int = Field(default=8, ge=1, le=1024)
    """Requests under way at once."""
    connect_s: float = Field(default=10.0, gt=0)
    """Seconds to wait for a connection."""
    answer_s: float = Field(default=300.0, gt=0)
    """Seconds to wait for a whole answer."""
    attempts: int = Field(default=7, ge=1)
    """Of one request, where the server is busy, fails or cannot be reached."""
    longest_wait_s: float = Field(default=60.0, ge=0)
    """Longest pause between two attempts, whatever the server's Retry-After asks for."""
    allow_http: bool = False
    """Speak unencrypted to another machine: whoever is in between reads prompts, answers and key."""
    prompt_price: float = Field(default=0.0, ge=0)
    """Per million tokens read, in any currency; with `answer_price` it becomes the metric `cost`."""
    answer_price: float = Field(default=0.0, ge=0)
    """Per million tokens written."""
    continuation: Literal["flags", "plain", "ask"] = "flags"
    """How an answer is gone on with. "flags": continue_final_message and add_generation_prompt (vLLM, Ratchet's own
    server). "plain": the conversation just ends with the assistant's words (servers that know a prefix by that).
    "ask": the last user message asks for an answer that begins so (servers that cannot continue, such as OpenAI's)."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field that the server takes for the most tokens of an answer."""
    samples_per_request: int = Field(default=128, ge=1)
    """Most samples to ask for in one request; 1 where the server takes no `n`."""
    leave_out: tuple[str, ...] = ()
    """Fields never sent, such as seed or temperature, where the server refuses them."""

    @field_validator("leave_out")
    @classmethod
    def _not_the_question(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        needed = sorted({"model", "messages"} & {*value})
        if needed:
            raise ValueError(f"{needed} cannot be left out: nothing could be asked without")
        return value


class EngineResources(Config):
    """Engines in Ray actors of their own. With none (`count` 0) the stage's own process generates."""

    count: int = Field(default=0, ge=0, le=1024)
    """Engines at work at once."""
    kind: Literal["own", "vllm"] = "own"
    """vLLM must be installed where the engines run (docs/generation.md); its bytes are not promised twice."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Parts that each engine's model is split into, all on one node."""
    cpus: int = Field(default=1, ge=1)
    """Cores, which are also torch's threads, of each part; with vLLM of each engine."""
    gpus: int = Field(default=0, ge=0)
    """Of each engine: none, or one for each part."""
    python: str = ""
    """Path of another Python, of the same version and with the same Ray, that the engines run in."""

    @property
    def all_cpus(self) -> int:
        """Cores of one engine."""
        return self.cpus * (self.tensor_parallel if self.kind == "own" else 1)

    @model_validator(mode="after")
    def _a_gpu_for_each_part(self) -> "EngineResources":
        if self.gpus not in (0, self.tensor_parallel):
            raise ValueError(f"gpus is {self.gpus}; expected 0, or tensor_parallel, which is {self.tensor_parallel}")
        return self


class Resources(Config):
    """Where and how fast; never part of an artifact's identity."""

    cpus: int = Field(default=0, ge=0)
    """CPU cores reserved for the job, which is also torch's thread count; 0 takes all cores of the node."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of each node that the stage uses."""
    nodes: int = Field(default=1, ge=1)
    workers: int = Field(default=0, ge=0, le=65536)
    """Training processes, each with its share of `cpus`: 0 takes one for each GPU of all nodes, or one without GPUs."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Training processes that share every layer (its heads, its width, its tokens)."""
    replicas: int = Field(default=1, ge=1)
    """Whole copies of the weights among the training processes; within a copy they are sharded (hybrid FSDP)."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activations made again in the backward pass: none, those of the MLPs, or of whole layers."""
    offload: bool = False
    """Keep weights, gradients and optimizer state of training in the processor's memory, not the GPU's."""
    kernels: Literal["torch", "te"] = "torch"
    """Layers that training runs: torch's, or Transformer Engine's (NVIDIA GPUs; docs/transformer_engine.md)."""
    fp8_scaling: Literal["current", "block"] = "current"
    """How Transformer Engine scales FP8 where `precision` is fp8: one scale a tensor, or one a block."""
    batch_rows: int = Field(default=128, ge=1)
    """Rows that the generation engine holds at once."""
    engines: EngineResources = EngineResources()
    precision: Precision = "auto"
    """Of the arithmetic: auto is bf16 on a GPU and fp32 on a processor; fp8 needs engines.kind=vllm where a stage
    writes or judges, kernels=te where it trains. Trained weights and their sums stay in fp32."""
    gpu_memory_gb: float = Field(default=80.0, gt=0)
    """Of one GPU, in 10^9 bytes: what `ratchet plan` counts with."""
    microbatch_tokens: int = Field(default=2048, ge=16)
    """Most tokens in one packed forward and backward pass."""
    checkpoint_every_s: float = Field(default=60.0, gt=0)
    """Seconds between a training stage's own resume checkpoints."""
    endpoint: EndpointResources = EndpointResources()
    """Used where the stage's generator is a hosted model."""

    @model_validator(mode="after")
    def _fp8_has_kernels(self) -> "Resources":
        written_by_vllm = self.engines.count > 0 and self.engines.kind == "vllm"
        if self.precision == "fp8" and self.kernels != "te" and not written_by_vllm:
            raise ValueError(
                "precision is fp8, which our own engine has not: set engines.count and engines.kind=vllm, or for "
                "training kernels=te"
            )
        return self

    @property
    def training_workers(self) -> int:
        """What `workers` comes to."""
        return self.workers or max(1, self.nodes * self.gpus)

    @model_validator(mode="after")
    def _workers_divide(self) -> "Resources":
        if self.gpus and self.workers > self.nodes * self.gpus:
            raise ValueError(
                f"workers is {self.workers} on {self.nodes} nodes of {self.gpus} GPUs; expected at most one a GPU"
            )
        shared = self.tensor_parallel * self.replicas
        if self.training_workers % shared:
            raise ValueError(
                f"{self.training_workers} training processes cannot be split into replicas={self.replicas} of "
                f"tensor_parallel={self.tensor_parallel}; expected a multiple of {shared}"
            )
        return self

    @property
    def parallel_plan(self) -> ParallelPlan:
        """How the training processes share the work."""
        shards = self.training_workers // (self.replicas * self.tensor_parallel)
        return ParallelPlan(self.replicas, shards, self.tensor_parallel)

    @property
    def writes_on_gpus(self) -> bool:
        return bool(self.engines.gpus if self.engines.count else self.gpus)

    @property
    def written_precision(self) -> Literal["fp32", "bf16", "fp8"]:
        """What `precision` comes to."""
        if self.precision != "auto":
            return self.precision
        return "bf16" if self.writes_on_gpus else "fp32"


class StageConfig(Config):
    """One stage's settings. `recipe()` goes into the fingerprint, `resources` stays out of it."""

    stage: ClassVar[str]
    """The stage's name: first part of its artifacts' address."""
    module: ClassVar[str]
    """Module under tasks/ whose `run` does the work."""
    kind: ClassVar[Kind] = "dataset"
    version: ClassVar[int] = 1
    """Raised when the stage's code changes what it makes."""
    in_processes: ClassVar[bool] = False
    """Whether it runs in as many processes as `resources.workers` says, not in the job's alone."""

    seed: int = 0
    salt: str = ""
    """Separates lineages (`--fresh`); empty in an ordinary run."""
    resources: Resources = Resources()

    @property
    def spread(self) -> bool:
        """Whether other processes than the job's own do the work."""
        return self.in_processes and self.resources.training_workers > 1

    def recipe(self) -> dict[str, Any]:
        """What is made, as plain JSON values: everything but `resources`."""
        return self.model_dump(mode="json", exclude={"resources"})
