"""How likely the tokens of a prompt are, each given those before it, and what else could have stood there.

T = positions of a part, S = tokens that are scored together.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from models.engine.interface import TokenLogprob
from models.engine.prefixes import as_array
from models.engine.rows import Reading
from models.engine.sampling import token_logprobs

SCORED_TOGETHER = 128
"""Tokens whose logits exist at the same time."""


class PromptLogprobs:
    """Fills `found`, one for each token after the first, while `reading` is done."""

    def __init__(self, token_ids: Sequence[int], alternatives: int, unembed: Callable[[Tensor], Tensor]) -> None:
        """`token_ids`: at least two; each comes with this many of the likeliest tokens in its place."""
        self.targets = token_ids[1:]
        self.alternatives = alternatives
        self.unembed = unembed
        self.found: list[TokenLogprob] = []
        # The last token is only ever predicted.
        self.reading = Reading(as_array(token_ids[:-1]), 0, self._take)

    def _take(self, hidden_TD: Tensor) -> None:
        for hidden_SD in hidden_TD.split(SCORED_TOGETHER):
            targets = self.targets[len(self.found) : len(self.found) + len(hidden_SD)]
            self.found += token_logprobs(self.unembed(hidden_SD).float(), targets, self.alternatives)
