"""What comes back from /chat/completions. It was written by strangers: every part is checked before it is used."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.engine import Completion, SamplingParams, TokenLogprob
from models.engine.interface import FinishReason
from tasks.engines.refusals import Garbled

UNKNOWN_TOKEN = -1
"""Token id of tokens that a server names by their text alone."""
FINISHED: dict[str | None, FinishReason] = {
    "length": "length", "max_tokens": "length", "content_filter": "error", "abort": "error", "error": "error",
}  # fmt: skip
"""Anything else, such as "stop", "eos" or nothing, is the model's own end."""
MOST_TOKENS = 1 << 40
LEAST_REST = 1e-12
"""Probability that is left for what is not among the top tokens, where rounding leaves none."""


def completions(document: Any, params: SamplingParams, most: int) -> list[Completion]:
    """One to `most` samples. Raises Garbled."""
    choices = of_type(document, dict).get("choices")
    if not isinstance(choices, list) or not choices:
        raise Garbled(f"no list of choices: {str(document)[:80]!r}")
    return [completion(of_type(choice, dict), params) for choice in choices[:most]]


def completion(choice: Mapping[str, Any], params: SamplingParams) -> Completion:
    """A choice as our own engine would give it: cut before a stop text, whatever the server does with them."""
    message = of_type(choice.get("message"), dict)
    content = message.get("content")
    text = clean("" if content is None else of_type(content, str))
    reason = choice.get("finish_reason")
    finish = FINISHED.get(reason if isinstance(reason, str) else None, "stop")
    for stop in params.stop:
        if stop in text:
            text, finish = text.partition(stop)[0], "stop"
    if finish == "error":
        text = ""
    if params.logprobs is None:
        return Completion(text, (), finish)
    return Completion(text, (), finish, tuple(TokenLogprob(UNKNOWN_TOKEN, first) for _, first, _ in places(choice)))


def clean(text: str) -> str:
    """Without lone surrogates, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()


def places(choice: Mapping[str, Any]) -> list[tuple[str, float, dict[str, float]]]:
    """Each token of a choice with its log-probability and those of the likeliest in its place; [] where not told."""
    told = choice.get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    found = []
    for one in content if isinstance(content, list) else ():
        one = of_type(one, dict)
        top = one.get("top_logprobs")
        others = [of_type(other, dict) for other in top] if isinstance(top, list) else []
        found.append((token_of(one), logprob_of(one), {token_of(other): logprob_of(other) for other in others}))
    return found


def token_of(entry: Mapping[str, Any]) -> str:
    return of_type(entry.get("token"), str)


def logprob_of(entry: Mapping[str, Any]) -> float:
    value = entry.get("logprob")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= 1e-3:
        raise Garbled(f"{value!r} for a log-probability")
    return max(-1e4, min(0.0, float(value)))


def word_scores(choice: Mapping[str, Any], words: Sequence[str]) -> tuple[float, ...] | None:
    """The log-probability of each word in the place of the choice's first token; None where the server tells none.

    All tokens that spell the word, with or without blanks around it, count together. A word that is not among the
    tokens told gets the largest value it can have: it is less likely than each of them, and has no more than the
    probability that they leave. A word of several tokens is never told, and so gets that value too.
    """
    told = places(choice)
    if not told:
        return None
    token, logprob, top = told[0]
    known = top or {token: logprob}
    rest = max(LEAST_REST, 1.0 - sum(map(math.exp, known.values())))
    bound = min(min(known.values()), math.log(rest))
    return tuple(_spelled(known, word.strip(), bound) for word in words)


def _spelled(known: Mapping[str, float], word: str, bound: float) -> float:
    mass = sum(math.exp(value) for token, value in known.items() if token.strip() == word)
    return min(0.0, math.log(mass)) if mass > 0 else bound


def tokens_of(document: Any) -> tuple[int, int] | None:
    """Prompt and completion tokens of a response; None where it tells none that can be believed."""
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    good = [count for count in counts if type(count) is int and 0 <= count < MOST_TOKENS]
    return (good[0], good[1]) if len(good) == 2 else None


def of_type(value: Any, kind: Callable[..., Any]) -> Any:
    """The value, if it is of that type. Raises Garbled."""
    if not isinstance(value, kind):  # type: ignore[arg-type]
        raise Garbled(f"a {type(value).__name__} where a {kind.__name__} is due: {str(value)[:80]!r}")
    return value
