"""Every way to attend within a row of trees against each sequence alone, in values and gradients, within 1e-6."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from models.attention import Attend, PackedAttention
from models.flex_attention import FlexAttention
from models.forest import Forest
from models.forest_attention import ForestAttention, UnfoldedAttention, cut, whole

FORESTS = {
    "apart": Forest((5, 1, 9), ((0,), (1,), (2,))),
    "pairs": Forest((4, 5, 3, 8, 2), ((0, 1), (0, 2), (3,), (3, 4))),
    "one beginning": Forest((2, 6, 6, 7), ((0, 1), (0, 2), (0, 3))),
    "two levels": Forest((3, 2, 4, 9, 1, 5), ((0, 1, 2), (0, 1, 3), (0, 4), (5,))),
    "the same twice": Forest((4, 2), ((0, 1), (0, 1))),
}
"""More tokens before than a sequence has of its own, fewer, and as many."""


def operands(forest: Forest) -> tuple[torch.Tensor, ...]:
    """Queries of four heads, keys and values of two, for a row of these trees."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, forest.tokens, 4, 16, generator=generator)
    return query, *torch.randn(2, 1, forest.tokens, 2, 16, generator=generator)


def alone(forest: Forest, row: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Each sequence by itself, in float64, by a plain softmax."""
    attended = torch.zeros_like(row[0])
    for number in range(len(forest.paths)):
        places = forest.places(number)
        query, key, value = (tensor[0, places].double().transpose(0, 1) for tensor in row)
        key, value = (tensor.repeat_interleave(2, dim=0) for tensor in (key, value))
        hidden = torch.ones(len(places), len(places), dtype=torch.bool).triu(1)
        scores = (query @ key.mT / 16**0.5).masked_fill(hidden, -torch.inf)
        attended[0, places] = (F.softmax(scores, -1) @ value).transpose(0, 1).float()
    return attended


def unfolded(forest: Forest) -> Attend:
    folded = ForestAttention(forest)
    return UnfoldedAttention(folded, PackedAttention(folded.unfolded_lengths))


WAYS = {
    "parts": ForestAttention,
    "unfolded": unfolded,
    "one kernel": lambda forest: FlexAttention(forest, torch.device("cpu")),
}


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=9), st.integers(1, 5))
def test_parts_make_up_the_row_and_every_sequence(sequences: list[list[int]], least: int) -> None:
    forest = Forest.of([tuple(sequence) for sequence in sequences], least).with_filler(3)
    attend = ForestAttention(forest)
    own = cut(forest, attend.parts, torch.arange(forest.tokens)[None])
    assert torch.cat(own, dim=1).tolist() == [[*range(forest.tokens)]]
    found = [whole(part, number, own)[0].tolist() for number, part in enumerate(attend.parts)]
    places = [forest.places(number) for number in range(len(forest.paths))]
    assert all(sequence in places for sequence in found)
    assert [*map(len, found)] == attend.unfolded_lengths


@pytest.mark.parametrize("name", FORESTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_token_attends_as_in_its_sequence_alone(way: str, name: str) -> None:
    forest = FORESTS[name]
    row = operands(forest)
    attend: Attend = WAYS[way](forest)
    torch.testing.assert_close(attend(0, *row), alone(forest, row), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FORESTS)
@pytest.mark.parametrize("way", ["parts", "unfolded"])
def test_gradients_of_all_that_share_a_token_add_up(way: str, name: str) -> None:
    forest = FORESTS[name]
    row = tuple(tensor.requires_grad_() for tensor in operands(forest))
    slopes = torch.randn(1, forest.tokens, 4, 16, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(WAYS[way](forest)(0, *row), row, slopes)
    expected = torch.autograd.grad(alone(forest, row), row, slopes)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", ["parts", "unfolded"])
def test_a_row_of_another_length_is_refused(way: str) -> None:
    attend = WAYS[way](FORESTS["one beginning"])
    with pytest.raises(ValueError, match=r"\(1, 22\) rows x tokens does not hold segments of \(2, 6, 6, 7\); expected"):
        attend(0, *operands(FORESTS["pairs"]))
