"""Tokens as clients see them: as text, as bytes, and where in the text they stand."""

import codecs
from collections.abc import Sequence
from typing import Any

import llguidance

from models.engine import TokenLogprob
from models.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0
"""What JSON can write, instead of minus infinity."""


class Spelling:
    """One tokenizer's tokens. Making it takes a moment for a large vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._vocabulary = llguidance.LLTokenizer(tokenizer.backend.to_str(), eos_token=tokenizer.eos_id)
        self._special = frozenset(tokenizer.special_tokens.values())

    def bytes_of(self, token_id: int) -> bytes:
        """A special token's are those of its name; no bytes for an id that the vocabulary does not hold."""
        name = self.tokenizer.token(token_id)
        if name is None:
            return b""
        return name.encode() if token_id in self._special else bytes(self._vocabulary.decode_bytes([token_id]))

    def text_of(self, token_id: int) -> str:
        """The text, or `bytes:\\xe2\\x80` where it is a part of a character, as OpenAI writes it."""
        spelled = self.bytes_of(token_id)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

    def chat(self, logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        """Entries of a chat choice's `logprobs.content`."""
        return [
            self._entry(one.token_id, one.logprob) | {"top_logprobs": [self._entry(*other) for other in one.top]}
            for one in logprobs
        ]

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self.text_of(token_id),
            "logprob": max(logprob, LEAST_LOGPROB),
            "bytes": list(self.bytes_of(token_id)),
        }


class TextLogprobs:
    """The `logprobs` of one choice of a text completion, in one or more parts."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0

    def part(self, entries: Sequence[TokenLogprob | int]) -> dict[str, list[Any]]:
        """The next tokens; one that is a plain token id, such as a prompt's first, has no log-probability."""
        found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for entry in entries:
            token_id = entry if isinstance(entry, int) else entry.token_id
            found["tokens"].append(self.spelling.text_of(token_id))
            found["token_logprobs"].append(None if isinstance(entry, int) else max(entry.logprob, LEAST_LOGPROB))
            found["top_logprobs"].append(None if isinstance(entry, int) else self._top(entry))
            found["text_offset"].append(self._offset)
            self._offset += len(self._decoder.decode(self.spelling.bytes_of(token_id)))
        return found

    def _top(self, entry: TokenLogprob) -> dict[str, float]:
        """The likeliest tokens and the one that is there; of two that are spelled alike, the likelier."""
        found: dict[str, float] = {}
        for token_id, logprob in (*entry.top, (entry.token_id, entry.logprob)):
            found.setdefault(self.spelling.text_of(token_id), max(logprob, LEAST_LOGPROB))
        return found
