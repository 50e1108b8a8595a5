"""Instructions to use given words at a given place."""

import re
from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.sentences import sentences, words


class EndPhrase(Instruction):
    kind = "end_phrase"
    phrases = (
        "Is there anything else I can help with?", "That is all.", "I hope this helps.", "Any other questions?",
        "Thank you for asking.", "Have a nice day.", "Let me know what you think.", "And that is the short answer.",
    )  # fmt: skip

    def draw(self, rng: Random) -> Params:
        return {"phrase": rng.choice(self.phrases)}

    def verify(self, params: Params, answer: str) -> bool:
        text, phrase = answer.casefold(), params["phrase"].casefold()
        return text.endswith(phrase) and bool(words(text.removesuffix(phrase)))

    def repair(self, params: Params, answer: str) -> str:
        return f"{answer} {params['phrase']}"


class StartPhrase(Instruction):
    kind = "start_phrase"
    phrases = (
        "Good question!", "In short,", "To begin with,", "Here is my answer:", "As far as I know,", "Well,",
        "Simply put,", "Let me explain.",
    )  # fmt: skip

    def draw(self, rng: Random) -> Params:
        return {"phrase": rng.choice(self.phrases)}

    def verify(self, params: Params, answer: str) -> bool:
        text, phrase = answer.casefold(), params["phrase"].casefold()
        return text.startswith(phrase) and bool(words(text.removeprefix(phrase)))

    def repair(self, params: Params, answer: str) -> str:
        goes_on = params["phrase"].endswith(",") and not answer.startswith(("I ", "I'"))
        return f"{params['phrase']} {answer[:1].lower() + answer[1:] if goes_on else answer}"


class Postscript(Instruction):
    """The last line is a postscript; the repair moves the last sentence there."""

    kind = "postscript"

    def draw(self, rng: Random) -> Params:
        return {"marker": rng.choice(("P.S.", "P.P.S."))}

    def verify(self, params: Params, answer: str) -> bool:
        *before, last = answer.splitlines()
        marker = params["marker"]
        return any(before) and last.strip().startswith(marker) and len(last.strip()) > len(marker) + 3

    def repair(self, params: Params, answer: str) -> str | None:
        parts = sentences(answer)
        return f"{' '.join(parts[:-1])}\n\n{params['marker']} {parts[-1]}" if len(parts) > 1 else None


class Signature(Instruction):
    """The last line is a dash and a name."""

    kind = "signature"

    def draw(self, rng: Random) -> Params:
        return {"name": rng.choice(("Ada", "Sam", "Noor", "Leo", "Mei", "Omar"))}

    def verify(self, params: Params, answer: str) -> bool:
        lines = answer.splitlines()
        return len(lines) > 1 and bool(re.fullmatch(rf"\s*[-–—] ?{params['name']}\.?\s*", lines[-1]))

    def repair(self, params: Params, answer: str) -> str:
        return f"{answer}\n- {params['name']}"


class Keyword(Instruction):
    """A given word appears. No repair: only a writer can fit a word in."""

    kind = "keyword"

    def draw(self, rng: Random) -> Params:
        return {
            "word": rng.choice(("today", "together", "morning", "simple", "imagine", "favorite", "surprise", "quiet"))
        }

    def verify(self, params: Params, answer: str) -> bool:
        return bool(re.search(rf"\b{re.escape(params['word'])}\b", answer, re.IGNORECASE))
