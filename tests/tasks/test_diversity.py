"""Diversity: what each number says of sets whose answer is known."""

import random
from typing import Any

import pytest

from tasks.diversity import SAMPLE, Diversity, measure_diversity
from tasks.rows import PROMPT, RESPONSE, TEXT, make_row


def prompt(text: str, family: str = "open", topic: str = "tea") -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return make_row(PROMPT, {"family": family, "topic": topic, "messages": messages}, [text, family, topic])


def test_runs_of_words_that_come_again_count_once() -> None:
    metrics = measure_diversity([prompt("a b a b"), prompt("a b")])
    assert metrics["diversity/distinct_1"] == pytest.approx(2 / 6)
    assert metrics["diversity/distinct_2"] == pytest.approx(2 / 4)
    assert metrics["diversity/distinct_3"] == pytest.approx(2 / 2)


def test_families_and_topics_are_those_that_have_rows() -> None:
    rows = [prompt("a", "x", "tea"), prompt("b", "x", "tea"), prompt("c", "y", "tea"), prompt("d", "y", "")]
    metrics = measure_diversity(rows)
    names = ("families", "topics", "families_x_topics")
    assert [metrics[f"diversity/{name}"] for name in names] == [2, 1, 2]


def test_lengths_are_in_words() -> None:
    metrics = measure_diversity([prompt(" ".join(["w"] * words)) for words in range(1, 12)])
    assert [metrics[f"diversity/words_p{part}"] for part in (10, 50, 90)] == [2, 6, 10]


def test_self_similarity_is_one_for_twins_and_none_for_strangers() -> None:
    rng = random.Random(0)
    texts = [" ".join(str(rng.random()) for _ in range(30)) for _ in range(10)]
    strangers, twins = [prompt(text) for text in texts], [prompt(text, topic="other") for text in texts]
    assert measure_diversity(strangers)["diversity/self_similarity"] < 0.05
    assert measure_diversity(strangers + twins)["diversity/self_similarity"] == 1
    assert measure_diversity(strangers[:1])["diversity/self_similarity"] == 0


def test_any_schema_and_no_rows() -> None:
    answer = make_row(RESPONSE, {"prompt": [{"role": "user", "content": "why so"}], "response": "because"}, "r")
    assert measure_diversity([answer, make_row(TEXT, {"text": "one two three"}, "t")])["diversity/words_p50"] == 3
    assert measure_diversity([]) == {}


def test_rows_of_one_id_with_different_details_are_not_compared() -> None:
    row = prompt("one two three")
    metrics = measure_diversity([row | {"verifier": {"kind": kind}} for kind in ("a", "b", "c")])
    assert metrics["diversity/self_similarity"] == 1 and metrics["diversity/words_p50"] == 3


def test_a_large_set_is_sampled_whatever_its_order() -> None:
    rows = [prompt(f"text {number} of many", topic=str(number)) for number in range(2 * SAMPLE)]
    shuffled = random.Random(0).sample(rows, len(rows))
    assert measure_diversity(rows) == measure_diversity(shuffled)
    assert measure_diversity(rows)["diversity/topics"] == 2 * SAMPLE
    diversity = Diversity()
    for row in rows:
        diversity.add(row)
    assert len(diversity._sample) == SAMPLE
