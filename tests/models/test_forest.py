from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.forest import Forest

PROMPT = (*range(100, 130),)
ANSWERS = [(*range(1, 9),), (*range(20, 60),), (5, 2, 3)]


def told(forest: Forest, sequences: list[list[int]]) -> list[int]:
    """The row's tokens; each place is given one token by all sequences that hold it."""
    row: dict[int, int] = {}
    for number, sequence in enumerate(sequences):
        for place, token in zip(forest.places(number), sequence, strict=True):
            assert row.setdefault(place, token) == token
    return [row[place] for place in range(forest.tokens)]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=9), st.integers(1, 5))
def test_every_sequence_stands_in_the_row_and_sees_itself(sequences: list[list[int]], least: int) -> None:
    forest = Forest.of([*map(tuple, sequences)], least)
    assert told(forest, sequences) == forest.row(sequences)
    ends, positions = forest.ends_T().tolist(), forest.positions_T().tolist()
    for number, sequence in enumerate(sequences):
        places = forest.places(number)
        assert places == sorted(places)
        assert [positions[place] for place in places] == [*range(len(sequence))]
        last = places[-1]
        assert [key for key in range(last + 1) if last < ends[key]] == places
    assert forest.pairs == sum(sum(query < ends[key] for key in range(query + 1)) for query in range(forest.tokens))
    shared = [segment for path, later in pairwise(sorted(forest.paths)) for segment in {*path} & {*later}]
    assert all(forest.sizes[segment] >= least for segment in shared) or len({*map(tuple, sequences)}) < len(sequences)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=9))
def test_every_beginning_stands_once(sequences: list[list[int]]) -> None:
    beginnings = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)}
    assert Forest.of([*map(tuple, sequences)], least=1).tokens == len(beginnings)


def test_answers_share_their_prompt_and_prompts_what_stands_before_them() -> None:
    prompt = (*PROMPT, *range(140, 160))
    other = (*PROMPT, *range(200, 210))
    forest = Forest.of([prompt + ANSWERS[0], other + ANSWERS[0], prompt + ANSWERS[1]])
    assert forest == Forest((30, 20, 8, 40, 18), ((0, 1, 2), (0, 4), (0, 1, 3)))
    assert forest.tokens == 116 and not forest.apart
    assert forest.before == [0, 30, 50, 50, 30]


def test_little_in_common_is_read_again() -> None:
    apart = Forest.of([PROMPT[:15] + answer for answer in ANSWERS])
    assert apart.apart and apart.sizes == (23, 55, 18)
    assert Forest.of([PROMPT[:16] + answer for answer in ANSWERS[:2]]).sizes == (16, 8, 40)


def test_what_contains_another_continues_it() -> None:
    forest = Forest.of([PROMPT + ANSWERS[0], PROMPT, PROMPT])
    assert forest == Forest((30, 8), ((0, 1), (0,), (0,)))


def test_a_filler_is_a_tree_of_its_own() -> None:
    assert Forest((3, 2), ((0,), (0, 1))).with_filler(4) == Forest((3, 2, 4), ((0,), (0, 1), (2,)))


def test_thousands_of_nested_sequences_grow_without_recursion() -> None:
    forest = Forest.of([(1,) * length for length in range(1, 2001)], least=1)
    assert forest.tokens == 2000 and forest.places(1999) == [*range(2000)]


def test_nothing_to_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"sequences have \[\] tokens"):
        Forest.of([])
    with pytest.raises(ValueError, match=r"sequences have \[1, 0\] tokens"):
        Forest.of([(1,), ()])
    assert torch.equal(Forest.of([(7,)]).positions_T(), torch.tensor([0]))
