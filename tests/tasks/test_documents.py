"""Documents in prompts: the bundled ones, and where a long one ends."""

import pytest

from tasks.documents import bundled_documents, passage
from tasks.evaluation_items import evaluation_topics
from tasks.prompts.quality import names


def test_the_bundled_documents_are_short_different_and_apart_from_evaluation() -> None:
    rows = bundled_documents()
    assert len(rows) >= 40 and len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert 60 <= len(row["text"].split()) <= 140 and passage(row["text"], 120).cut == ""
        assert names(row["text"], evaluation_topics()) == "" and row["licence"] == "Apache-2.0"
        assert not row["synthetic"] and row["source"] == "documents/bundled"


@pytest.mark.parametrize(
    ("text", "most", "kept", "cut"),
    [
        ("One two three. Four five.", 5, "One two three. Four five.", ""),
        ("  One two three.\n\nFour five.  ", 9, "One two three.\n\nFour five.", ""),
        ("One two three. Four five.", 4, "One two three.", "sentence_end"),
        ("One two.\nThree four! Five six", 5, "One two.\nThree four!", "sentence_end"),
        ("Ask Dr. Lee about it today. Then go.", 3, "Ask Dr. Lee", "mid_sentence"),
        ("One two three four five", 3, "One two three", "mid_sentence"),
        ("It costs 3.50 euros. Yes.", 3, "It costs 3.50", "mid_sentence"),
        ("산은 높다. 물은 깊다.", 2, "산은 높다.", "sentence_end"),
    ],
)
def test_a_document_ends_at_a_sentence_or_says_so(text: str, most: int, kept: str, cut: str) -> None:
    found = passage(text, most)
    assert (found.text, found.cut) == (kept, cut)
    assert found.details() == {"words": len(text.split()), "kept_words": len(kept.split()), "cut": cut}
