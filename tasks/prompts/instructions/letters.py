"""Instructions about letters and marks."""

import re
from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.sentences import sentences

_BOLD = re.compile(r"\*\*[^*\s][^*\n]*\*\*")


class LowerCase(Instruction):
    kind = "lower_case"

    def verify(self, params: Params, answer: str) -> bool:
        return answer.islower()

    def repair(self, params: Params, answer: str) -> str:
        return answer.lower()


class Capitals(Instruction):
    kind = "capitals"

    def verify(self, params: Params, answer: str) -> bool:
        return answer.isupper()

    def repair(self, params: Params, answer: str) -> str:
        return answer.upper()


class NoCommas(Instruction):
    kind = "no_commas"

    def verify(self, params: Params, answer: str) -> bool:
        return "," not in answer

    def repair(self, params: Params, answer: str) -> str:
        return answer.replace(",", "")


class Exclamations(Instruction):
    """Every sentence ends with an exclamation mark."""

    kind = "exclamations"

    def verify(self, params: Params, answer: str) -> bool:
        return all(sentence.rstrip("\"”')*").endswith("!") for sentence in sentences(answer))

    def repair(self, params: Params, answer: str) -> str:
        return " ".join(re.sub(r"[.!?:;,]*(?=[\"”')*]*$)", "!", sentence, count=1) for sentence in sentences(answer))


class Highlight(Instruction):
    """At least n words or phrases between double asterisks, as Markdown sets bold type."""

    kind = "highlight"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((1, 2, 3))}

    def verify(self, params: Params, answer: str) -> bool:
        return len(_BOLD.findall(answer)) >= params["n"]

    def repair(self, params: Params, answer: str) -> str:
        # Long words carry the content; the first time each appears is the one that a writer would set bold.
        content = list(dict.fromkeys(re.findall(r"\b[A-Za-z]{6,}\b", answer.replace("*", ""))))
        text = answer.replace("*", "")
        for word in content[: params["n"]]:
            text = re.sub(rf"\b{word}\b", f"**{word}**", text, count=1)
        return text
