"""Instructions about letters and marks."""

import re
from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.instructions.choosing import content_words, without
from tasks.prompts.instructions.counting import Counted
from tasks.prompts.sentences import sentences, words

_BOLD = re.compile(r"\*\*[^*\s][^*\n]*\*\*")
_DIVIDER_OR_STAR = re.compile(r"^\s*\*{3,}\s*$|\*", re.MULTILINE)


class LowerCase(Instruction):
    kind = "lower_case"
    ifeval = "change_case:english_lowercase"
    governs = ("case",)
    step = "letters"

    def verify(self, params: Params, answer: str) -> bool:
        return answer.islower()

    def repair(self, params: Params, answer: str) -> str:
        return answer.lower()


class Capitals(Instruction):
    kind = "capitals"
    ifeval = "change_case:english_capital"
    governs = ("case",)
    step = "letters"

    def verify(self, params: Params, answer: str) -> bool:
        return answer.isupper()

    def repair(self, params: Params, answer: str) -> str:
        return answer.upper()


class CapitalWords(Counted):
    """Words in capitals only, at least or fewer than n."""

    kind = "capital_words"
    ifeval = "change_case:capital_word_frequency"
    governs = ("case",)
    step = "letters"

    def draw(self, rng: Random) -> Params:
        relation, n = rng.choice((("at least", 2), ("at least", 3), ("at least", 4), ("fewer than", 3)))
        return {"relation": relation, "n": n}

    def count(self, params: Params, answer: str) -> int:
        return sum(word.isupper() for word in words(answer))

    def repair(self, params: Params, answer: str) -> str:
        if params["relation"] == "fewer than":
            return re.sub(r"\b[A-Z]{2,}\b", lambda found: found[0].capitalize(), answer)
        for word in content_words(answer)[: params["n"]]:
            answer = re.sub(rf"\b{word}\b", word.upper(), answer, count=1)
        return answer


class LetterFrequency(Counted):
    """One letter, in either case, at least or fewer than n times."""

    kind = "letter_frequency"
    ifeval = "keywords:letter_frequency"
    governs = ("letters",)
    bars = ("words", "sentences", "keywords", "layout", "start", "end")

    def draw(self, rng: Random) -> Params:
        relation, letters, counts = rng.choice((("at least", "aeiost", (4, 6, 8)), ("fewer than", "jkqvxz", (2, 3, 4))))
        return {"letter": rng.choice(letters), "relation": relation, "n": rng.choice(counts)}

    def count(self, params: Params, answer: str) -> int:
        return answer.lower().count(params["letter"])


class NoCommas(Instruction):
    kind = "no_commas"
    ifeval = "punctuation:no_comma"
    governs = ("commas",)

    def verify(self, params: Params, answer: str) -> bool:
        return "," not in answer

    def repair(self, params: Params, answer: str) -> str:
        return answer.replace(",", "")


class NoDigits(Instruction):
    """Numbers in words or none; the repair leaves out sentences with figures."""

    kind = "no_digits"
    governs = ("digits",)

    def verify(self, params: Params, answer: str) -> bool:
        return not re.search(r"\d", answer)

    def repair(self, params: Params, answer: str) -> str | None:
        return without(answer, lambda sentence: bool(re.search(r"\d", sentence)))


class NoContractions(Instruction):
    """ "It is" and "do not" instead of "it's" and "don't"."""

    kind = "no_contractions"
    governs = ("contractions",)
    _contraction = re.compile(
        r"\b(?:\w+n['’]t|\w+['’](?:ll|re|ve|m|d)|(?:it|that|this|what|there|here|he|she|who|how|where|let)['’]s)\b",
        re.IGNORECASE,
    )
    _whole = {"can't": "cannot", "won't": "will not", "shan't": "shall not", "let's": "let us"}
    _endings = {"n't": " not", "'ll": " will", "'re": " are", "'ve": " have", "'m": " am", "'d": " would", "'s": " is"}

    def verify(self, params: Params, answer: str) -> bool:
        return not self._contraction.search(answer)

    def repair(self, params: Params, answer: str) -> str:
        return self._contraction.sub(lambda found: self._written_out(found[0].replace("’", "'")), answer)

    def _written_out(self, word: str) -> str:
        if word.lower() in self._whole:
            whole = self._whole[word.lower()]
            return whole.capitalize() if word[0].isupper() else whole
        ending = next(ending for ending in self._endings if word.lower().endswith(ending))
        return word[: -len(ending)] + self._endings[ending]


class Exclamations(Instruction):
    """Every sentence ends with an exclamation mark."""

    kind = "exclamations"
    governs = ("marks",)
    bars = ("start", "end")
    step = "mark"

    def verify(self, params: Params, answer: str) -> bool:
        return all(sentence.rstrip("\"”')*").endswith("!") for sentence in sentences(answer))

    def repair(self, params: Params, answer: str) -> str:
        return " ".join(re.sub(r"[.!?:;,]*(?=[\"”')*]*$)", "!", sentence, count=1) for sentence in sentences(answer))


class Highlight(Instruction):
    """At least n words or phrases between double asterisks, as Markdown sets bold type."""

    kind = "highlight"
    ifeval = "detectable_format:number_highlighted_sections"
    governs = ("emphasis",)
    step = "stress"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((1, 2, 3))}

    def verify(self, params: Params, answer: str) -> bool:
        return len(_BOLD.findall(answer)) >= params["n"]

    def repair(self, params: Params, answer: str) -> str:
        text = _DIVIDER_OR_STAR.sub(lambda found: found[0] if len(found[0]) > 1 else "", answer)
        for word in content_words(text)[: params["n"]]:
            text = re.sub(rf"\b{word}\b", f"**{word}**", text, count=1)
        return text
