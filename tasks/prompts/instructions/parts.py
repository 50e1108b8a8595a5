"""Instructions to divide an answer into parts."""

import re
from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.instructions.choosing import joined_to, shares
from tasks.prompts.sentences import sentences, words


def _parts(answer: str, n: int) -> list[str]:
    """The sentences in n parts; none when there are fewer."""
    return [" ".join(share) for share in shares(sentences(answer), n)]


class Paragraphs(Instruction):
    """Exactly n parts with a line of three asterisks between them."""

    kind = "paragraphs"
    ifeval = "length_constraints:number_paragraphs"
    governs = ("layout", "marks")
    step = "lay_out"
    _divider = re.compile(r"^\s*\*\*\*\s*$", re.MULTILINE)

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((2, 3, 4))}

    def verify(self, params: Params, answer: str) -> bool:
        parts = self._divider.split(answer)
        return len(parts) == params["n"] and all(words(part) for part in parts)

    def repair(self, params: Params, answer: str) -> str | None:
        return "\n***\n".join(_parts(answer, params["n"])) or None


class TwoParts(Paragraphs):
    kind = "two_parts"

    def draw(self, rng: Random) -> Params:
        return {}

    def verify(self, params: Params, answer: str) -> bool:
        return super().verify({"n": 2}, answer)

    def repair(self, params: Params, answer: str) -> str | None:
        return super().repair({"n": 2}, answer)


class ParagraphStart(Instruction):
    """Exactly n paragraphs with blank lines between them, of which one begins with a given word."""

    kind = "paragraph_start"
    ifeval = "length_constraints:nth_paragraph_first_word"
    governs = ("layout", "start", "emphasis")
    step = "lay_out"
    starts = ("Often", "Perhaps", "Sometimes", "Usually")

    def draw(self, rng: Random) -> Params:
        n = rng.choice((2, 3))
        return {"n": n, "place": rng.randint(1, n), "word": rng.choice(self.starts)}

    def verify(self, params: Params, answer: str) -> bool:
        paragraphs = [part.strip() for part in answer.split("\n\n") if part.strip()]
        if len(paragraphs) != params["n"]:
            return False
        first = re.match(r"'*\"*([^\s.,?!'\"]+)", paragraphs[params["place"] - 1])
        return first is not None and first[1].casefold() == params["word"].casefold()

    def repair(self, params: Params, answer: str) -> str | None:
        parts = _parts(answer, params["n"])
        if not parts:
            return None
        parts[params["place"] - 1] = joined_to(params["word"], parts[params["place"] - 1])
        return "\n\n".join(parts)


class Sections(Instruction):
    """Exactly n headings with numbers from 1, each on a new line and with text after it."""

    kind = "sections"
    ifeval = "detectable_format:multiple_sections"
    governs = ("layout", "marks", "start", "digits", "case", "emphasis")
    step = "lay_out"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((2, 3)), "marker": rng.choice(("Section", "SECTION", "Part"))}

    def verify(self, params: Params, answer: str) -> bool:
        _, *pieces = re.split(rf"^\W*{params['marker']} (\d+)\b", answer, flags=re.MULTILINE)
        numbers, texts = pieces[::2], pieces[1::2]
        return numbers == [str(number + 1) for number in range(params["n"])] and all(map(words, texts))

    def repair(self, params: Params, answer: str) -> str | None:
        parts = enumerate(_parts(answer, params["n"]), start=1)
        return "\n\n".join(f"{params['marker']} {number}\n{part}" for number, part in parts) or None


class TwoResponses(Instruction):
    """Two different answers with six asterisks between them."""

    kind = "two_responses"
    ifeval = "combination:two_responses"
    governs = ("layout", "marks", "sentences")
    bars = ("start", "end", "words")
    step = "lay_out"

    def verify(self, params: Params, answer: str) -> bool:
        parts = [part.strip().casefold() for part in answer.split("******")]
        return len(parts) == 2 and all(map(words, parts)) and parts[0] != parts[1]

    def repair(self, params: Params, answer: str) -> str | None:
        return "\n******\n".join(_parts(answer, 2)) or None
