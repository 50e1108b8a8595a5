"""What a verifiable instruction is: it draws its parameters, is worded in several ways, and checks an answer.

Instructions on one answer never contradict each other, by construction: each kind says what of an answer it `governs`
and what it `bars` others from governing (combining.py), and repairs follow one order (`STEPS`).
"""

from random import Random
from typing import Any, ClassVar, Literal

Params = dict[str, Any]
"""An instruction's drawn parameters: plain JSON values, named like the fields of its wordings."""

Resource = Literal[
    "case", "commas", "digits", "contractions", "marks", "emphasis", "brackets", "letters", "keywords", "words",
    "sentences", "layout", "start", "end", "whole", "language",
]  # fmt: skip
"""What an instruction can rule. "marks": what ends each line or sentence; "words" and "sentences": how many there are;
"layout": what lines there are; "whole": what stands around the answer."""

Form = Literal["single_turn", "multi_turn", "second_turn"]
FORMS: tuple[Form, ...] = ("single_turn", "multi_turn", "second_turn")
"""How an instruction is given: with the request, once for every following question, or to revise an answer."""

Step = Literal["edit", "choose", "mark", "lay_out", "stress", "frame", "wrap", "letters"]
STEPS: tuple[Step, ...] = ("edit", "choose", "mark", "lay_out", "stress", "frame", "wrap", "letters")
"""The order of repairs: each leaves alone what those before it made."""

Relation = Literal["at least", "fewer than"]


class Instruction:
    """One kind. Subclasses set `kind`, `governs`, verify, and where it leaves natural text, repair.

    The wordings lie in wordings.yaml under the kind's name.
    """

    kind: ClassVar[str]
    ifeval: ClassVar[str] = ""
    """The instruction of IFEval that it corresponds to; "" for a kind of our own."""
    governs: ClassVar[tuple[Resource, ...]]
    bars: ClassVar[tuple[Resource, ...]] = ()
    """What no other instruction on the same answer may govern, although this one does not."""
    step: ClassVar[Step] = "edit"
    forms: ClassVar[tuple[Form, ...]] = FORMS
    answer_format: ClassVar[str] = "paragraph"
    """One of tasks/prompts/family.py, FORMATS."""

    def draw(self, rng: Random) -> Params:
        """Parameters of one instruction; most kinds have none."""
        return {}

    def bind(self, params: Params, request: str) -> Params:
        """With what depends on the request that the instruction goes with."""
        return params

    def fields(self, params: Params) -> Params:
        """What the wordings say of the parameters."""
        return params

    def verify(self, params: Params, answer: str) -> bool:
        """Whether a stripped answer with some words in it follows the instruction."""
        raise NotImplementedError(f"{type(self).__name__} defines no verify()")

    def repair(self, params: Params, answer: str) -> str | None:
        """A plain answer made to follow the instruction, deterministically; None where that needs a writer."""
        return None
