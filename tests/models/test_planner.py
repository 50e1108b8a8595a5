"""Memory of generation, against the numbers that are known and against what a model and its cache really take."""

import subprocess
import sys

import pytest

from deployments.known_models import LLAMA_3_1_8B, NEMOTRON_4_340B
from models.config import ModelConfig
from models.decoder import init_model
from models.engine.memory import cache_token_bytes
from models.planner import generation_memory

GIB = 2**30


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
