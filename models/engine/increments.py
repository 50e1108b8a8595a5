"""What of a growing answer can be told already: text that no later token takes back.

Held back are a character whose bytes have not all come, and whatever may turn out to begin a stop text. A tokenizer
with byte fallback decodes bytes that follow each other as one, so there the whole run of bytes waits for its end.
"""

import re
from collections import deque
from collections.abc import Sequence

from models.engine.interface import Completion, TokenLogprob
from models.engine.rows import Row

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Increments:
    """Follows one row. The texts of all increments, joined, are its completion's text; the tokens likewise."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.tokenizer = row.ending.tokenizer
        self._seen = 0
        """Tokens looked at. The row may have fewer again, for a while: then the same ones come once more."""
        self._visible: list[int] = []
        self._context = self._settled = 0
        """Where, in the visible tokens, the context of decoding begins, and where the settled text ends."""
        self._told: list[str] = []
        self._pending = ""
        """Settled, and not told."""
        self._told_length = self._length = 0
        """Characters told, and settled."""
        self._ends: deque[int] = deque()
        """For each settled token that is not told, the length of the text that holds all of it."""
        self._unsettled = self._told_tokens = 0

    def advance(self) -> tuple[str, tuple[TokenLogprob, ...]]:
        """What can be told since the last call; log-probabilities only where the row has them."""
        for token in self.row.token_ids[self._seen :]:
            self._seen += 1
            self._take(token)
        text = self._pending[: self._first_held()]
        self._pending = self._pending[len(text) :]
        self._tell(text)
        before = self._told_tokens
        while self._ends and self._ends[0] <= self._told_length:
            self._ends.popleft()
            self._told_tokens += 1
        return text, tuple(self.row.logprobs[before : self._told_tokens])

    def finish(self, completion: Completion) -> tuple[str, tuple[TokenLogprob, ...]]:
        """What is left to tell. Raises ValueError where the completion is not what was told so far."""
        told = "".join(self._told)
        if not completion.text.startswith(told):
            raise ValueError(f"the answer begins with {completion.text[: len(told)]!r}; {told!r} was told already")
        return completion.text[len(told) :], (completion.logprobs or ())[self._told_tokens :]

    def _tell(self, text: str) -> None:
        if text:
            self._told.append(text)
            self._told_length += len(text)

    def _take(self, token: int) -> None:
        self._unsettled += 1
        if token not in self.row.ending.hidden_ids:
            self._visible.append(token)
        if self._visible and BYTE_TOKEN.fullmatch(self.tokenizer.token(self._visible[-1]) or ""):
            return
        if self._settled < len(self._visible):
            # The tokens before are decoded along: a decoder may treat the first of a text differently.
            before = self.tokenizer.decode(self._visible[self._context : self._settled])
            now = self.tokenizer.decode(self._visible[self._context :])
            if now.endswith(INCOMPLETE):
                return
            self._pending += now[len(before) :]
            self._length += len(now) - len(before)
            self._context, self._settled = self._settled, len(self._visible)
        self._ends.extend([self._length] * self._unsettled)
        self._unsettled = 0

    def _first_held(self) -> int:
        """Where in the pending text a stop text begins or may begin; its length where none does."""
        text = self._pending
        return min((_beginning(text, stop) for stop in self.row.params.stop), default=len(text))


def _beginning(text: str, stop: str) -> int:
    """Where `stop`, or a part of it that reaches to the text's end, begins; the text's length if nowhere."""
    found = text.find(stop)
    if found >= 0:
        return found
    starts: Sequence[int] = range(max(0, len(text) - len(stop) + 1), len(text))
    return next((start for start in starts if stop.startswith(text[start:])), len(text))
