"""Memory of generation and training, against the numbers that are known and against what models really take."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from deployments.known_models import LLAMA_3_1_8B, NEMOTRON_4_340B
from models import planner
from models.activations import Recompute, layer_activations
from models.batches import ExampleBatches
from models.config import ModelConfig
from models.decoder import Decoder, init_model
from models.engine.memory import cache_token_bytes
from models.lora import add_lora
from models.losses import logprobs
from models.objectives import NextToken
from models.optim import OptimizerSettings
from models.packing import Document, pack_row
from models.parallel.plan import ParallelPlan
from models.parallel.split import recompute_activations
from models.planner import TrainingSetup, generation_memory, training_memory
from models.train import Trainer

GIB = 2**30
TOLERANCE = 0.15
NEMOTRON = ModelConfig("nemotron", 500, 128, 512, 4, 8, 4, 24, rotary_fraction=0.5)
LLAMA = ModelConfig("llama", 500, 128, 352, 4, 8, 4, 16)
SHAPES = pytest.mark.parametrize("config", [NEMOTRON, LLAMA], ids=["nemotron", "llama"])
MINITRON_8B = ModelConfig("nemotron", 256_000, 4096, 16_384, 32, 48, 8, 128, rotary_fraction=0.5)
NEMOTRON_15B = ModelConfig("nemotron", 256_000, 6144, 24_576, 32, 48, 8, 128, rotary_fraction=0.5)


def test_the_papers_model_in_fp8_on_eight_gpus() -> None:
    found = generation_memory(NEMOTRON_4_340B, "fp8", 8, 80 * GIB, "vllm")
    assert found.weights == pytest.approx(42.63e9, rel=1e-3)
    assert found.cache_per_token == 2 * 96 * 1 * 192 * 2  # one of its eight key/value heads each
    assert found.cache_tokens == (72 * GIB - found.weights) // found.cache_per_token > 400_000
    ours = generation_memory(LLAMA_3_1_8B, "bf16", 1, 80 * GIB)
    assert ours.cache_tokens == (80 * GIB - ours.weights) // 2 // (2 * 32 * 8 * 128 * 2)


def test_what_does_not_fit_leaves_no_room() -> None:
    assert generation_memory(NEMOTRON_4_340B, "bf16", 8, 80 * GIB, "vllm").cache_tokens == 0
    assert generation_memory(LLAMA_3_1_8B, "bf16").cache_tokens is None
    with pytest.raises(ValueError, match="tensor_parallel is 5; expected a divisor of the model's 32 query heads"):
        generation_memory(LLAMA_3_1_8B, "bf16", 5)


def test_more_devices_than_key_value_heads_each_hold_one() -> None:
    assert generation_memory(LLAMA_3_1_8B, "bf16", 16).cache_per_token == 2 * 32 * 1 * 128 * 2


def test_a_real_models_weights_and_cache_take_what_is_planned() -> None:
    config = ModelConfig("nemotron", 300, 64, 128, 3, 4, 2, 16, rotary_fraction=0.5)
    planned = generation_memory(config, "fp32")
    assert planned.weights == sum(parameter.nbytes for parameter in init_model(config, 0).parameters())
    assert planned.cache_per_token == cache_token_bytes(config, 4)


def test_planning_imports_no_torch() -> None:
    code = "import sys, models.planner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


LENGTHS = (179, 149, 119, 60)
TOKENS = sum(LENGTHS)


def documents(rows: int = 1) -> list[Document]:
    """Rows of TOKENS each, which have nothing in common; the last token of a document is not read."""
    return [
        Document.of([row * len(LENGTHS) + number, *range(length)])
        for row in range(rows)
        for number, length in enumerate(LENGTHS)
    ]


def saved_bytes(model: Decoder, forward: Callable[[], Any]) -> int:
    """What autograd keeps of a forward pass, each storage once; the model's own weights are not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    assert result is not None
    return sum(tensor.untyped_storage().nbytes() for place, tensor in found.items() if place not in own)


def row_activations(model: Decoder) -> int:
    row = pack_row(documents())
    return saved_bytes(model, lambda: model.hidden(row.token_ids_1T, row.positions_1T, row.attend()))


@SHAPES
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_a_real_row_keeps_what_is_planned(config: ModelConfig, recompute: Recompute) -> None:
    model = init_model(config, 0)
    recompute_activations(model, recompute)
    final_norm = TOKENS * config.hidden_size * 4
    planned = layer_activations(config).kept(recompute) * config.num_layers * TOKENS + final_norm
    assert row_activations(model) == pytest.approx(planned, rel=TOLERANCE)


@SHAPES
@pytest.mark.parametrize("magnitudes", [False, True])
def test_a_real_row_beside_frozen_weights_keeps_what_is_planned(config: ModelConfig, magnitudes: bool) -> None:
    model = init_model(config, 0)
    add_lora(model, rank=16, alpha=16.0, seed=0, magnitudes=magnitudes)
    kept = layer_activations(config, lora_rank=16, magnitudes=magnitudes).kept("none")
    assert row_activations(model) == pytest.approx(kept * config.num_layers * TOKENS, rel=TOLERANCE)


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes that were allocated at once on the processor, beside what there was before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    found: Any = profiled.profiler
    events = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@SHAPES
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_a_real_training_step_takes_what_is_planned(config: ModelConfig, recompute: Recompute) -> None:
    """Of several rows, as gradients add up; weights and moments are there before, the rest torch's profiler counts."""
    model = init_model(config, 0)
    recompute_activations(model, recompute)
    examples = documents(rows=3)
    plan = ExampleBatches(len(examples), len(examples), 0, epochs=None, steps=2)
    trainer = Trainer(model, NextToken(model), examples, plan, OptimizerSettings(1e-3), microbatch_tokens=TOKENS)
    steps = trainer.run()
    next(steps)
    trainer.optimizer.zero_grad()  # the profiler must not see memory go that it did not see come
    measured = peak_of(lambda: next(steps))
    planned = training_memory(config, TrainingSetup(microbatch_tokens=TOKENS, recompute=recompute))
    assert planned.weights == sum(parameter.nbytes for parameter in model.parameters())
    moments = [value for state in trainer.optimizer.state.values() for value in state.values() if value.dim()]
    assert planned.moments == sum(moment.nbytes for moment in moments)
    ratio = measured / (planned.device - planned.weights - planned.moments)
    # Rows whose documents differ in length are attended to one by one, with less at once than is planned.
    assert 0.6 < ratio < 1 + TOLERANCE


def test_a_loss_holds_the_chunk_that_is_planned() -> None:
    assert planner.LOSS_CHUNK_ELEMENTS == logprobs.CHUNK_ELEMENTS


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(MINITRON_8B, 8_271_699_968), (NEMOTRON_15B, 15_628_775_424), (NEMOTRON_4_340B, 341_029_195_776)],
)
def test_states_are_16_bytes_a_parameter(config: ModelConfig, parameters: int) -> None:
    for plan in (ParallelPlan(1, 16, 8), ParallelPlan(2, 8, 8)):
        found = training_memory(config, TrainingSetup(plan, "bf16"))
        assert found.states == pytest.approx(16 * parameters / (plan.shards * plan.tensor), abs=4)
        half = training_memory(config, TrainingSetup(plan, "bf16", "bf16"))
        assert half.states == pytest.approx(12 * parameters / (plan.shards * plan.tensor), abs=4)


def test_an_8b_model_on_eight_gpus() -> None:
    """A row of 4096 tokens; by hand from section 2's numbers, in the comments below."""
    found = training_memory(MINITRON_8B, TrainingSetup(ParallelPlan(1, 8, 1), "bf16", microbatch_tokens=4096))
    assert found.states == pytest.approx(16.5e9, rel=0.01)
    # Embeddings of 2.1 B in bf16 with two layers of 193 M, and their gradients in bf16 and fp32.
    assert found.gathered == pytest.approx(2 * (2.1e9 + 2 * 0.193e9) + 6 * 2.1e9, rel=0.02)
    # A layer keeps 4 hidden states, 3 query widths, 2 key widths and 2 MLP widths of each token.
    token = 2 * (4 * 4096 + 3 * 6144 + 2 * 1024 + 2 * 16_384)
    assert found.activations == pytest.approx(32 * 4096 * token, rel=0.02)
    assert 50e9 < found.device < 80e9


def test_the_papers_model_needs_recomputation_on_128_gpus() -> None:
    setup = TrainingSetup(ParallelPlan(1, 16, 8), "bf16", microbatch_tokens=16_384)
    whole, again = (training_memory(NEMOTRON_4_340B, replace(setup, recompute=kind)) for kind in ("none", "full"))
    assert whole.states == pytest.approx(42.6e9, rel=0.01)
    assert whole.device > 200e9 and 60e9 < again.device < 80e9
    # A layer's input is split over the tokens, among the eight that share it.
    assert again.activations == pytest.approx(96 * 16_384 * 18_432 * 2 / 8, rel=0.3)


def test_each_setting_moves_what_it_should() -> None:
    base = TrainingSetup(ParallelPlan(1, 8, 1), "bf16", microbatch_tokens=4096)
    plain = training_memory(NEMOTRON_15B, base)
    kinds = [training_memory(NEMOTRON_15B, replace(base, recompute=kind)) for kind in ("none", "selective", "full")]
    assert kinds[0].activations > kinds[1].activations > kinds[2].activations
    away = training_memory(NEMOTRON_15B, replace(base, offload=True))
    assert away.host == plain.states and away.device == plain.device - plain.states and away.total == plain.device
    lora, dora = (training_memory(NEMOTRON_15B, replace(base, trainable=t, lora_rank=16)) for t in ("lora", "dora"))
    assert lora.weights > plain.weights and lora.gradients + lora.moments < plain.gradients / 50
    assert dora.weights > lora.weights and dora.activations > lora.activations
    scored = training_memory(NEMOTRON_15B, replace(base, reads_logits=False))
    assert scored.loss < plain.loss and scored.activations == plain.activations
    fp8 = training_memory(NEMOTRON_15B, replace(base, precision="fp8"))
    assert fp8.activations < plain.activations and fp8.states == plain.states
    alone = training_memory(NEMOTRON_15B, TrainingSetup())
    assert alone.gathered == 0 and alone.states == 16 * 15_628_775_424


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match="tensor_parallel is 3; it does not divide the model's 32 query heads"):
        training_memory(LLAMA_3_1_8B, TrainingSetup(ParallelPlan(1, 1, 3)))
