"""Damage to answers, with the five labels that it leaves: a procedural stand-in for human ratings.

An undamaged answer counts as helpful, correct and coherent (4, 4, 4): labels are relative to the model that wrote it.
An operator takes points off by its severity. Complexity and verbosity are not opinions here; they are measured on the
text that comes out, by its share of long words and its number of words.

Labels are HelpSteer2's, 0..4: helpfulness, correctness, coherence, complexity, verbosity.
"""

import re
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tasks.prompts.sentences import sentences, words
from tasks.rows import ATTRIBUTES

SEVERITIES = (1, 2, 3)
VERBOSITY_WORDS = (10, 25, 60, 120)
"""Numbers of words from which verbosity is 1, 2, 3 and 4."""
COMPLEXITY_SHARES = (0.10, 0.18, 0.27, 0.36)
"""Shares of words of at least seven letters from which complexity is 1, 2, 3 and 4."""
FILLER = (
    "That is a very interesting thing to ask.",
    "There are many things that one could say here.",
    "As we all know, this matters to a lot of people.",
    "It is important to keep this in mind at all times.",
    "Needless to say, opinions may differ.",
    "At the end of the day, it is what it is.",
    "Let me say a few more words before going on.",
    "Of course, much more could be written about it.",
    "This is something that should not be forgotten.",
)
OPPOSITES = {
    "more": "less", "less": "more", "high": "low", "low": "high", "always": "never", "never": "always",
    "increase": "decrease", "increases": "decreases", "before": "after", "after": "before", "warm": "cold",
    "cold": "warm", "hot": "cold", "large": "small", "small": "large", "fast": "slow", "slow": "fast", "long": "short",
    "short": "long", "best": "worst", "first": "last", "easy": "hard", "important": "unimportant", "good": "bad",
    "safe": "dangerous", "can": "cannot", "is": "is not", "are": "are not", "does": "does not", "will": "will not",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """A text to damage, and the answer to another question that may take its place."""

    text: str
    other: str


Cut = tuple[int, int, int]
"""Points off helpfulness, correctness and coherence."""


@dataclass(frozen=True)
class Operator:
    damage: Callable[[Answer, int, Random], str]
    """The damaged text at a severity of 1 to 3; the text itself where it offers nothing to damage."""
    cuts: tuple[Cut, Cut, Cut]
    """By severity."""


def labels_of(text: str, cut: Cut = (0, 0, 0)) -> dict[str, float]:
    """The five attributes of a text that lost `cut`."""
    found = words(text)
    long_share = sum(len(word) >= 7 for word in found) / max(1, len(found))
    values = [*(4 - points for points in cut), bisect(COMPLEXITY_SHARES, long_share)]
    return dict(zip(ATTRIBUTES, map(float, [*values, bisect(VERBOSITY_WORDS, len(found))]), strict=True))


def _truncate(answer: Answer, severity: int, rng: Random) -> str:
    """The beginning only, cut off in the middle of a sentence."""
    tokens = answer.text.split()
    share = (0.6, 0.35, 0.15)[severity - 1] * rng.uniform(0.8, 1.2)
    return " ".join(tokens[: max(2, round(share * len(tokens)))]).rstrip(".!?")


def _shuffle_sentences(answer: Answer, severity: int, rng: Random) -> str:
    """Sentences in another order; from severity 2 on, pieces of four words within them too."""
    parts = sentences(answer.text)
    rng.shuffle(parts)
    if severity > 1:
        parts = [_shuffle_runs(part, 6 - severity, rng) for part in parts]
    return " ".join(parts)


def _shuffle_runs(text: str, size: int, rng: Random) -> str:
    tokens = text.split()
    runs = [tokens[i : i + size] for i in range(0, len(tokens), size)]
    rng.shuffle(runs)
    return " ".join(token for run in runs for token in run)


def _swap_facts(answer: Answer, severity: int, rng: Random) -> str:
    """Numbers changed and statements turned into their opposites, one, three or all that are found."""
    places = [
        match
        for match in re.finditer(r"\d+|[A-Za-z]+", answer.text)
        if match[0].isdigit() or match[0].lower() in OPPOSITES
    ]
    chosen = sorted(rng.sample(places, min(len(places), (1, 3, len(places))[severity - 1])), key=lambda m: -m.start())
    text = answer.text
    for match in chosen:
        text = text[: match.start()] + _opposite(match[0], rng) + text[match.end() :]
    return text


def _opposite(word: str, rng: Random) -> str:
    if word.isdigit():
        return str(int(word) + rng.choice((1, 2, 3, 7, 10)))
    other = OPPOSITES[word.lower()]
    return other.capitalize() if word[0].isupper() else other


def _repeat(answer: Answer, severity: int, rng: Random) -> str:
    """Sentences said again where they stand."""
    parts = sentences(answer.text)
    said = set(rng.sample(range(len(parts)), min(len(parts), severity)))
    return " ".join(" ".join([part] * (1 + severity)) if place in said else part for place, part in enumerate(parts))


def _off_topic(answer: Answer, severity: int, rng: Random) -> str:
    """The answer to another question: its end, most of it, or all of it."""
    own, other = sentences(answer.text), sentences(answer.other)
    if severity == 3 or len(own) < 2 or not other:
        return answer.other
    kept = max(1, len(own) // (severity + 1))
    return " ".join([*own[:kept], *other[: len(own) - kept]])


def _pad(answer: Answer, severity: int, rng: Random) -> str:
    """Phrases without content between the sentences."""
    parts = sentences(answer.text)
    for phrase in rng.sample(FILLER, (2, 5, 9)[severity - 1]):
        parts.insert(rng.randint(0, len(parts)), phrase)
    return " ".join(parts)


def _simplify(answer: Answer, severity: int, rng: Random) -> str:
    """Half of the sentences, the first one, or its first words as a sentence."""
    parts = sentences(answer.text)
    if severity == 1:
        return " ".join(parts[: max(1, len(parts) // 2)])
    if severity == 2 or not parts:
        return "".join(parts[:1])
    return " ".join(parts[0].split()[:6]).rstrip(",;:.") + "."


def _word_salad(answer: Answer, severity: int, rng: Random) -> str:
    """40, 70 or 100 % of the words change places."""
    tokens = answer.text.split()
    moved = sorted(rng.sample(range(len(tokens)), round((0.4, 0.7, 1.0)[severity - 1] * len(tokens))))
    for place, token in zip(moved, rng.sample([tokens[i] for i in moved], len(moved)), strict=True):
        tokens[place] = token
    return " ".join(tokens)


OPERATORS: dict[str, Operator] = {
    "truncate": Operator(_truncate, ((1, 0, 1), (2, 1, 2), (3, 2, 2))),
    "shuffle_sentences": Operator(_shuffle_sentences, ((1, 0, 1), (2, 1, 3), (3, 2, 4))),
    "swap_facts": Operator(_swap_facts, ((1, 1, 0), (2, 3, 0), (3, 4, 1))),
    "repeat": Operator(_repeat, ((1, 0, 1), (2, 0, 2), (2, 0, 3))),
    "off_topic": Operator(_off_topic, ((2, 2, 2), (3, 3, 2), (4, 4, 1))),
    "pad": Operator(_pad, ((1, 0, 0), (1, 0, 1), (2, 0, 2))),
    "simplify": Operator(_simplify, ((1, 0, 0), (2, 0, 0), (3, 1, 1))),
    "word_salad": Operator(_word_salad, ((2, 2, 3), (3, 3, 4), (4, 4, 4))),
}


def damaged(answer: Answer, copies: int, turn: int, rng: Random) -> list[tuple[str, int, str]]:
    """Up to `copies` damaged texts as (operator, severity, text), all different and none the answer itself.

    Operators take turns, beginning with number `turn`, so that a set of answers sees all of them about equally often.
    """
    names = list(OPERATORS)
    found: list[tuple[str, int, str]] = []
    texts = {answer.text}
    for step in range(len(names)):
        name, severity = names[(turn + step) % len(names)], rng.choice(SEVERITIES)
        text = OPERATORS[name].damage(answer, severity, rng).strip()
        if text and text not in texts and len(found) < copies:
            found.append((name, severity, text))
            texts.add(text)
    return found
