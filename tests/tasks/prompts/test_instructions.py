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
    ("capital_words", {"relation": "at least", "n": 2}, "REEFS grow SLOWLY.", "REEFS grow Slowly."),
    ("capital_words", {"relation": "fewer than", "n": 2}, "REEFS grow slowly.", "REEFS grow SLOWLY."),
    ("letter_frequency", {"letter": "e", "relation": "at least", "n": 3}, "Reefs grow, yEs.", "Reefs grow, so."),
    ("letter_frequency", {"letter": "e", "relation": "fewer than", "n": 3}, "Reefs grow so.", "Reefs grow, yes."),
    ("no_digits", {}, "Reefs have three parts.", "Reefs have 3 parts."),
    ("no_contractions", {}, "The reef's fish do not sleep.", "The reef's fish don\u2019t sleep."),
    ("no_contractions", {}, "It is a reef, let us go.", "It's a reef, let us go."),
    ("code_block", {}, "```\nReefs grow slowly.\n```", "```\nReefs grow slowly.\n```\nHere it is!"),
    ("code_block", {}, "```text\nReefs grow slowly.\n```", "```\nReefs\n```\ngrow slowly\n```"),
    ("heading", {}, "# Reefs\nThey grow very slowly.", "#Reefs\nThey grow very slowly."),
    ("heading", {}, "## Coral reefs\n\nThey grow slowly.", "They grow.\n# Reefs\nThey grow slowly."),
    ("repeat_request", {"request": "What is a reef?"}, "what is a reef?\nA home.", "A home. What is a reef?"),
    ("repeat_request", {"request": "What is a reef?"}, "What is a reef? A home.", "What is a reef?"),
    ("hashtags", {"n": 2}, "Reefs grow slowly.\n#Reefs #Slow", "Reefs grow slowly. #Reefs #Slow"),
    ("hashtags", {"n": 2}, "Reefs grow slowly.\n#Reefs #Slow", "Reefs grow slowly.\n#Reefs #Slow #Old"),
    (
        "keyword_frequency",
        {"word": "quiet", "relation": "at least", "n": 2},
        "Quiet, quiet reefs.",
        "Quiet quietness here.",
    ),
    (
        "keyword_frequency",
        {"word": "quiet", "relation": "fewer than", "n": 2},
        "Quiet quietness here.",
        "Quiet, quiet reefs.",
    ),
    ("forbidden_words", {"words": ["also", "very"]}, "Every reef grows slowly.", "Reefs grow VERY slowly."),
    ("sentence_count", {"relation": "at least", "n": 2}, "They grow. **They** are old.", "They grow, e.g. in Asia."),
    ("sentence_count", {"relation": "fewer than", "n": 2}, "They grow, e.g. in Asia.", "They grow. They are old."),
    ("short_sentences", {"n": 3}, "Reefs grow slowly. They are old.", "Reefs grow slowly. They are very old."),
    ("min_words", {"n": 4}, "Reefs grow very slowly.", "Reefs grow - - slowly."),
    ("steps", {"n": 2}, "Step 1: Swim.\n**Step 2:** Look.", "Step 1: Swim.\nStep 3: Look."),
    ("steps", {"n": 2}, "STEP 1: SWIM.\nSTEP 2: LOOK.", "Swim out (step 1: easy).\nStep 2: Look."),
    ("sentence_lines", {}, "Reefs grow.\nThey are old.", "Reefs grow. They are old.\nYes."),
    ("paragraphs", {"n": 3}, "Reefs.\n***\nThey grow.\n***\nYes.", "Reefs.\n***\nThey grow.\n***"),
    (
        "paragraph_start",
        {"n": 2, "place": 2, "word": "Often"},
        "Reefs grow.\n\nOften, not.",
        "Often, not.\n\nReefs grow.",
    ),
    ("paragraph_start", {"n": 2, "place": 2, "word": "Often"}, "Reefs grow.\n\noften not.", "Reefs grow.\nOften not."),
    ("sections", {"n": 2, "marker": "Part"}, "Part 1\nReefs grow.\nPart 2: Yes.", "Part 1\nReefs grow.\nPart 2"),
    ("sections", {"n": 2, "marker": "Part"}, "## Part 1\nReefs.\n\n## Part 2\nFish.", "Part 1 and Part 2 are reefs."),
    ("two_responses", {}, "Reefs grow.\n******\nThey live.", "Reefs grow.\n******\nReefs grow."),
    ("language", {"language": "German"}, "Die Riffe wachsen sehr langsam.", "Reefs grow very slowly in the sea."),
    (
        "language",
        {"language": "Korean"},
        "산호초는 바다에서 아주 천천히 자랍니다.",
        "Sanhocho grows slowly in the sea.",
    ),
    ("placeholders", {"n": 2}, "Dear [name], meet me at [place].", "Dear [name], meet me at []."),
    (
        "options",
        {"options": ["My answer is yes.", "My answer is no."]},
        '"My answer is no."',
        "I guess: My answer is no.",
    ),
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
    assert not instructions.verify([instructions.bind(instructions.draw(kind, Random(0)), "Is it?")], answer)


WRITERS_ONLY = {"keyword", "language", "placeholders"}
"""Kinds without a repair."""
LUCKY = {"keyword_frequency", "min_words", "sentence_count", "letter_frequency", "options"}
"""Kinds whose repair needs a plain answer that is near to passing."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_a_repaired_answer_passes_and_keeps_its_words(kind: str, seed: int) -> None:
    check = instructions.bind(instructions.draw(kind, Random(seed)), "What is a reef?")
    repaired = instructions.repair([check], PLAIN)
    if repaired is None:
        assert kind in WRITERS_ONLY | LUCKY
        return
    assert kind not in WRITERS_ONLY and instructions.verify([check], repaired)
    assert instructions.repair([check], PLAIN) == repaired
    kept = {word.casefold() for word in words(repaired)} & {word.casefold() for word in words(PLAIN)}
    assert len(kept) >= 4


@pytest.mark.parametrize(
    ("check", "plain", "repaired"),
    [
        (("no_contractions", {}), "Can't it? They'll say it's Won’t.", "Cannot it? They will say it is Will not."),
        (("no_digits", {}), "There are 3 reefs. They grow slowly.", "They grow slowly."),
        (("forbidden_words", {"words": ["also", "very"]}), "Also fish. Reefs grow slowly.", "Reefs grow slowly."),
        (("sentence_count", {"relation": "fewer than", "n": 2}), "Reefs grow slowly. Yes!", "Reefs grow slowly."),
        (("options", {"options": ["That is true.", "That is false."]}), "Well: That is true. Ok.", "That is true."),
        (("options", {"options": ["That is true.", "That is false."]}), "That is true. That is false.", None),
        (("capital_words", {"relation": "fewer than", "n": 2}), "REEFS grow SO slowly.", "Reefs grow So slowly."),
        (("paragraph_start", {"n": 2, "place": 2, "word": "Often"}), "Reefs grow. I am.", "Reefs grow.\n\nOften I am."),
        (("hashtags", {"n": 2}), "Corals grow slowly.", "Corals grow slowly.\n#Corals #Slowly"),
        (("highlight", {"n": 1}), "Corals *grow*.\n***\nThey live.", "**Corals** grow.\n***\nThey live."),
        (("steps", {"n": 2}), "- Swim out there.\n- Look down.", "Step 1: Swim out there.\nStep 2: Look down."),
    ],
)  # fmt: skip
def test_repairs_write_what_a_writer_would(check: tuple[str, dict], plain: str, repaired: str | None) -> None:
    assert instructions.repair([a_check(*check)], plain) == repaired


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
    shown: dict[instructions.Use, set[str]] = {"training": set(), "evaluation": set()}
    for use, seen in shown.items():
        for seed in range(60):
            check = instructions.draw(kind, Random(seed % 3))
            asked = instructions.ask([check], "What is a reef?", Random(seed), use)
            message, plain = asked.message, asked.plain
            assert "What is a reef?" in message and plain.startswith("What is a reef? ")
            assert "{" not in message.replace('{"', "") and "  " not in message and message == message.strip()
            seen.add(message)
            said = instructions.KINDS[kind].fields(asked.checks[0]["params"])
            values = [str(value) for value in said.values()]
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
