"""Instructions about length and layout."""

import re
from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.sentences import sentences, words

_MARKER = re.compile(r"^(?:[-*•>]|\d{1,2}[.)])\s+")


class Bullets(Instruction):
    kind = "bullets"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((2, 3, 4))}

    def verify(self, params: Params, answer: str) -> bool:
        return len(re.findall(r"^\s*[-*•]\s+\S", answer, re.MULTILINE)) == params["n"]

    def repair(self, params: Params, answer: str) -> str | None:
        parts = _first_points(answer, params["n"])
        return "\n".join(f"- {part}" for part in parts) if parts else None


class Numbered(Instruction):
    """A list numbered from 1 to n, and no other numbered line."""

    kind = "numbered"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((2, 3, 4))}

    def verify(self, params: Params, answer: str) -> bool:
        numbers = re.findall(r"^\s*(\d+)[.)]\s+\S", answer, re.MULTILINE)
        return [int(number) for number in numbers] == list(range(1, params["n"] + 1))

    def repair(self, params: Params, answer: str) -> str | None:
        parts = _first_points(answer, params["n"])
        return "\n".join(f"{number}. {part}" for number, part in enumerate(parts, start=1)) if parts else None


class TwoParts(Instruction):
    """Exactly two parts with a line of three asterisks between them."""

    kind = "two_parts"

    def verify(self, params: Params, answer: str) -> bool:
        parts = re.split(r"^\s*\*\*\*\s*$", answer, flags=re.MULTILINE)
        return len(parts) == 2 and all(words(part) for part in parts)

    def repair(self, params: Params, answer: str) -> str | None:
        parts = sentences(answer)
        half = (len(parts) + 1) // 2
        return f"{' '.join(parts[:half])}\n***\n{' '.join(parts[half:])}" if len(parts) > 1 else None


class OneSentence(Instruction):
    kind = "one_sentence"

    def verify(self, params: Params, answer: str) -> bool:
        return len(sentences(answer)) == 1 and answer.rstrip("\"”')").endswith((".", "!", "?"))

    def repair(self, params: Params, answer: str) -> str:
        return sentences(answer)[0]


class MaxWords(Instruction):
    """At most n words; the repair keeps whole sentences from the start."""

    kind = "max_words"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((10, 15, 20, 25))}

    def verify(self, params: Params, answer: str) -> bool:
        return len(words(answer)) <= params["n"]

    def repair(self, params: Params, answer: str) -> str | None:
        kept = ""
        for sentence in sentences(answer):
            if len(words(f"{kept} {sentence}")) > params["n"]:
                break
            kept = f"{kept} {sentence}".strip()
        return kept or None


class QuotedLines(Instruction):
    """Every line starts with ">", as mail quotes."""

    kind = "quoted_lines"

    def verify(self, params: Params, answer: str) -> bool:
        return all(line.lstrip().startswith(">") for line in answer.splitlines() if line.strip())

    def repair(self, params: Params, answer: str) -> str:
        return "\n".join(f"> {_MARKER.sub('', part)}" for part in sentences(answer))


def _first_points(answer: str, n: int) -> list[str]:
    """The first n sentences without list markers; none when there are fewer."""
    parts = [_MARKER.sub("", part) for part in sentences(answer)]
    return parts[:n] if len(parts) >= n else []
