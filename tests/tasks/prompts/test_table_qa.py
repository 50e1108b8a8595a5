"""Questions about tables: the answers are computed, and what SmolLM2 says before a question."""

import json
from random import Random
from typing import Any

import pytest

from tasks.judges.ground_truth import verify
from tasks.prompts import table_qa
from tasks.prompts.table_qa import OPERATIONS, TABLES, Table, fill
from tests.tasks.prompts.test_families import a_job, play, reasons

BOOKS = Table(
    TABLES[0],
    ["Winter Atlas", "The Salt Road", "Quiet Engine"],
    {"Language": ["English", "French", "English"], "Pages": [100, 250, 90], "Year": [1990, 1960, 2000]},
)


@pytest.mark.parametrize(
    ("operation", "answers"),
    [
        ("lookup", {"How many pages does Winter Atlas have?": "100", "From which year is The Salt Road?": "1960"}),
        ("group", {"In which language is The Salt Road?": "French", "In which language is Quiet Engine?": "English"}),
        ("count", {"How many of the books are in English?": "2", "How many of the books are in French?": "1"}),
        ("extreme", {"Which book has the fewest pages?": "Quiet Engine", "Which book is the oldest?": "The Salt Road",
                     "Which book has the most pages?": "The Salt Road", "Which book is the newest?": "Quiet Engine"}),
        ("sum", {"How many pages do all the books have together?": "440"}),
        ("difference", {"How many more pages does The Salt Road have than Quiet Engine?": "160",
                        "How many years newer is Quiet Engine than Winter Atlas?": "10"}),
    ],
)  # fmt: skip
def test_answers_are_computed(operation: str, answers: dict[str, str]) -> None:
    found = {}
    for seed in range(80):
        question = OPERATIONS[operation](BOOKS, Random(seed))
        found[question.text] = question.check
    for text, right in answers.items():
        assert verify(found[text], f"It is {right}.") is True
        assert verify(found[text], "It is 7, or nothing.") is False


def test_a_copied_table_is_no_answer() -> None:
    question = OPERATIONS["extreme"](BOOKS, Random(0))
    assert verify(question.check, table_qa.as_markdown(BOOKS)) is None


def test_tables_are_written_as_markdown_and_csv() -> None:
    assert table_qa.as_markdown(BOOKS).splitlines()[:3] == [
        "| Book | Language | Pages | Year |", "| --- | --- | --- | --- |", "| Winter Atlas | English | 100 | 1990 |",
    ]  # fmt: skip
    assert table_qa.as_csv(BOOKS).splitlines()[-1] == "Quiet Engine,English,90,2000"


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind["title"])
def test_every_kind_of_table_can_be_filled_and_asked(kind: dict[str, Any]) -> None:
    for seed in range(30):
        table = fill(kind, Random(seed))
        assert all(len(set(table.columns[one["column"]])) == len(table.rows) for one in kind["numbers"])
        for ask in OPERATIONS.values():
            question = ask(table, Random(seed))
            assert "{" not in question.text and question.text.endswith("?")
            value = json.loads(question.check["payload"])
            right = value["value"] if "value" in value else value["any"][0]
            assert verify(question.check, f"The answer is {right}.") is True
    assert len(TABLES) >= 10


def test_a_sentence_of_the_generator_stands_before_the_question_if_it_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_qa, "TABLES", TABLES[:1])
    scenes = {
        "My house is older than that of Jane?": "asks_already",
        "We have 3 books of them at home.": "has_a_number",
        "I am looking for a book for our school concert.": "copies_an_example",
        "I love penguins more than books.": "evaluation_topic",
        "My car is a Toyota.": "off_topic",
    }
    good = ["I want to give a book to my aunt. It should…", "Our book club meets again tonight."]
    job = a_job("table_qa", 7)
    drafts, _ = play(table_qa.write(job), [good[0], *scenes, good[1]])
    assert [draft.source for draft in drafts] == ["revised", *["template"] * 5, "revised"]
    assert "I want to give a book to my aunt." in drafts[0].messages[0]["content"]
    assert "It should" not in drafts[0].messages[0]["content"]
    assert reasons(job) == {f"revision_{reason}": 1 for reason in scenes.values()}
    assert {draft.task for draft in drafts} >= {"lookup", "count", "difference"}


def test_a_sentence_that_only_repeats_the_question_is_left_out() -> None:
    question = table_qa.Question("Which book has the fewest pages?", "least", "name", {})
    assert (
        table_qa._fault("My book has the fewest pages.", BOOKS, question, a_job("table_qa", 1))
        == "repeats_the_question"
    )
