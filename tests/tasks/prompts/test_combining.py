"""Instructions that may meet on one answer can be followed together, whatever their parameters: shown by answers."""

from collections.abc import Sequence
from itertools import combinations
from random import Random

import pytest

from tasks.prompts import instructions
from tasks.prompts.instructions import KINDS, Check
from tasks.prompts.instructions.base import STEPS, Instruction
from tasks.prompts.instructions.combining import compatible, draw_compatible
from tasks.prompts.instructions.keywords import AVOIDED, KEYWORDS
from tasks.prompts.sentences import words

REQUEST = "How do 2 reefs grow, and why don't they stop?"
ENGLISH = (
    "Healthy coral gardens shelter countless colorful fishes", "Patient divers sometimes discover hidden animals",
    "Gentle currents deliver plenty of nutritious particles", "Careful visitors protect delicate underwater homes",
    "Scientists measure the temperature several times", "Coastal communities benefit from beautiful reefs",
    "Marine biologists record whatever happens beneath boats",
)  # fmt: skip
GERMAN = (
    "Gesunde Riffe geben farbigen Fischen eine sichere Heimat", "Geduldige Taucher finden dort seltene Tiere im Wasser",
    "Sanfte Wellen bringen den Korallen genug Nahrung", "Die Menschen an der Meereseite lieben ihre Riffe",
    "Forscher messen dort die Temperatur des Wassers", "Besucher sollten mit den Korallen vorsichtig umgehen",
    "Viele Fische legen ihre Eier zwischen die Korallen",
)  # fmt: skip
SEEDS = 8


def plain_for(checks: Sequence[Check]) -> str:
    """What a writer might say who is told only what code cannot repair."""
    params = {check["kind"]: check["params"] for check in checks}
    told = GERMAN if "language" in params else ENGLISH
    gaps = " [name]" * params.get("placeholders", {"n": 0})["n"]
    counted = params.get("keyword_frequency", {"relation": "fewer than"})
    word = counted if counted["relation"] == "at least" else params.get("keyword", {})
    said = f" {word['word']}" * word.get("n", 1) if word else ""
    return " ".join(f"{sentence}{said}{gaps}." for sentence in told)


def followed(checks: Sequence[Check]) -> str | None:
    """An answer that passes all checks, made by their repairs in the canonical order."""
    text = plain_for(checks)
    repairable = [check for check in checks if type(KINDS[check["kind"]]).repair is not Instruction.repair]
    answer = instructions.repair(repairable, text) if repairable else text
    return answer if answer and instructions.verify(checks, answer) else None


def drawn(kinds: Sequence[str], seed: int) -> list[Check]:
    params = [instructions.bind(instructions.draw(kind, Random(f"{kind}{seed}")), REQUEST) for kind in kinds]
    for check in params:
        if check["kind"] == "language":
            check["params"]["language"] = "German"
    return params


MEETING = [pair for pair in combinations(KINDS, 2) if compatible(*pair)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_that_may_meet_can_be_followed(kind: str) -> None:
    for pair in (pair for pair in MEETING if pair[0] == kind):
        for seed in range(SEEDS):
            checks = drawn(pair, seed)
            assert followed(checks), f"no answer follows {checks}: {plain_for(checks)}"


def test_larger_sets_can_be_followed_too() -> None:
    sizes = set()
    for seed in range(400):
        checks = drawn(draw_compatible(list(KINDS), 5, Random(seed)), seed)
        sizes.add(len(checks))
        if "options" not in (kinds := [check["kind"] for check in checks]):
            assert followed(checks), f"no answer follows {kinds}: {checks}"
    assert 5 in sizes


def test_most_kinds_meet_others_and_none_itself() -> None:
    partners = {kind: {one for pair in MEETING if kind in pair for one in pair if one != kind} for kind in KINDS}
    assert {kind for kind in KINDS if len(partners[kind]) < 4} == {"options"}
    assert not any(compatible(kind, kind) for kind in KINDS)
    assert all(compatible(one, other) == compatible(other, one) for one, other in combinations(KINDS, 2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lower_case", "capitals"), ("json", "bullets"), ("quotes", "end_phrase"), ("keyword", "forbidden_words"),
        ("no_commas", "start_phrase"), ("max_words", "min_words"), ("one_sentence", "bullets"), ("language", "keyword"),
        ("lower_case", "signature"), ("exclamations", "end_phrase"), ("no_digits", "numbered"),
        ("sentence_count", "postscript"), ("title", "start_phrase"), ("letter_frequency", "max_words"),
    ],
)  # fmt: skip
def test_contradictions_never_meet(one: str, other: str) -> None:
    assert not compatible(one, other)
    for seed in range(50):
        assert not {one, other} <= set(draw_compatible(list(KINDS), 5, Random(seed)))


def test_a_word_to_avoid_is_part_of_no_other_instruction() -> None:
    for kind in set(KINDS) - {"forbidden_words", "repeat_request", "options"}:
        values = [
            str(value) for seed in range(40) for value in instructions.draw(kind, Random(seed))["params"].values()
        ]
        said = {word.casefold() for value in values for word in words(value)}
        assert not said & set(AVOIDED), kind
        assert not said & set(KEYWORDS) or kind in ("keyword", "keyword_frequency")


def test_drawing_keeps_to_its_kinds_its_count_and_its_first() -> None:
    kinds = ["lower_case", "quotes", "json", "bullets", "keyword"]
    for seed in range(30):
        found = draw_compatible(kinds, 3, Random(seed), first="json")
        assert found[0] == "json" and len(found) == len(set(found)) <= 3 and set(found) <= set(kinds)
        assert draw_compatible(kinds, 1, Random(seed), first="quotes") == ["quotes"]
    assert draw_compatible(kinds, 3, Random(1)) == draw_compatible(kinds, 3, Random(1))
    assert draw_compatible(["options", "quotes"], 2, Random(0), first="options") == ["options"]


def test_repairs_follow_one_order_however_checks_are_listed() -> None:
    checks = drawn(("lower_case", "end_phrase", "bullets", "highlight", "no_contractions"), 3)
    answers = {
        instructions.repair(order, plain_for(checks)) for order in (checks, checks[::-1], checks[2:] + checks[:2])
    }
    assert len(answers) == 1 and None not in answers
    assert {kind.step for kind in KINDS.values()} == set(STEPS)


def test_a_message_with_several_instructions_holds_each_and_one_length() -> None:
    checks = drawn(("bullets", "lower_case", "keyword"), 0)
    asked = instructions.ask(checks, "What is a reef?", Random(0), "training")
    assert "What is a reef?" in asked.message and str(checks[2]["params"]["word"]) in asked.message
    assert any(asked.plain.endswith(text) for text in instructions.words_of("forms")["lengths"]["points"]["plain"])
    assert sum(line.strip() != "" for line in asked.message.splitlines()) >= 3
