"""What a verifiable instruction is: it draws its parameters, is worded in several ways, and checks an answer."""

from random import Random
from typing import Any, ClassVar

Params = dict[str, Any]
"""An instruction's drawn parameters: plain JSON values, named like the fields of its wordings."""


class Instruction:
    """One kind. Subclasses set `kind`, verify, and where it leaves natural text, repair.

    The wordings lie in wordings.yaml under the kind's name.
    """

    kind: ClassVar[str]

    def draw(self, rng: Random) -> Params:
        """Parameters of one instruction; most kinds have none."""
        return {}

    def verify(self, params: Params, answer: str) -> bool:
        """Whether a stripped answer with some words in it follows the instruction."""
        raise NotImplementedError(f"{type(self).__name__} defines no verify()")

    def repair(self, params: Params, answer: str) -> str | None:
        """A plain answer made to follow the instruction, deterministically; None where that needs a writer."""
        return None
