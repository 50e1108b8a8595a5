"""A small world whose questions have one right answer each: a model of a quarter million weights learns it in minutes.

    sums      what is 3 plus 4 ?                                  7
    larger    which is larger 3 or 8 ?                            8
    lookup    tom has a ball and ann has a cup . who has the cup ?  ann
    repeat    repeat red cat sun                                  red cat sun
    reverse   reverse red cat sun                                 sun cat red
    sort      sort 5 2 8                                          2 5 8
    times     write cat 3 times                                   cat cat cat
    quotes    put red cat in quotes                               " red cat "
    recall    remember that tom likes tea / what does tom like ?  tea          (two user turns)
    tell      tell about tom                                      (open: any sentence will do)

Words are whole tokens. A question is reserved for examinations by the hash of its text, and no document, human row or
prompt may use a reserved one.
"""

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

NAMES = ("tom", "ann", "bob", "eva", "sam", "mia", "leo", "zoe", "max", "ida", "jon", "kim")
THINGS = (
    "ball", "cup", "hat", "key", "book", "lamp", "coin", "map", "ring", "box", "drum", "kite", "rope", "shoe", "bell",
    "coat", "fork", "pen", "bag", "flag",
)  # fmt: skip
WORDS = (
    "red", "blue", "green", "cat", "dog", "sun", "moon", "tree", "fish", "bird", "milk", "tea", "snow", "rain", "wind",
    "star", "rock", "leaf", "fire", "sand", "road", "hill", "lake", "boat", "door", "wall", "rice", "corn", "salt",
    "gold", "king", "song",
)  # fmt: skip
DRINKS = ("tea", "milk", "water", "juice", "soup", "rice", "corn", "cake", "fish", "jam")
SEPARATOR = " / "
"""Between the user turns of a question of several turns."""
ACKNOWLEDGED = "ok"
"""The assistant's turn between them."""
OPEN = "tell"
RESERVED_SHARE = 5
"""One question in this many is kept for examinations."""


@dataclass(frozen=True)
class Question:
    """`text` holds the user turns, joined by SEPARATOR; `answer` is None where any answer will do."""

    family: str
    text: str
    answer: str | None

    def turns(self) -> list[dict[str, str]]:
        """As messages, ending with the user's last turn."""
        first, *rest = self.text.split(SEPARATOR)
        messages = [{"role": "user", "content": first}]
        for turn in rest:
            messages += [{"role": "assistant", "content": ACKNOWLEDGED}, {"role": "user", "content": turn}]
        return messages


def draw_sums(rng: random.Random) -> str:
    return f"what is {rng.randrange(10)} plus {rng.randrange(10)} ?"


def draw_larger(rng: random.Random) -> str:
    first, second = rng.sample(range(20), 2)
    return f"which is larger {first} or {second} ?"


def draw_lookup(rng: random.Random) -> str:
    count = rng.choice((2, 2, 3))
    names, things = rng.sample(NAMES, count), rng.sample(THINGS, count)
    facts = " and ".join(f"{name} has a {thing}" for name, thing in zip(names, things, strict=True))
    return f"{facts} . who has the {rng.choice(things)} ?"


def draw_repeat(rng: random.Random) -> str:
    return "repeat " + " ".join(rng.sample(WORDS, rng.choice((2, 3, 4))))


def draw_reverse(rng: random.Random) -> str:
    return "reverse " + " ".join(rng.sample(WORDS, rng.choice((2, 3))))


def draw_sort(rng: random.Random) -> str:
    return "sort " + " ".join(map(str, rng.sample(range(20), 3)))


def draw_times(rng: random.Random) -> str:
    return f"write {rng.choice(WORDS)} {rng.choice((2, 3, 4))} times"


def draw_quotes(rng: random.Random) -> str:
    return f"put {' '.join(rng.sample(WORDS, rng.choice((1, 2))))} in quotes"


def draw_recall(rng: random.Random) -> str:
    name = rng.choice(NAMES)
    return f"remember that {name} likes {rng.choice(DRINKS)}{SEPARATOR}what does {name} like ?"


def draw_tell(rng: random.Random) -> str:
    return f"tell about {rng.choice(NAMES)} and the {rng.choice(THINGS)}"


def _solve_lookup(match: re.Match[str]) -> str | None:
    facts = re.findall(r"(\w+) has a (\w+)", match[1])
    if " and ".join(f"{name} has a {thing}" for name, thing in facts) != match[1]:
        return None
    owners = [name for name, thing in facts if thing == match[2]]
    return owners[0] if len(owners) == 1 else None


def _solve_sort(match: re.Match[str]) -> str:
    return " ".join(sorted(match[1].split(), key=int))


DRAW: dict[str, Callable[[random.Random], str]] = {
    "sums": draw_sums, "larger": draw_larger, "lookup": draw_lookup, "repeat": draw_repeat, "reverse": draw_reverse,
    "sort": draw_sort, "times": draw_times, "quotes": draw_quotes, "recall": draw_recall, OPEN: draw_tell,
}  # fmt: skip
FAMILIES = tuple(DRAW)
_WORD = r"(?:" + "|".join(WORDS) + ")"
SOLVE: dict[str, tuple[str, Callable[[re.Match[str]], str | None]]] = {
    "sums": (r"what is (\d) plus (\d) \?", lambda m: str(int(m[1]) + int(m[2]))),
    "larger": (
        r"which is larger (1?\d) or (1?\d) \?",
        lambda m: str(max(int(m[1]), int(m[2]))) if m[1] != m[2] else None,
    ),
    "lookup": (r"(.+) \. who has the (\w+) \?", _solve_lookup),
    "repeat": (rf"repeat ({_WORD}(?: {_WORD}){{1,3}})", lambda m: m[1]),
    "reverse": (rf"reverse ({_WORD}(?: {_WORD}){{1,2}})", lambda m: " ".join(reversed(m[1].split()))),
    "sort": (r"sort (1?\d 1?\d 1?\d)", _solve_sort),
    "times": (rf"write ({_WORD}) ([234]) times", lambda m: " ".join([m[1]] * int(m[2]))),
    "quotes": (rf"put ({_WORD}(?: {_WORD})?) in quotes", lambda m: f'" {m[1]} "'),
    "recall": (
        r"remember that (\w+) likes (\w+) / what does (\w+) like \?",
        lambda m: m[2] if m[1] == m[3] else None,
    ),
}


def draw(rng: random.Random, family: str, reserved: bool) -> Question:
    """A question of `family`, reserved for examinations or not."""
    while True:
        text = DRAW[family](rng)
        if is_reserved(text) == reserved:
            return Question(family, text, None if family == OPEN else solve(family, text))


def is_reserved(text: str) -> bool:
    """Whether a question is kept for examinations: by its text alone, so that everybody agrees."""
    return hashlib.sha256(text.encode()).digest()[0] % RESERVED_SHARE == 0


def solve(family: str, text: str) -> str | None:
    """The right answer; None when `text` is no well-formed question of `family`."""
    if family == OPEN:
        return None
    pattern, answer = SOLVE[family]
    match = re.fullmatch(pattern, text)
    return answer(match) if match else None


def parse(family: str, text: str) -> Question | None:
    """A question that somebody wrote, understood; None when it is not well formed."""
    text = " ".join(text.split())
    if family == OPEN:
        match = re.fullmatch(r"tell about (\w+) and the (\w+)", text)
        known = match is not None and match[1] in NAMES and match[2] in THINGS
        return Question(family, text, None) if known else None
    answer = solve(family, text)
    return None if answer is None else Question(family, text, answer)


def tell(rng: random.Random, text: str) -> str:
    """A fitting answer to an open question."""
    *_, name, _, _, thing = text.split()
    return f"{name} has a {thing} and likes {rng.choice(DRINKS)} ."
