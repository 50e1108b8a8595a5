"""Instructions on what an answer is made of: its language, its gaps, or one of a few sentences."""

import re
from random import Random
from typing import get_args

import py3langid

from tasks.prompts.instructions.base import Instruction, Params, Resource

LANGUAGES = {
    "Finnish": "fi", "French": "fr", "German": "de", "Italian": "it", "Korean": "ko", "Polish": "pl",
    "Portuguese": "pt", "Russian": "ru", "Spanish": "es", "Vietnamese": "vi",
}  # fmt: skip
"""ISO 639-1 codes. All put spaces between words, on which the counting of words rests."""


class Language(Instruction):
    kind = "language"
    ifeval = "language:response_language"
    governs = ("language",)
    bars = ("case", "keywords", "letters", "contractions", "start", "end")

    def draw(self, rng: Random) -> Params:
        return {"language": rng.choice(list(LANGUAGES))}

    def verify(self, params: Params, answer: str) -> bool:
        return py3langid.classify(answer)[0] == LANGUAGES[params["language"]]


class Placeholders(Instruction):
    """At least n gaps to fill in, like [name]. No repair: only a writer knows what may be left open."""

    kind = "placeholders"
    ifeval = "detectable_content:number_placeholders"
    governs = ("brackets",)

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((1, 2, 3))}

    def verify(self, params: Params, answer: str) -> bool:
        return len(re.findall(r"\[[^\[\]\n]*\w[^\[\]\n]*\]", answer)) >= params["n"]


class Options(Instruction):
    """One of three sentences and nothing else, so it goes with no other instruction."""

    kind = "options"
    ifeval = "detectable_format:constrained_response"
    governs = get_args(Resource)
    step = "choose"
    forms = ("single_turn",)
    answer_format = "yes_no"
    choices = (
        ("My answer is yes.", "My answer is no.", "My answer is maybe."),
        ("I think so.", "I don't think so.", "I am not sure."),
        ("That is true.", "That is false.", "That is unknown."),
    )

    def draw(self, rng: Random) -> Params:
        return {"options": list(rng.choice(self.choices))}

    def fields(self, params: Params) -> Params:
        return {"options": ", ".join(f'"{option}"' for option in params["options"])}

    def verify(self, params: Params, answer: str) -> bool:
        return answer.strip('"') in params["options"]

    def repair(self, params: Params, answer: str) -> str | None:
        said = [option for option in params["options"] if option in answer]
        return said[0] if len(said) == 1 else None
