"""Answers of a given shape: which tokens may come next. Grammars are llguidance's; the same shapes work in vLLM.

V = vocabulary.
"""

import json
from contextlib import suppress
from functools import lru_cache
from weakref import WeakKeyDictionary

import llguidance
import numpy as np

from models.engine.interface import Constraint
from models.tokenizer import Tokenizer

_vocabularies: "WeakKeyDictionary[Tokenizer, llguidance.LLTokenizer]" = WeakKeyDictionary()


class Matcher:
    """How far one answer has come in its grammar. Raises ValueError for a grammar that cannot be read."""

    def __init__(self, constraint: Constraint, tokenizer: Tokenizer, stop_ids: frozenset[int]) -> None:
        self._matcher = llguidance.LLMatcher(_vocabulary(tokenizer), _grammar(constraint))
        if self._matcher.is_error():
            raise ValueError(f"constraint {constraint.kind}: {self._matcher.get_error()}")
        self._stop_ids = np.array(sorted(stop_ids), dtype=np.int64)

    def allowed(self, size: int) -> np.ndarray:
        """Which tokens may come next, bool [V] for a model of `size` tokens."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        found = np.unpackbits(bits, bitorder="little")[:size].astype(bool)
        allowed = np.zeros(size, dtype=bool)
        allowed[: len(found)] = found
        # A model may have been taught several ways to stop.
        allowed[self._stop_ids[self._stop_ids < size]] = self._matcher.is_accepting()
        return allowed

    def accept(self, token: int) -> bool:
        """Take a token; True when the answer is whole and nothing may follow."""
        self._matcher.consume_token(token)
        return self._matcher.is_stopped()


@lru_cache(maxsize=256)
def _grammar(constraint: Constraint) -> str:
    kind, text = constraint.kind, constraint.text
    if kind == "choice":
        return llguidance.LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, _choices(text))))
    makers = {
        "regex": llguidance.LLMatcher.grammar_from_regex,
        "json_schema": llguidance.LLMatcher.grammar_from_json_schema,
        "lark": llguidance.LLMatcher.grammar_from_lark,
    }
    return makers[kind](text)


def _choices(text: str) -> list[str]:
    with suppress(json.JSONDecodeError):
        choices = json.loads(text)
        if isinstance(choices, list) and choices and all(isinstance(one, str) and one for one in choices):
            return choices
    raise ValueError(f"constraint choice: {text} is no JSON list of texts; expected at least one, none empty")


def _vocabulary(tokenizer: Tokenizer) -> llguidance.LLTokenizer:
    found = _vocabularies.get(tokenizer)
    if found is None:
        found = llguidance.LLTokenizer(tokenizer.backend.to_str(), eos_token=tokenizer.eos_id)
        _vocabularies[tokenizer] = found
    return found
