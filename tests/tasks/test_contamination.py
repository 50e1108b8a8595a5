"""Decontamination: the sieve over whole batches lets nothing by that the exact comparison would hit."""

import random
from typing import Any

import pytest

from tasks.configs.mix import DeduplicateConfig
from tasks.contamination import ExamIndex
from tasks.shingles import read_batch

WORDS = [f"word{number}" for number in range(60)]


def item(number: int, text: str) -> dict[str, Any]:
    return {"id": f"item{number}", "key": f"key{number}", "messages": [{"role": "user", "content": text}]}


def salad(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


@pytest.mark.parametrize("ngram_words", [2, 4, 8])
def test_every_hit_is_a_suspect(ngram_words: int) -> None:
    """Few words, so that runs are shared by chance, and items of all lengths, templates among them."""
    rng, config = random.Random(ngram_words), DeduplicateConfig(ngram_words=ngram_words, overlap=0.2)
    items = [item(number, salad(rng, rng.choice([1, 3, 7, 20]))) for number in range(60)]
    items += [item(100 + number, f"write a long text about {topic} and nothing else at all now")
              for number, topic in enumerate(WORDS[:6])]  # fmt: skip
    exam = ExamIndex(config, items)
    texts = [salad(rng, rng.choice([0, 1, 2, 5, 30])) for _ in range(600)]
    texts += [said["messages"][0]["content"] for said in items]
    rows = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": salad(rng, 4)}]}
            for text in texts]  # fmt: skip
    suspects = exam.suspects(read_batch(rows)).tolist()
    hits = [exam.hit(row) is not None for row in rows]
    assert sum(hits) >= len(items) and not any(hit and not suspect for hit, suspect in zip(hits, suspects, strict=True))


def test_clean_rows_of_other_words_are_not_suspected() -> None:
    exam = ExamIndex(DeduplicateConfig(), [item(0, "the quick brown fox jumps over the lazy dog again")])
    rows = [
        {"text": "the quick brown fox is fast"},
        {"text": "please say: THE QUICK brown fox jumps over the lazy dog."},
    ]
    assert exam.suspects(read_batch(rows)).tolist() == [False, True]


def test_a_run_across_two_messages_is_no_overlap() -> None:
    exam = ExamIndex(DeduplicateConfig(ngram_words=4), [item(0, "one two three four")])
    row = {"messages": [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three four"}]}
    assert exam.hit(row) is None and exam.suspects(read_batch([row])).tolist() == [False]


def test_an_examination_without_items_hits_nothing() -> None:
    exam = ExamIndex(DeduplicateConfig(), [])
    assert exam.suspects(read_batch([{"text": "anything at all"}])).tolist() == [False]
