"""Log-probabilities of given continuations, out of the hidden states of one pass over prompt and continuation.

V = vocabulary, S = tokens that are scored together, T = positions of a part.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.engine.prefixes import as_array
from models.engine.rows import Reading

SCORED_TOGETHER = 256
"""Tokens whose logits exist at the same time."""


class Scoring:
    """Pairs of one call. Those that read the same tokens (a prompt's one-token continuations) share one reading."""

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        unembed: Callable[[Tensor], Tensor],
    ) -> None:
        self.unembed = unembed
        self.scores: list[list[float]] = [[] for _ in prompts]
        self.readings: list[Reading] = []
        wanted: dict[tuple[int, ...], list[tuple[int, Sequence[int]]]] = {}
        firsts: list[int] = []
        for pair, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True)):
            firsts.append(len(prompt) - 1)
            if continuation:
                # The last token of a pair is only ever predicted.
                wanted.setdefault((*prompt, *continuation)[:-1], []).append((pair, continuation))
        for token_ids, pairs in wanted.items():
            start = min(firsts[pair] for pair, _ in pairs)
            targets = [(pair, firsts[pair] - start, continuation) for pair, continuation in pairs]
            self.readings.append(Reading(as_array(token_ids), start, Targets(self, targets).take))

    def add(self, hidden_SD: Tensor, pairs: Sequence[int], targets: Sequence[int]) -> None:
        """Score targets [S], each predicted by its hidden state, for their pairs [S]."""
        for start in range(0, len(targets), SCORED_TOGETHER):
            part = slice(start, start + SCORED_TOGETHER)
            logprobs_SV = self.unembed(hidden_SD[part]).float().log_softmax(dim=-1)
            target_S1 = torch.tensor(targets[part], device=hidden_SD.device)[:, None]
            found = logprobs_SV.gather(1, target_S1)[:, 0].tolist()
            for pair, score in zip(pairs[part], found, strict=True):
                self.scores[pair].append(score)


class Targets:
    """What one reading predicts: the tokens of each of its pairs' continuations."""

    def __init__(self, scoring: Scoring, targets: Sequence[tuple[int, int, Sequence[int]]]) -> None:
        self.scoring, self.targets = scoring, targets
        self.seen = 0

    def take(self, hidden_TD: Tensor) -> None:
        """Score what these positions predict; they follow those of the last call."""
        places, pairs, tokens = [], [], []
        for place in range(len(hidden_TD)):
            for pair, first, continuation in self.targets:
                if 0 <= (step := self.seen + place - first) < len(continuation):
                    places.append(place)
                    pairs.append(pair)
                    tokens.append(continuation[step])
        self.seen += len(hidden_TD)
        self.scoring.add(hidden_TD[places], pairs, tokens)
