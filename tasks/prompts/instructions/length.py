"""Instructions about how much is said."""

from random import Random

from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.instructions.choosing import leading, without
from tasks.prompts.instructions.counting import Counted
from tasks.prompts.sentences import sentences, words


class OneSentence(Instruction):
    kind = "one_sentence"
    governs = ("sentences",)
    bars = ("layout", "start", "end")
    step = "choose"
    answer_format = "sentence"

    def verify(self, params: Params, answer: str) -> bool:
        return len(sentences(answer)) == 1 and answer.rstrip("\"”')").endswith((".", "!", "?"))

    def repair(self, params: Params, answer: str) -> str:
        return sentences(answer)[0]


class SentenceCount(Counted):
    """At least or fewer than n sentences."""

    kind = "sentence_count"
    ifeval = "length_constraints:number_sentences"
    governs = ("sentences",)
    bars = ("layout", "start", "end")

    def draw(self, rng: Random) -> Params:
        relation, n = rng.choice((("at least", 3), ("at least", 4), ("fewer than", 3), ("fewer than", 4)))
        return {"relation": relation, "n": n}

    def count(self, params: Params, answer: str) -> int:
        return len(sentences(answer.replace("*", "")))


class ShortSentences(Instruction):
    """No sentence of more than n words; the repair leaves longer ones out."""

    kind = "short_sentences"
    governs = ("sentences",)
    bars = ("layout", "start", "end", "words")
    step = "choose"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((10, 12, 15))}

    def verify(self, params: Params, answer: str) -> bool:
        return all(len(words(sentence)) <= params["n"] for sentence in sentences(answer))

    def repair(self, params: Params, answer: str) -> str | None:
        return without(answer, lambda sentence: not self.verify(params, sentence))


class MaxWords(Instruction):
    """At most n words; the repair keeps whole sentences from the start."""

    kind = "max_words"
    ifeval = "length_constraints:number_words"
    governs = ("words",)
    bars = ("sentences", "layout", "start", "end")
    step = "choose"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((10, 15, 20, 25))}

    def verify(self, params: Params, answer: str) -> bool:
        return len(words(answer)) <= params["n"]

    def repair(self, params: Params, answer: str) -> str | None:
        return leading(answer, lambda text: self.verify(params, text))


class MinWords(Instruction):
    """At least n words; a plain answer may have them."""

    kind = "min_words"
    ifeval = "length_constraints:number_words"
    governs = ("words",)
    bars = ("sentences", "layout")
    step = "choose"

    def draw(self, rng: Random) -> Params:
        return {"n": rng.choice((25, 30, 40))}

    def verify(self, params: Params, answer: str) -> bool:
        return len(words(answer)) >= params["n"]

    def repair(self, params: Params, answer: str) -> str:
        return answer
