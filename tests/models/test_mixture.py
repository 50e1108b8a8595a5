"""Which pieces the steps of pretraining read: by weight, exactly counted, and by the step alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.batches import BatchRamp, ExampleBatches
from models.mixture import MixedBatches, Mixture

BLEND = (0.70, 0.15, 0.15)


def plan_of(lengths, source_of, *mixtures: Mixture, tokens: int = 60, ramp: tuple = (), seed: int = 1, steps: int = 9):
    sizes = BatchRamp(((0, tokens), *ramp))
    return MixedBatches(np.array(lengths, np.int32), np.array(source_of, np.int32), mixtures, sizes, seed, steps=steps)


def pieces(seed: int, counts: tuple[int, ...], longest: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Random lengths, the sources in a random order."""
    rng = np.random.default_rng(seed)
    source_of = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return rng.integers(1, longest + 1, len(source_of)), source_of


def test_steps_hold_whole_pieces_up_to_the_budget_in_the_shuffled_order_of_one_source():
    lengths = [3, 8, 5, 2, 9, 30, 4, 1]
    plan = plan_of(lengths, [0] * 8, Mixture((1.0,)), tokens=12)
    batches = [plan.batch(step) for step in range(plan.steps)]
    visits = [index for batch in batches for index in batch]
    assert visits == ExampleBatches(8, len(visits), seed=1, steps=1).batch(0)
    for this, following in pairwise(batches):
        filled = sum(lengths[index] for index in this)
        assert filled <= 12 or len(this) == 1
        assert filled + lengths[following[0]] > 12


@given(
    seed=st.integers(0, 1000), tokens=st.integers(5, 300), weights=st.tuples(*[st.sampled_from([0.5, 1, 3, 30])] * 3)
)
def test_tokens_follow_the_weights_after_every_step(seed, tokens, weights):
    lengths, source_of = pieces(seed, (40, 9, 3))
    plan = plan_of(lengths, source_of, Mixture(weights), tokens=tokens, seed=seed, steps=30)
    shares = np.array(weights) / sum(weights)
    for step in range(1, plan.steps + 1):
        taken = plan.tokens[step]
        batch = plan.batch(step - 1)
        assert lengths[batch].sum() == taken.sum() - plan.tokens[step - 1].sum()
        assert lengths[batch].sum() <= tokens or len(batch) == 1
        assert np.abs(taken - shares * taken.sum()).max() <= 2 * lengths.max()


def test_every_token_is_accounted_for_by_source():
    lengths, source_of = pieces(3, (50, 10, 5))
    plan = plan_of(lengths, source_of, Mixture(BLEND), steps=40)
    visits = [piece for step in range(plan.steps) for piece in plan.batch(step)]
    for source, use in enumerate(plan.used()):
        mine = [piece for piece in visits if source_of[piece] == source]
        assert use.tokens == lengths[mine].sum()
        assert use.epochs == len(mine) / (source_of == source).sum()
    assert [use.epochs > 1 for use in plan.used()] == [True] * 3


def test_each_source_goes_round_in_an_order_of_its_own():
    lengths, source_of = pieces(5, (12, 12))
    plan = plan_of(lengths, source_of, Mixture((1.0, 1.0)), steps=40)
    visits = [piece for step in range(plan.steps) for piece in plan.batch(step)]
    orders = []
    for source in (0, 1):
        mine = [piece for piece in visits if source_of[piece] == source]
        places = np.flatnonzero(source_of == source).tolist()
        epochs = [mine[start : start + 12] for start in range(0, len(mine) - 11, 12)]
        assert len(epochs) > 3 and all(sorted(epoch) == places for epoch in epochs)
        orders += [tuple(places.index(piece) for piece in epoch) for epoch in epochs]
    assert len(set(orders)) == len(orders)


def test_another_distribution_from_a_step_on():
    lengths, source_of = pieces(2, (30, 30, 30))
    plan = plan_of(lengths, source_of, Mixture((1, 3, 0)), Mixture((1, 1, 2), from_step=10), steps=30)
    before, after = plan.tokens[10], plan.tokens[30] - plan.tokens[10]
    assert before[2] == 0 and before[1] / before.sum() == pytest.approx(0.75, abs=0.03)
    assert after / after.sum() == pytest.approx([0.25, 0.25, 0.5], abs=0.02)


RAMP = ((400, 120), (1000, 180))


def test_the_batch_grows_at_its_thresholds():
    plan = plan_of([5] * 50, [0] * 50, Mixture((1.0,)), tokens=60, ramp=RAMP, steps=16)
    sizes = np.diff(plan.tokens.sum(axis=1)).tolist()
    assert sizes == [60] * 7 + [120] * 5 + [180] * 4, "420 tokens after 7 steps, 1020 after 12"
    assert [BatchRamp(((0, 60), *RAMP)).tokens(trained) for trained in (0, 399, 400, 999, 1000)] == [
        60,
        60,
        120,
        120,
        180,
    ]


def test_a_resume_with_another_number_of_processes_reads_the_same_batches():
    """The paper doubled its data-parallel processes at each threshold: a plan knows none, only the step."""
    lengths, source_of = pieces(7, (40, 20, 10))
    settings = {"tokens": 60, "ramp": RAMP, "steps": 16}
    whole = plan_of(lengths, source_of, Mixture(BLEND), Mixture((1, 1, 1), 8), **settings)
    read = [whole.batch(step) for step in range(16)]
    for first, processes in ((0, 1), (7, 2), (12, 4)):
        resumed = plan_of(lengths, source_of, Mixture(BLEND), Mixture((1, 1, 1), 8), **settings)
        for step in range(first, 16):
            dealt = [resumed.batch(step)[rank::processes] for rank in range(processes)]
            assert sorted(piece for part in dealt for piece in part) == sorted(read[step])


def test_the_paper_s_batches():
    lengths, source_of = np.full(200_000, 4096), np.arange(200_000) % 20
    weights = Mixture(tuple(np.where(np.arange(20) < 10, 7.0, 3.0).tolist()))
    ramp = ((2_000_000_000, 1536 * 4096), (4_000_000_000, 2304 * 4096))
    plan = plan_of(lengths, source_of, weights, tokens=768 * 4096, ramp=ramp, steps=1000)
    assert [len(plan.batch(step)) for step in (0, 635, 636, 953, 954, 999)] == [768, 768, 1536, 1536, 2304, 2304]


@pytest.mark.parametrize(
    ("mixtures", "words"),
    [
        ([Mixture((1.0,))], "weights .* for 2 sources"),
        ([Mixture((1.0, -1.0))], "none below 0"),
        ([Mixture((0.0, 0.0))], "one above"),
        ([Mixture((1.0, 1.0, 1.0))], r"sources \[2\] have a weight and no pieces"),
        ([Mixture((1.0, 1.0), 3)], r"begin at the steps \[3\]"),
        ([Mixture((1.0, 1.0)), Mixture((1.0, 1.0))], r"begin at the steps \[0, 0\]"),
    ],
)
def test_mixtures_that_cannot_be_followed_are_refused(mixtures, words):
    with pytest.raises(ValueError, match=words):
        plan_of([1, 2], [0, 1], *mixtures)


def test_wrong_ramps_are_refused():
    with pytest.raises(ValueError, match=r"begin at \[5\] tokens"):
        BatchRamp(((5, 10),))
    with pytest.raises(ValueError, match="tokens is 0"):
        BatchRamp(((0, 0),))
