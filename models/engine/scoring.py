"""Log-probabilities of given continuations: one pass over each pair, many pairs packed into one forward.

V = vocabulary, S = tokens that are scored together.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.decoder import Decoder, PackedAttention
from models.engine.generation import padded_size

SCORED_TOGETHER = 256
"""Tokens whose logits exist at the same time."""


def score(
    model: Decoder, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], budget: int
) -> list[list[float]]:
    """Log-probabilities of each continuation's tokens. Packs hold up to `budget` tokens; a longer pair goes alone."""
    scores: list[list[float]] = []
    lengths = [len(prompt) + len(continuation) for prompt, continuation in zip(prompts, continuations, strict=True)]
    for first, last in _packs(lengths, budget):
        pairs = list(zip(prompts[first:last], continuations[first:last], strict=True))
        scores += _score_pack(model, pairs)
    return scores


def _packs(lengths: Sequence[int], budget: int) -> Iterator[tuple[int, int]]:
    first, used = 0, 0
    for number, length in enumerate(lengths):
        if number > first and used + length > budget:
            yield first, number
            first, used = number, 0
        used += length
    if lengths:
        yield first, len(lengths)


def _score_pack(model: Decoder, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
    device = model.unembedding_VD.device
    # The last token of a pair is only ever predicted, so a prompt's one-token continuations are read together.
    wanted = [tuple([*prompt, *continuation][:-1] or [prompt[0]]) for prompt, continuation in pairs]
    starts: dict[tuple[int, ...], int] = {}
    used = 0
    for document in wanted:
        if document not in starts:
            starts[document] = used
            used += len(document)
    documents = [[*document] for document in starts]
    if padded_size(used) > used:
        documents.append([0] * (padded_size(used) - used))
    attend = PackedAttention([len(document) for document in documents])
    token_ids_1T = torch.tensor([[token for document in documents for token in document]], device=device)
    hidden_TD = model.hidden(token_ids_1T, attend.positions_BT(device), attend)[0]
    places: list[int] = []
    for (prompt, continuation), document in zip(pairs, wanted, strict=True):
        first = starts[document] + len(prompt) - 1
        places += range(first, first + len(continuation))
    targets = [token for _, continuation in pairs for token in continuation]
    scores = iter(_token_logprobs(model, hidden_TD[places], targets))
    return [[next(scores) for _ in continuation] for _, continuation in pairs]


def _token_logprobs(model: Decoder, hidden_SD: Tensor, targets: Sequence[int]) -> list[float]:
    scores: list[float] = []
    for start in range(0, len(targets), SCORED_TOGETHER):
        part_SD = hidden_SD[start : start + SCORED_TOGETHER]
        size = len(part_SD)
        padded_SD = torch.nn.functional.pad(part_SD, (0, 0, 0, padded_size(size) - size))
        logprobs_SV = model.unembed(padded_SD)[:size].float().log_softmax(dim=-1)
        target_S1 = torch.tensor(targets[start : start + size], device=hidden_SD.device)[:, None]
        scores += logprobs_SV.gather(1, target_S1)[:, 0].tolist()
    return scores
