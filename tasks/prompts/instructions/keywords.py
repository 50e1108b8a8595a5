"""Instructions on which words to use and which to avoid.

No word here is part of another kind's phrase or mark, so that no two instructions contradict each other.
"""

import re
from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.instructions.choosing import without
from tasks.prompts.instructions.counting import Counted

KEYWORDS = ("today", "together", "morning", "simple", "imagine", "favorite", "surprise", "quiet")
AVOIDED = ("very", "many", "always", "important", "also", "great", "people", "different", "because", "most")


def _count(word: str, text: str) -> int:
    return len(re.findall(rf"\b{re.escape(word)}\b", text, re.IGNORECASE))


class Keyword(Instruction):
    """A given word appears. No repair: only a writer can fit a word in."""

    kind = "keyword"
    ifeval = "keywords:existence"
    governs = ("keywords",)

    def draw(self, rng: Random) -> Params:
        return {"word": rng.choice(KEYWORDS)}

    def verify(self, params: Params, answer: str) -> bool:
        return _count(params["word"], answer) > 0


class KeywordFrequency(Counted):
    """A given word at least or fewer than n times."""

    kind = "keyword_frequency"
    ifeval = "keywords:frequency"
    governs = ("keywords",)
    bars = ("words",)

    def draw(self, rng: Random) -> Params:
        relation, n = rng.choice((("at least", 2), ("at least", 3), ("fewer than", 2), ("fewer than", 3)))
        return {"word": rng.choice(KEYWORDS), "relation": relation, "n": n}

    def count(self, params: Params, answer: str) -> int:
        return _count(params["word"], answer)


class ForbiddenWords(Instruction):
    """Two given words appear nowhere; the repair leaves out the sentences that hold them."""

    kind = "forbidden_words"
    ifeval = "keywords:forbidden_words"
    governs = ("keywords",)

    def draw(self, rng: Random) -> Params:
        return {"words": sorted(rng.sample(AVOIDED, 2))}

    def fields(self, params: Params) -> Params:
        return {"words": " or ".join(f'"{word}"' for word in params["words"])}

    def verify(self, params: Params, answer: str) -> bool:
        return not any(_count(word, answer) for word in params["words"])

    def repair(self, params: Params, answer: str) -> str | None:
        return without(answer, lambda sentence: not self.verify(params, sentence))
