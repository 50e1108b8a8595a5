"""Every kind, on answers that a small model really gives and on those that it should not get away with."""

import json
from random import Random

import pytest

from infra.errors import InputError
from tasks.prompts import instructions
from tasks.prompts.instructions import KINDS, Check
from tasks.prompts.sentences import sentences, words

PLAIN = (
    "Coral reefs are underwater homes for fish, crabs and plants. They grow very slowly. "
    "Many of them need help today. We should protect them."
)

# kind, parameters, an answer that follows it, one that does not
CASES = [
    ("lower_case", {}, "reefs grow slowly. they are old.", "Reefs grow slowly."),
    ("capitals", {}, "REEFS GROW SLOWLY.", "REEFS grow SLOWLY."),
    ("no_commas", {}, "Fish and crabs live there.", "Fish, crabs and plants."),
    ("exclamations", {}, 'They grow! They are "old"!', "They grow! They are old."),
    ("highlight", {"n": 2}, "**Reefs** grow very **slowly**.", "**Reefs** grow * slowly *."),
    ("quotes", {}, '"Reefs grow very slowly."', '"Reefs" grow very "slowly"'),
    ("quotes", {}, '"Reefs grow very slowly."', '"Reefs grow very slowly.'),
    ("square_brackets", {}, "[Reefs grow very slowly.]", "[Reefs] grow very [slowly]"),
    ("answer_tags", {}, "<answer>Reefs grow slowly.</answer>", "<answer>Reefs grow slowly."),
    ("json", {"key": "reply"}, '{"reply": "Reefs grow slowly."}', '{"answer": "Reefs grow slowly."}'),
    ("json", {"key": "reply"}, '{"reply": "Reefs grow slowly."}', 'Sure! {"reply": "Reefs grow slowly."}'),
    ("json", {"key": "reply"}, '{"reply": "Reefs grow slowly."}', '{"reply": "", "more words here": "yes it is"}'),
    ("title", {}, "<<Reefs>>\nThey grow very slowly.", "<Reefs>\nThey grow very slowly."),
    ("title", {}, "<<Reefs>>\nThey grow very slowly.", "<<Become a Reef: A Day in the Life of Coral>>"),
    ("end_phrase", {"phrase": "That is all."}, "Reefs grow. that is all.", "That is all. Reefs grow."),
    ("end_phrase", {"phrase": "That is all."}, "Reefs grow. That is all.", "That is all."),
    ("start_phrase", {"phrase": "In short,"}, "In short, reefs grow.", "The reefs, in short, grow."),
    ("postscript", {"marker": "P.S."}, "Reefs grow slowly.\nP.S. They are old.", "P.S. Reefs grow slowly."),
    ("signature", {"name": "Ada"}, "Reefs grow slowly.\n- Ada", "Reefs grow slowly. - Ada"),
    ("keyword", {"word": "quiet"}, "Reefs are quiet places.", "Reefs are disquieting places."),
    ("bullets", {"n": 2}, "Reefs:\n- They grow.\n- They are old.", "- They grow.\n- They are old.\n- They live."),
    ("numbered", {"n": 2}, "1. They grow.\n2. They are old.", "1. They grow.\n1. They are old."),
    ("two_parts", {}, "They grow.\n***\nThey are old.", "They grow.\n***\nThey are old.\n***\nYes."),
    ("one_sentence", {}, "Reefs, e.g. in Australia, grow slowly.", "Reefs grow. They are old."),
    ("max_words", {"n": 4}, "Reefs grow very slowly.", "Reefs always grow very slowly."),
    ("quoted_lines", {}, "> Reefs grow.\n\n> They are old.", "> Reefs grow.\nThey are old."),
]


def a_check(kind: str, params: dict | None = None) -> Check:
    return {"kind": kind, "params": params or {}}


@pytest.mark.parametrize(("kind", "params", "right", "wrong"), CASES)
def test_kind_tells_right_from_wrong(kind: str, params: dict, right: str, wrong: str) -> None:
    check = a_check(kind, params)
    assert instructions.verify([check], f"\n{right} \n")
    assert not instructions.verify([check], wrong)


def test_every_kind_has_a_case() -> None:
    assert {kind for kind, *_ in CASES} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["", "  \n", "Yes.", "...", '""', "<answer></answer>", "[]", "{}"])
def test_an_answer_without_words_follows_nothing(kind: str, answer: str) -> None:
    assert not instructions.verify([instructions.draw(kind, Random(0))], answer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_a_repaired_answer_passes_and_keeps_its_words(kind: str, seed: int) -> None:
    check = instructions.draw(kind, Random(seed))
    repaired = instructions.repair([check], PLAIN)
    if kind == "keyword":
        assert repaired is None
        return
    assert repaired is not None and instructions.verify([check], repaired)
    assert instructions.repair([check], PLAIN) == repaired
    kept = {word.casefold() for word in words(repaired)} & {word.casefold() for word in words(PLAIN)}
    assert len(kept) >= 5


def test_repair_gives_up_instead_of_passing_something_thin() -> None:
    assert instructions.repair([a_check("bullets", {"n": 4})], "Only one sentence stands here.") is None
    assert instructions.repair([a_check("postscript", {"marker": "P.S."})], "Only one sentence.") is None
    assert instructions.repair([a_check("max_words", {"n": 4})], "This single sentence is too long to keep.") is None
    assert instructions.repair([a_check("end_phrase", {"phrase": "That is all."})], "Reefs") is None
    assert instructions.repair([a_check("lower_case")], "산호초는 바다에 있습니다 정말로") is None


def test_repair_drops_a_last_sentence_that_the_limit_cut_off() -> None:
    repaired = instructions.repair(
        [a_check("end_phrase", {"phrase": "That is all."})], "Reefs grow slowly. They are als"
    )
    assert repaired == "Reefs grow slowly. That is all."


def test_several_checks_hold_together() -> None:
    checks = [a_check("end_phrase", {"phrase": "That is all."}), a_check("lower_case")]
    assert instructions.repair(checks, "Reefs grow slowly.") == "reefs grow slowly. that is all."
    assert not instructions.verify(checks, "Reefs grow slowly. That is all.")


@pytest.mark.parametrize("kind", KINDS)
def test_wordings_name_their_parameters_and_training_never_shows_those_of_evaluation(kind: str) -> None:
    shown: dict[str, set[str]] = {"training": set(), "evaluation": set()}
    for use, seen in shown.items():
        for seed in range(60):
            check = instructions.draw(kind, Random(seed % 3))
            message, plain = instructions.ask(check, "What is a reef?", Random(seed), use)
            assert "What is a reef?" in message and plain.startswith("What is a reef? ")
            assert "{" not in message.replace('{"', "") and "  " not in message and message == message.strip()
            seen.add(message)
            values = [str(value) for value in check["params"].values()]
            assert all(value in message for value in values), message
    assert len(shown["training"]) > 5 and len(shown["evaluation"]) > 2
    assert not shown["training"] & shown["evaluation"]


def test_draws_follow_the_seed_and_are_plain_json() -> None:
    for kind in KINDS:
        drawn = [instructions.draw(kind, Random(seed)) for seed in (5, 5)]
        assert drawn[0] == drawn[1] == json.loads(json.dumps(drawn[0]))


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'haiku'.*lower_case"):
        instructions.draw("haiku", Random(0))


def test_sentences_keep_abbreviations_numbers_and_lists_whole() -> None:
    assert sentences("Dr. Li paid $3.50, e.g. for tea. Fine!") == ["Dr. Li paid $3.50, e.g. for tea.", "Fine!"]
    assert sentences("1. Reefs grow.\n2. They are old.") == ["1. Reefs grow.", "2. They are old."]
    assert sentences('She said "go." Then "no?" Yes.') == ['She said "go."', 'Then "no?"', "Yes."]
    assert sentences("") == [] and words("It's a well-known one: 12.") == ["It's", "a", "well-known", "one", "12"]
