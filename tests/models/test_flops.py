"""Arithmetic of training against the paper's table, against torch's own counter, and against itself."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from torch.utils.flop_counter import FlopCounterMode

from deployments.known_models import NEMOTRON_4_340B
from models.config import ModelConfig
from models.decoder import init_model
from models.flops import (
    Work,
    causal_pairs,
    exact_flops,
    lora_parameters,
    matrix_parameters,
    mfu,
    peak_flops,
    training_flops,
)
from models.lora import add_lora
from models.objectives import NextToken, Preference, PreferenceSettings
from models.packing import Document, Pair, work_of

NEMOTRON = ModelConfig("nemotron", 300, 64, 192, 3, 6, 2, 16, rotary_fraction=0.5)
"""Its heads are 96 wide together, its hidden size is 64."""
LLAMA = ModelConfig("llama", 300, 64, 128, 2, 4, 2, 16, tied_embeddings=True)


@pytest.mark.parametrize(
    ("sequences", "gpus", "seconds", "printed"),
    [(768, 1536, 10.3, 42.4), (1536, 3072, 10.3, 42.3), (2304, 6144, 8.0, 41.0)],
)
def test_the_papers_table(sequences: int, gpus: int, seconds: float, printed: float) -> None:
    """Its seconds are rounded, so the last digit may differ."""
    flops = training_flops(NEMOTRON_4_340B, sequences * 4096, 4096)
    assert 100 * mfu(flops, seconds, gpus, 989e12) == pytest.approx(printed, abs=0.3)


def test_the_papers_parameters() -> None:
    assert matrix_parameters(NEMOTRON_4_340B) == 331_584_897_024
    per_token = 6 * 331_584_897_024 + 6 * 256_000 * 18_432 + 12 * 96 * 18_432 * 4096
    assert training_flops(NEMOTRON_4_340B, 1000, 4096) == 1000 * per_token


def test_attention_counts_the_heads_not_the_hidden_size() -> None:
    difference = training_flops(NEMOTRON, 1, 2) - training_flops(NEMOTRON, 1, 1)
    assert difference == 12 * 3 * (6 * 16)


def test_packing_costs_what_the_documents_cost() -> None:
    parts = [Document.of(range(start, start + length + 1)) for start, length in ((0, 5), (10, 9), (20, 1))]
    together = work_of(parts)
    assert together == sum((work_of([part]) for part in parts), Work(0, 0, 0)) == Work(15, 15 + 45 + 1, 15)
    long = Work(4096, causal_pairs(4096), 4096)
    paper = training_flops(NEMOTRON_4_340B, 4096, 4096)
    assert paper - exact_flops(NEMOTRON_4_340B, long) == 12 * 96 * 18_432 * (4096 * 4096 - causal_pairs(4096))


def test_a_prompt_is_read_once() -> None:
    answers = [Document.of([*range(100), *[token] * size, 9], [False] * 100 + [True] * (size + 1))
               for token, size in ((7, 30), (8, 20))]  # fmt: skip
    tree, apart = work_of(answers), sum((work_of([answer]) for answer in answers), Work(0, 0, 0))
    assert tree == Work(apart.tokens - 100, apart.pairs - causal_pairs(100), 52)
    assert tree.tokens == 150


def counted(run: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def documents() -> list[Document]:
    return [Document.of(range(start, start + length)) for start, length in ((5, 33), (50, 20))]


@pytest.mark.parametrize("config", [NEMOTRON, LLAMA], ids=["nemotron", "llama"])
def test_matrices_cost_what_torch_counts(config: ModelConfig) -> None:
    """Of a packed row, both ways; torch sees no attention on a processor, and no gradient of the unembedding."""
    found = counted(lambda: NextToken(init_model(config, 0)).loss(documents(), 51.0)[0].backward())
    unembedding = 2 * 51 * config.vocab_size * config.hidden_size
    assert found == exact_flops(config, Work(51, 0, 51)) - unembedding


def test_scoring_is_a_third() -> None:
    work = work_of(documents())
    assert 3 * exact_flops(LLAMA, work, "none") == exact_flops(LLAMA, work)


def test_frozen_weights_have_no_gradient() -> None:
    """Nor do the first layer's inputs, which the count does not see: the embeddings are frozen too."""
    model, rank = init_model(LLAMA, 0), 4
    add_lora(model, rank, alpha=4.0, seed=0)
    found = counted(lambda: NextToken(model).loss(documents(), 51.0)[0].backward())
    expected = exact_flops(LLAMA, Work(51, 0, 51), "lora", rank)
    projections = (4 + 2 + 2) * 16
    assert found == expected - 2 * 51 * 64 * (projections + 3 * rank)
    full = exact_flops(LLAMA, Work(51, 0, 51))
    assert expected - 6 * 51 * lora_parameters(LLAMA, rank) == full * 2 // 3


def test_pairs_cost_what_torch_counts() -> None:
    """Its logits are made twice, which the model does not need; torch misses as much, the unembedding's gradient."""
    model = init_model(NEMOTRON, 0)
    prompt = list(range(10, 34))
    flags = [False] * len(prompt) + [True] * 8
    pair = Pair(Document.of([*prompt, *range(100, 108)], flags), Document.of([*prompt, *range(120, 128)], flags))
    found = counted(lambda: Preference(model, PreferenceSettings("dpo")).loss([pair], 1.0)[0].backward())
    work = work_of([pair.chosen, pair.rejected])
    assert work.tokens == 24 + 7 + 7
    assert found == exact_flops(NEMOTRON, Work(work.tokens, 0, work.predicted))


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H100 80GB HBM3", "fp8", 1978e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA H100 NVL", "bf16", 835e12),
        ("NVIDIA H200", "bf16", 989e12),
        ("NVIDIA GH200 480GB", "bf16", 989e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A100-SXM4-80GB", "fp8", None),
        ("NVIDIA L40S", "fp8", 724e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16", None),
        ("NVIDIA H100 80GB HBM3", "fp32", None),
        ("NVIDIA A10G", "bf16", None),
        ("cpu", "bf16", None),
        ("", "bf16", None),
    ],
)
def test_peaks(name: str, precision: str, expected: float | None) -> None:
    assert peak_flops(name, precision) == expected  # pyright: ignore[reportArgumentType]


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0.0 seconds on 1 devices of 1.0 operations/s; expected values above 0"):
        mfu(1.0, 0.0, 1, 1.0)


def test_counting_imports_no_torch() -> None:
    code = "import sys, models.flops; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
