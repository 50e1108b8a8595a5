"""The split of prompts: disjoint, balanced, near-duplicates together, and unsafe ones on one side only."""

import random
from collections import Counter
from collections.abc import Callable
from itertools import combinations, count
from typing import Any

import numpy as np
import pytest

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.parquet import open_parquet, read_rows
from tasks import split_prompts
from tasks.configs.mix import SplitPromptsConfig
from tasks.dropped import FILE
from tasks.rows import PROMPT, make_row
from tasks.shingles import grams_of, jaccard, words_of

Row = dict[str, Any]
Split = Callable[..., Artifact]
WORDS = [f"word{number}" for number in range(5000)]


def prompt(text: str, family: str = "open", unsafe: bool = False, source: str = "test") -> Row:
    messages = [{"role": "user", "content": text}]
    values = {"family": family, "topic": "tea", "messages": messages, "side": "", "unsafe": unsafe, "source": source}
    return make_row(PROMPT, values, [text, source])


@pytest.fixture
def prompts() -> list[Row]:
    """Three families of 100, of thirty words; every tenth has two near-duplicates, every seventh is unsafe."""
    rng, rows = random.Random(0), []
    for number in range(300):
        words = rng.sample(WORDS, 30)
        for copy in range(3 if number % 10 == 0 else 1):
            text = " ".join([*words[: 30 - copy], *(["other"] * copy)])
            rows.append(prompt(text, ("open", "maths", "writing")[number % 3], unsafe=number % 7 == 0))
    return rows


@pytest.fixture
def split(run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact]) -> Split:
    names = count()

    def make(*groups: list[Row], **settings: Any) -> Artifact:
        given = tuple(give_rows(f"prompts {next(names)}", rows, PROMPT) for rows in groups)
        return run_stage(split_prompts.run, SplitPromptsConfig(**settings), rows=given)

    return make


def dropped_ids(artifact: Artifact) -> dict[str, str]:
    return {row["row_id"]: row["reason"] for row in read_rows(open_parquet(artifact.read_bytes(FILE)), 1024)}


def test_every_prompt_is_on_one_side_and_otherwise_unchanged(split: Split, prompts: list[Row]) -> None:
    artifact = split(prompts[:150], prompts[150:])
    rows = artifact.rows()
    assert {row["side"] for row in rows} == {"sft", "preference"}
    left_out = dropped_ids(artifact)
    assert [row | {"side": ""} for row in rows] == [row for row in prompts if row["id"] not in left_out]


def test_near_duplicates_are_on_one_side(split: Split, prompts: list[Row]) -> None:
    artifact = split(prompts)
    safe = [row for row in artifact.rows() if not row["unsafe"]]
    shingles = [grams_of(words_of(row["messages"][0]["content"]), 3) for row in safe]
    pairs = [pair for pair in combinations(range(len(safe)), 2) if jaccard(*(shingles[one] for one in pair)) >= 0.8]
    assert len(pairs) > 50 and all(safe[one]["side"] == safe[other]["side"] for one, other in pairs)
    assert artifact.manifest().result["groups"] == 300 and artifact.manifest().result["largest_group"] == 3


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_families_are_balanced(split: Split, prompts: list[Row], share: float) -> None:
    safe = [row | {"unsafe": False} for row in prompts]
    rows = split(safe, sft_share=share).rows()
    whole, sft = Counter(row["family"] for row in rows), Counter(row["family"] for row in rows if row["side"] == "sft")
    assert set(whole) == set(sft) == {"open", "maths", "writing"}
    assert all(abs(sft[family] - share * whole[family]) <= 1 for family in whole)


def test_large_groups_choose_first_so_that_single_prompts_even_them_out() -> None:
    groups = np.array([0] * 40 + [*range(40, 80)] + [80] * 7)
    seeds = np.arange(len(groups), dtype=np.uint64)[::-1].copy()
    sft = split_prompts.take_sides(groups, seeds, np.zeros(len(groups), np.int32), 0.5)
    assert len(set(sft[:40])) == len(set(sft[80:])) == 1 and abs(int(sft.sum()) - len(sft) / 2) < 1


def test_unsafe_prompts_leave_the_supervised_side_after_the_split(split: Split, prompts: list[Row]) -> None:
    artifact = split(prompts)
    sides = {row["id"]: row["side"] for row in split([row | {"unsafe": False} for row in prompts]).rows()}
    rows, left_out = artifact.rows(), dropped_ids(artifact)
    assert {row["id"]: row["side"] for row in rows} == {id: side for id, side in sides.items() if id not in left_out}
    unsafe = {row["id"] for row in prompts if row["unsafe"]}
    assert left_out == {id: "unsafe" for id in unsafe if sides[id] == "sft"} and left_out
    assert artifact.manifest().counts == {"in": 360, "kept": len(rows), "dropped:unsafe": len(left_out)}
    assert artifact.manifest().result["unsafe_kept"] == len(unsafe) - len(left_out) > 0


def test_the_split_hangs_on_the_seed_and_not_on_the_order(split: Split, prompts: list[Row]) -> None:
    shuffled = random.Random(1).sample(prompts, len(prompts))
    sides = [
        {row["id"]: row["side"] for row in split(rows, **settings).rows()}
        for rows, settings in ((prompts, {"salt": "a"}), (shuffled, {"salt": "b"}), (prompts, {"seed": 1}))
    ]
    assert sides[0] == sides[1] != sides[2]


def test_one_group_cannot_be_split(split: Split) -> None:
    rows = [prompt("the same words in each of them", source=str(number)) for number in range(4)]
    with pytest.raises(EmptyDataset, match="preference side gets none of 4 prompts, which are 1 groups") as caught:
        split(rows)
    assert "sft_share (now 0.5)" in caught.value.remedy


def test_a_side_of_unsafe_prompts_only_is_refused(split: Split) -> None:
    rows = [prompt(" ".join(WORDS[start : start + 9]), unsafe=True) for start in (0, 9, 18, 27)]
    with pytest.raises(EmptyDataset, match=r"sft side gets none of 4 prompts.*2 unsafe ones were dropped"):
        split(rows)
