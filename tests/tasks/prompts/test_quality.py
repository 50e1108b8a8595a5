"""The filters, on texts that SmolLM2 wrote."""

import pytest

from tasks.prompts.quality import copies, flaw, is_about, names, stems


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("How does inflation affect the economy?", ""),
        ('Why do we say "break a leg" at the theater?', ""),
        ("What is soccer?", "too_short"),
        (" ".join(["word"] * 91) + ".", "too_long"),
        ("Tom loved trains, which he had read about in the book called", "unfinished"),
        ('Write a song about good behavior, with a rhyme: "Goodwill is.', "unfinished"),
        (
            "I am not a reef but a reef of a reef, I am not a reef but a reef of a reef, I am not a reef.",
            "runs_in_circles",
        ),
        ("I am an AI assistant named Starlight. What is the history of music?", "speaks_as_assistant"),
        ("As a helpful AI, I want to know what music is?", "speaks_as_assistant"),
        ("What is the difference between a privacy policy and a privacy policy?", "says_nothing"),
        ("How do I choose a meal that is not a meal?", "says_nothing"),
        ("What is the difference between a whole number and a fraction?", ""),
        ("Which is a meal that is not expensive?", ""),
    ],
)
def test_flaw(text: str, reason: str) -> None:
    assert flaw(text) == reason


def test_topics_are_recognised_in_the_plural_and_in_other_words_places() -> None:
    assert is_about("How does a wolf hunt?", "wolves") is False  # irregular plurals are beyond it
    assert is_about("Why does a mushroom grow at night?", "mushrooms")
    assert is_about("What did the Roman army eat in ancient times?", "ancient Rome")
    assert not is_about("How does it work?", "the guitar")
    assert stems("Volcanoes, butterflies and the boxes of Ada's class") == {
        "volcano", "butterfly", "box", "ada", "class"
    }  # fmt: skip


def test_evaluation_topics_are_found_whole() -> None:
    reserved = ["coral reefs", "the moon", "honey bees"]
    assert names("Write a poem about the moons of Jupiter.", reserved) == "the moon"
    assert names("How does a coral grow into a reef?", reserved) == "coral reefs"
    assert names("How do bees make wax?", reserved) == ""


def test_an_example_that_comes_back_is_recognised() -> None:
    shots = {
        "shots": [["About Max.", "Max loved steam engines so much that he spent every weekend at the railway museum."]]
    }
    assert copies("Luis loved theater so much that he spent every weekend at the railway museum.", shots)
    assert not copies("Luis loved theater, and his sister sang in the choir of the town.", shots)
    assert not copies("Luis loved theater.", {})
