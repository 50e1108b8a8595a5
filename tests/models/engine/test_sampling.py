"""Sampled tokens follow the distribution that the settings ask for, worked out here in another way."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from models.engine.interface import SamplingParams
from models.engine.rows import Ending, Row
from models.engine.sampling import next_tokens, sample, uniforms
from models.tokenizer import Tokenizer

DRAWS = 12_000


@pytest.fixture
def make_row(tokenizer: Tokenizer) -> Callable[..., Row]:
    def make(prompt: Sequence[int], answer: Sequence[int], **settings: Any) -> Row:
        row = Row(prompt, SamplingParams(**settings), Ending(tokenizer, frozenset(), frozenset(), 100), 0)
        row.token_ids += answer
        return row

    return make


def some_logits(size: int, seed: int = 0, spread: float = 1.5) -> torch.Tensor:
    return spread * torch.randn(size, generator=torch.Generator().manual_seed(seed))


def expected(logits_V: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float = 0.0) -> np.ndarray:
    """Probabilities by sorting the whole vocabulary: the top_k likeliest, then the fewest of them that reach top_p."""
    scaled = logits_V.double().numpy() / temperature
    weights = np.exp(scaled - scaled.max())
    order = np.argsort(-weights, kind="stable")[: top_k or None]
    share = weights[order] / weights[order].sum()
    kept = order[: 1 + int(np.searchsorted(np.cumsum(share), top_p - 1e-9))]
    kept = kept[weights[kept] >= min_p * weights[kept[0]]]
    probabilities = np.zeros_like(weights)
    probabilities[kept] = weights[kept] / weights[kept].sum()
    return probabilities


def assert_drawn_from(tokens: list[int], probabilities: np.ndarray) -> None:
    """Chi-square with rare tokens taken together; the bound is five standard deviations above its mean."""
    counts = np.bincount(tokens, minlength=len(probabilities)).astype(float)
    assert counts[probabilities == 0].sum() == 0, "tokens that may not be drawn were drawn"
    means = probabilities * len(tokens)
    rare = means < 10
    found, wanted = ([*part[~rare], part[rare].sum()] for part in (counts, means))
    statistic = sum((f - w) ** 2 / w for f, w in zip(found, wanted, strict=True) if w > 0)
    freedom = len(found) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 5


@pytest.mark.parametrize(
    ("size", "temperature", "top_k", "top_p"),
    [(12, 1.0, 0, 1.0), (12, 0.5, 0, 1.0), (12, 2.0, 0, 1.0), (12, 1.0, 4, 1.0), (12, 1.0, 0, 0.7), (12, 0.8, 6, 0.8),
     (12, 1.0, 100, 0.9), (700, 1.0, 0, 1.0), (700, 1.0, 40, 0.9), (700, 1.0, 0, 0.5), (700, 1.0, 0, 0.99),
     (700, 1.5, 300, 1.0), (700, 1.0, 300, 0.8)],
)  # fmt: skip
def test_draws_follow_the_settings(size: int, temperature: float, top_k: int, top_p: float) -> None:
    logits_V = some_logits(size)
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
    draws_R = uniforms(range(DRAWS), [0] * DRAWS, [0] * DRAWS)
    tokens = sample(logits_V.expand(DRAWS, -1), [params] * DRAWS, draws_R)
    assert_drawn_from(tokens, expected(logits_V, temperature, top_k, top_p))


@pytest.mark.parametrize(
    ("size", "temperature", "top_k", "top_p", "min_p"),
    [(12, 1.0, 0, 1.0, 0.2), (700, 1.0, 0, 1.0, 0.05), (700, 1.6, 0, 1.0, 0.001), (700, 1.0, 20, 1.0, 0.1),
     (700, 1.0, 0, 0.9, 0.1), (700, 1.0, 0, 0.3, 0.01), (12, 1.0, 0, 1.0, 1.0)],
)  # fmt: skip
def test_min_p_keeps_a_share_of_the_likeliest(
    size: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits_V = some_logits(size)
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    draws_R = uniforms(range(DRAWS), [0] * DRAWS, [0] * DRAWS)
    tokens = sample(logits_V.expand(DRAWS, -1), [params] * DRAWS, draws_R)
    assert_drawn_from(tokens, expected(logits_V, temperature, top_k, top_p, min_p))


@pytest.mark.parametrize("penalty", [1.0, 1.3, 0.8])
def test_repetition_penalty_is_that_of_transformers(make_row: Callable[..., Row], penalty: float) -> None:
    logits_RV = torch.stack([some_logits(40, seed) for seed in range(30)])
    theirs_RV = RepetitionPenaltyLogitsProcessor(penalty)(
        torch.tensor([[3, 5, 5, 9, 20, 30]]).expand(30, -1), logits_RV
    )
    rows = [make_row((3, 5, 5, 9), [20, 30], repetition_penalty=penalty, temperature=0.0) for _ in range(30)]
    before = logits_RV.clone()
    assert next_tokens(logits_RV, rows) == theirs_RV.argmax(-1).tolist()
    assert torch.equal(logits_RV, before), "the logits are still the model's"
    assert (theirs_RV.argmax(-1) == logits_RV.argmax(-1)).all() == (penalty == 1)


def test_the_check_itself_tells_distributions_apart() -> None:
    """A temperature of 0.9 in place of 1 must not pass."""
    logits_V = some_logits(12)
    draws_R = uniforms(range(DRAWS), [0] * DRAWS, [0] * DRAWS)
    tokens = sample(logits_V.expand(DRAWS, -1), [SamplingParams(temperature=0.9)] * DRAWS, draws_R)
    with pytest.raises(AssertionError):
        assert_drawn_from(tokens, expected(logits_V, 1.0, 0, 1.0))


def test_zero_temperature_and_one_candidate_take_the_likeliest() -> None:
    logits_RV = torch.stack([some_logits(300, seed) for seed in range(50)])
    draws_R = uniforms(range(50), [0] * 50, [0] * 50)
    best = logits_RV.argmax(-1).tolist()
    for params in (SamplingParams(temperature=0), SamplingParams(top_k=1), SamplingParams(top_p=1e-6)):
        assert sample(logits_RV, [params] * 50, draws_R) == best


def test_settings_of_other_rows_do_not_matter() -> None:
    """Greedy, plain and truncated rows in one batch get what each gets alone."""
    logits_RV = torch.stack([some_logits(400, seed) for seed in range(24)])
    kinds = [SamplingParams(temperature=0), SamplingParams(), SamplingParams(top_k=5), SamplingParams(1.3, top_p=0.8)]
    params = [kinds[row % 4] for row in range(24)]
    draws_R = uniforms(range(24), [0] * 24, [0] * 24)
    together = sample(logits_RV, params, draws_R)
    alone = [sample(logits_RV[row : row + 1], [params[row]], draws_R[row : row + 1])[0] for row in range(24)]
    assert together == alone
    padded = torch.cat([logits_RV, torch.full((8, 400), torch.nan)])  # the engine's padding rows
    assert sample(padded, params, draws_R) == together


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_of_no_probability_is_never_drawn(top_p: float, uniform: float) -> None:
    logits_V = torch.full((520,), -torch.inf)
    logits_V[[130, 200]] = torch.tensor([0.0, -1.0])
    (token,) = sample(logits_V[None], [SamplingParams(top_p=top_p)], torch.tensor([uniform], dtype=torch.float64))
    assert token in (130, 200)


def test_uniform_numbers_are_uniform_and_unrelated() -> None:
    seeds, samples, steps = range(1000), range(5), range(4)
    grid = [(seed, number, step) for seed in seeds for number in samples for step in steps]
    values = uniforms(*zip(*grid, strict=True)).numpy()
    assert values.min() >= 0 and values.max() < 1 and len(set(values.tolist())) == len(grid)
    bins = np.bincount((values * 20).astype(int), minlength=20)
    assert ((bins - 1000) ** 2 / 1000).sum() < 19 + 5 * math.sqrt(38)
    cube = values.reshape(1000, 5, 4)
    for near in (cube[1:] - cube[:-1], cube[:, 1:] - cube[:, :-1], cube[:, :, 1:] - cube[:, :, :-1]):
        assert abs(near.var() - 1 / 6) < 0.01, "neighbours are related: independent ones differ with variance 1/6"


def test_uniform_numbers_take_any_seed() -> None:
    values = uniforms([0, 1, 2**63 - 1, 2**64 - 1, -1], [0] * 5, [0] * 5).tolist()
    assert len(set(values)) == 4 and values[3] == values[4]
    assert uniforms([7], [1], [2]).item() == uniforms([7, 7], [0, 1], [1, 2])[1].item()


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -0.1), ("temperature", float("nan")), ("temperature", 1e-9), ("top_p", 0.0), ("top_p", 1.5),
     ("top_k", -1), ("max_tokens", 0), ("stop", ("",)), ("n", 0)],
)  # fmt: skip
def test_settings_out_of_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} is .*expected"):
        SamplingParams(**{field: value})


def test_one_stop_text_needs_no_list() -> None:
    assert SamplingParams(stop="END").stop == ("END",) and SamplingParams(stop=["a", "b"]).stop == ("a", "b")
