"""Instructions to begin or end in a given way."""

import re
from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.instructions.choosing import content_words, joined_to
from tasks.prompts.sentences import sentences, words


class EndPhrase(Instruction):
    kind = "end_phrase"
    ifeval = "startend:end_checker"
    governs = ("end",)
    step = "frame"
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
    governs = ("start", "commas")
    bars = ("layout",)
    step = "frame"
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
        phrase = params["phrase"]
        return joined_to(phrase, answer) if phrase.endswith(",") else f"{phrase} {answer}"


class RepeatRequest(Instruction):
    """The request word for word, then the answer."""

    kind = "repeat_request"
    ifeval = "combination:repeat_prompt"
    governs = ("start", "commas", "digits", "contractions", "keywords", "letters")
    step = "frame"
    forms = ("single_turn",)

    def bind(self, params: Params, request: str) -> Params:
        return {"request": request}

    def verify(self, params: Params, answer: str) -> bool:
        text, request = answer.casefold(), params["request"].strip().casefold()
        return text.startswith(request) and bool(words(text.removeprefix(request)))

    def repair(self, params: Params, answer: str) -> str:
        return f"{params['request'].strip()}\n\n{answer}"


class Postscript(Instruction):
    """The last line is a postscript; the repair moves the last sentence there."""

    kind = "postscript"
    ifeval = "detectable_content:postscript"
    governs = ("end", "layout", "case")
    step = "lay_out"

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
    governs = ("end", "layout", "case")
    step = "frame"

    def draw(self, rng: Random) -> Params:
        return {"name": rng.choice(("Ada", "Sam", "Noor", "Leo", "Mei", "Omar"))}

    def verify(self, params: Params, answer: str) -> bool:
        lines = answer.splitlines()
        return len(lines) > 1 and bool(re.fullmatch(rf"\s*[-–—] ?{params['name']}\.?\s*", lines[-1]))

    def repair(self, params: Params, answer: str) -> str:
        return f"{answer}\n- {params['name']}"


class Hashtags(Instruction):
    """The last line is n hashtags and nothing else."""

    kind = "hashtags"
    governs = ("end",)
    bars = ("keywords",)
    step = "frame"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((2, 3))}

    def verify(self, params: Params, answer: str) -> bool:
        *before, last = answer.splitlines()
        tags = last.split()
        return any(before) and len(tags) == params["n"] and all(re.fullmatch(r"#\w+", tag) for tag in tags)

    def repair(self, params: Params, answer: str) -> str | None:
        tags = [f"#{word[0].upper()}{word[1:]}" for word in content_words(answer)[: params["n"]]]
        return f"{answer}\n{' '.join(tags)}" if len(tags) == params["n"] else None
