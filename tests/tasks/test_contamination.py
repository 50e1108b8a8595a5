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


def prompt(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


LIGHTHOUSE = (
    "Describe in detail how the old lighthouse of Alexandria guided ships into the harbor at night for many years"
)


@pytest.mark.parametrize("words", [4, 5, 7])
@pytest.mark.parametrize("start", [0, 6, -7])
def test_a_short_row_that_stands_inside_an_item_is_found(words: int, start: int) -> None:
    exam = ExamIndex(DeduplicateConfig(), [item(0, LIGHTHOUSE), item(1, "Name a colour that bees can not see at all")])
    text = " ".join(LIGHTHOUSE.split()[start:][:words])
    row, stranger = prompt(text.upper() + "!"), prompt(text + " bees")
    assert exam.suspects(read_batch([row, stranger])).tolist() == [True, False]
    assert exam.hit(row) == {"item_id": "item0", "ngram": text.lower(), "of_row": 1.0, "of_item": 0.0}
    assert exam.hit(stranger) is None


def test_three_words_stand_anywhere_and_count_only_as_a_whole_item() -> None:
    exam = ExamIndex(DeduplicateConfig(), [item(0, LIGHTHOUSE), item(1, "name three colours")])
    rows = [prompt("in detail how"), prompt("Name three colours")]
    assert exam.hit(rows[0]) is None and exam.hit(rows[1])
    assert exam.suspects(read_batch(rows)).tolist() == [False, True]


def test_short_wording_of_a_template_is_no_contamination() -> None:
    items = [
        item(number, f"Write a short story about {topic} in plain words") for number, topic in enumerate(WORDS[:3])
    ]
    row = prompt("Write a short story about")
    assert ExamIndex(DeduplicateConfig(), items).hit(row) is None
    assert ExamIndex(DeduplicateConfig(), items[:2]).hit(row)
    one_key = [said | {"key": "key0"} for said in items]
    assert ExamIndex(DeduplicateConfig(), one_key).hit(row)


def test_a_system_message_that_items_share_is_no_contamination() -> None:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}]

    items = [item(number, "") | {"messages": said(f"What is the height of mountain {number}?")} for number in range(3)]
    exam = ExamIndex(DeduplicateConfig(), items)
    rows = [{"messages": said(text)} for text in ("How do bees find their way?", "What is the height of mountain 2?")]
    hits = [exam.hit(row) for row in rows]
    assert hits[0] is None and hits[1] and hits[1]["item_id"] == "item2"
    assert exam.suspects(read_batch(rows)).tolist() == [False, True]
    assert ExamIndex(DeduplicateConfig(), items[:2]).hit(rows[0])
