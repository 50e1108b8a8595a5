"""Instructions that put the answer, or a part of it, between marks."""

import json
import re
from itertools import dropwhile, takewhile
from random import Random
from typing import ClassVar

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.sentences import words

_SMALL = frozenset(
    words(
        "a an and are as at be because by can for from has have here here's how i i'm if in is it it's its of on one "
        "or our so some sure that the their there these they this to was we were what when which who why will with "
        "you your"
    )
)


def _is_small(word: str) -> bool:
    """A word that names nothing, so no title begins or goes on with it."""
    return word.casefold() in _SMALL


class Wrapped(Instruction):
    """The whole answer stands between two marks, which appear nowhere inside it."""

    bars = ("layout", "start", "end")
    step = "wrap"
    opening: ClassVar[str]
    closing: ClassVar[str]

    def verify(self, params: Params, answer: str) -> bool:
        inside = answer.removeprefix(self.opening).removesuffix(self.closing)
        whole = len(answer) == len(inside) + len(self.opening) + len(self.closing)
        return whole and not any(mark in inside for mark in (self.opening, self.closing))

    def repair(self, params: Params, answer: str) -> str:
        return self.opening + answer.replace(self.opening, "").replace(self.closing, "").strip() + self.closing


class Quotes(Wrapped):
    kind = "quotes"
    ifeval = "startend:quotation"
    governs = ("whole",)
    opening = closing = '"'


class SquareBrackets(Wrapped):
    kind = "square_brackets"
    governs = ("whole", "marks", "sentences", "brackets")
    opening, closing = "[", "]"


class AnswerTags(Wrapped):
    kind = "answer_tags"
    governs = ("whole", "marks", "sentences", "words", "letters", "case")
    opening, closing = "<answer>", "</answer>"


class CodeBlock(Wrapped):
    """Between two lines of three backticks; a language may be named after the first."""

    kind = "code_block"
    governs = ("whole", "marks", "sentences")
    opening, closing = "```\n", "\n```"

    def verify(self, params: Params, answer: str) -> bool:
        return bool(re.fullmatch(r"```\w*\n(?:(?!```).)+\n```", answer, re.DOTALL))

    def repair(self, params: Params, answer: str) -> str:
        return self.opening + answer.replace("```", "").strip() + self.closing


class Json(Instruction):
    """One JSON object with one given key; nothing but a Markdown code fence may stand around it."""

    kind = "json"
    ifeval = "detectable_format:json_format"
    governs = ("whole", "marks", "sentences", "words", "letters", "case")
    bars = ("layout", "start", "end")
    step = "wrap"
    answer_format = "json"

    def draw(self, rng: Random) -> Params:
        return {"key": rng.choice(("answer", "reply", "response", "text", "result", "output"))}

    def verify(self, params: Params, answer: str) -> bool:
        try:
            parsed = json.loads(re.sub(r"^```(?:json)?\s*|\s*```$", "", answer))
        except ValueError:
            return False
        return isinstance(parsed, dict) and list(parsed) == [params["key"]] and bool(str(parsed[params["key"]]).strip())

    def repair(self, params: Params, answer: str) -> str:
        return json.dumps({params["key"]: answer}, ensure_ascii=False)


class Title(Instruction):
    """A title between double angle brackets somewhere in the answer, and text beside it."""

    kind = "title"
    ifeval = "detectable_format:title"
    governs = ("start",)
    step = "frame"
    _title = re.compile(r"<<[^<>\n]+>>")

    def verify(self, params: Params, answer: str) -> bool:
        return bool(self._title.search(answer)) and len(words(self._title.sub("", answer))) >= 3

    def repair(self, params: Params, answer: str) -> str | None:
        name = _subject(answer)
        return f"<<{name}>>\n{answer}" if name else None


class Heading(Instruction):
    """The first line is a Markdown heading, and text follows."""

    kind = "heading"
    governs = ("start",)
    step = "frame"

    def verify(self, params: Params, answer: str) -> bool:
        first, _, text = answer.partition("\n")
        return bool(re.fullmatch(r"#{1,3} .*\w.*", first)) and len(words(text)) >= 3

    def repair(self, params: Params, answer: str) -> str | None:
        name = _subject(answer)
        return f"# {name}\n{answer}" if name else None


def _subject(answer: str) -> str:
    """What an answer is on, as a title: its first words that name something."""
    subject = list(dropwhile(_is_small, words(answer)))
    named = list(takewhile(lambda word: not _is_small(word), subject))[:4]
    return " ".join(word[:1].upper() + word[1:] for word in named)
