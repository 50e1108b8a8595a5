import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.dealing import deal, pack, share_out
from models.packing import Document, grown
from tests.models.test_packing import document, tokens


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 50))
def test_every_item_is_packed_once_within_the_budget(lengths, budget):
    bins = pack(lengths, budget)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in members) <= budget or len(members) == 1 for members in bins)
    assert bins == pack(lengths, budget)
    # First-fit-decreasing: at most one bin is half empty.
    assert sum(2 * sum(lengths[i] for i in members) <= budget for members in bins) <= 1


def test_first_fit_decreasing():
    assert pack([3, 5, 2, 4, 6], 8) == [[4, 2], [1, 0], [3]]
    assert pack([], 8) == []
    with pytest.raises(ValueError, match="budget is 0"):
        pack([1], 0)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(16, 64), st.integers(1, 5))
def test_every_rank_has_a_bin_in_every_round(lengths, budget, ranks):
    rounds = share_out(lengths, budget, ranks)
    assert sorted(index for bins in rounds for members in bins for index in members) == [*range(len(lengths))]
    assert all(len(bins) == ranks for bins in rounds)
    filled = [sum(lengths[index] for index in members) for bins in rounds for members in bins]
    assert all(size <= max(budget, max(lengths)) for size in filled)


def test_ranks_get_nearly_the_same_number_of_tokens():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 400, (200,), generator=generator).tolist()
    rounds = share_out(lengths, 2048, 4)
    filled = [sum(lengths[index] for index in members) for bins in rounds for members in bins]
    assert max(filled) - min(filled) <= 0.02 * max(filled)


def answers(prompt: list[int], sizes: list[int]) -> list[tuple[Document]]:
    flags = [False] * len(prompt)
    return [(Document.of(prompt + tokens(size, seed), flags + [True] * size),) for seed, size in enumerate(sizes, 10)]


@pytest.mark.parametrize(("prompt", "together"), [(15, False), (16, True)])
def test_examples_of_one_prompt_come_into_one_row(prompt, together):
    """Worst for level rows: the two longest. A few tokens in common are not worth it."""
    others = [(document(length, length),) for length in (20, 21)]
    rounds = deal(answers(tokens(prompt, 1), [20, 22]) + others, 80, 1)
    assert any({0, 1} <= {*row} for rows in rounds for row in rows) == together
    assert sorted(index for rows in rounds for row in rows for index in row) == [*range(4)]


def test_many_answers_to_a_prompt_fill_several_rows_within_the_budget():
    examples = answers(tokens(30, 1), [20] * 9)
    rows = [row for bins in deal(examples, 100, 1) for row in bins]
    held = [grown([examples[index][0] for index in row]).tokens for row in rows]
    assert sorted(index for row in rows for index in row) == [*range(9)]
    assert held == [87, 87, 87]


def test_copies_of_a_long_prompt_do_not_outgrow_the_row():
    """Attention may copy the prompt for each answer: at most twice the budget."""
    examples = answers(tokens(900, 1), [3] * 8)
    rows = [row for bins in deal(examples, 1000, 1) for row in bins]
    assert all(len(row) == 2 for row in rows) and len(rows) == 4


def test_no_rank_is_idle_for_the_sake_of_a_prompt():
    rounds = deal(answers(tokens(30, 1), [20] * 8), 2048, 4)
    assert [len(row) for row in rounds[0]] == [2, 2, 2, 2] and len(rounds) == 1
