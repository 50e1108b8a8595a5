"""Instructions on how often something comes: at least n times, or fewer than n."""

from typing import ClassVar

from tasks.prompts.instructions.base import Instruction, Params, Step
from tasks.prompts.instructions.choosing import leading


class Counted(Instruction):
    """Parameters "relation" and "n", and what `count` needs. Only a writer can add what is missing; of an answer with
    too much the sentences are kept that still pass.
    """

    step: ClassVar[Step] = "choose"

    def count(self, params: Params, answer: str) -> int:
        raise NotImplementedError(f"{type(self).__name__} defines no count()")

    def verify(self, params: Params, answer: str) -> bool:
        found = self.count(params, answer)
        return found >= params["n"] if params["relation"] == "at least" else found < params["n"]

    def repair(self, params: Params, answer: str) -> str | None:
        if params["relation"] == "at least":
            return answer
        return leading(answer, lambda text: self.verify(params, text))
