"""Instructions about what each line of an answer is."""

import re
from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.instructions.choosing import points
from tasks.prompts.sentences import sentences


class Bullets(Instruction):
    kind = "bullets"
    ifeval = "detectable_format:number_bullet_lists"
    governs = ("layout",)
    step = "lay_out"
    answer_format = "list"

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
    governs = ("layout", "digits")
    step = "lay_out"
    answer_format = "list"
    _number = re.compile(r"^\s*(\d+)[.)]\s+\S", re.MULTILINE)

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((2, 3, 4))}

    def verify(self, params: Params, answer: str) -> bool:
        return [int(number) for number in self._number.findall(answer)] == list(range(1, params["n"] + 1))

    def repair(self, params: Params, answer: str) -> str | None:
        parts = _first_points(answer, params["n"])
        return "\n".join(f"{number}. {part}" for number, part in enumerate(parts, start=1)) if parts else None


class Steps(Numbered):
    """Lines "Step 1: …" to n, in any case."""

    kind = "steps"
    governs = ("layout", "digits", "start")
    answer_format = "steps"
    _number = re.compile(r"^\W*step (\d+)[:.)]\W*\w", re.MULTILINE | re.IGNORECASE)

    def repair(self, params: Params, answer: str) -> str | None:
        parts = _first_points(answer, params["n"])
        return "\n".join(f"Step {number}: {part}" for number, part in enumerate(parts, start=1)) if parts else None


class QuotedLines(Instruction):
    """Every line starts with ">", as mail quotes."""

    kind = "quoted_lines"
    governs = ("layout",)
    bars = ("start", "end")
    step = "lay_out"

    def verify(self, params: Params, answer: str) -> bool:
        return all(line.lstrip().startswith(">") for line in answer.splitlines() if line.strip())

    def repair(self, params: Params, answer: str) -> str:
        return "\n".join(f"> {point}" for point in points(answer))


class SentenceLines(Instruction):
    """Every sentence stands on a line of its own, and there are two or more."""

    kind = "sentence_lines"
    governs = ("layout",)
    bars = ("start", "end")
    step = "lay_out"

    def verify(self, params: Params, answer: str) -> bool:
        lines = [line for line in answer.splitlines() if line.strip()]
        return len(lines) > 1 and all(len(sentences(line)) == 1 for line in lines)

    def repair(self, params: Params, answer: str) -> str:
        return "\n".join(points(answer))


def _first_points(answer: str, n: int) -> list[str]:
    """The first n sentences without list markers; none when there are fewer."""
    parts = points(answer)
    return parts[:n] if len(parts) >= n else []
