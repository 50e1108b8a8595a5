"""Preference rows as token pairs, the same in the stage that scores them and in the one that trains on them.

    {"prompt": [user messages], "chosen": [assistant message], "rejected": [assistant message], …rewards}

What chosen and rejected have in common at their beginning is computed once (models.packing).
"""

import hashlib
from collections.abc import Sequence

from models.chat import encode_dialogue
from models.packing import Document, Pair
from models.tokenizer import Tokenizer
from tasks.training import Dropped, Row, encoded

FORMAT = 1
"""Raised when the same row would become other tokens; part of what reference log-probabilities are keyed by."""


def read_pair(row: Row, tokenizer: Tokenizer) -> Pair:
    """Raises Dropped for a row that gives no pair to learn from."""
    chosen, rejected = (
        encoded(lambda side=side: _document(tokenizer, [*row["prompt"], *row[side]])) for side in ("chosen", "rejected")
    )
    if chosen == rejected:
        raise Dropped("chosen equals rejected")
    return Pair(chosen, rejected)


def tokens_digest(pair: Pair) -> str:
    """128 bits, as 32 hexadecimal digits, over both sequences and what is trained of them."""
    parts = [pair.chosen.token_ids, pair.chosen.trained, pair.rejected.token_ids, pair.rejected.trained]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def longest(pair: Pair) -> int:
    """Tokens of the longer sequence, prompt included."""
    return max(len(pair.chosen.token_ids), len(pair.rejected.token_ids))


def _document(tokenizer: Tokenizer, messages: Sequence[Row]) -> Document:
    return Document.of(*encode_dialogue(tokenizer, messages, last_turn_only=True))
