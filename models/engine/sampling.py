"""Choose the next token of every row at once: penalty, constraint, temperature, top-k, top-p, min-p, in this order.

A row's choice depends on its logits, its settings and one uniform number. That number comes from a counter-based
generator, so it is known from (seed, sample, step) alone: nothing is stored, and the order of rows means nothing.

R = rows, V = vocabulary, C = candidates, most likely first.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.engine.interface import SamplingParams, TokenLogprob
from models.engine.rows import Row

CANDIDATES = 256
"""How many of the likeliest tokens top-p looks at before it sorts the whole vocabulary."""
BLOCK = 128
"""Tokens summed together before the position of a uniform number is looked for."""


def next_tokens(logits_RV: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row; where a row asks for them, its log-probabilities are added to the row."""
    plain_RV = logits_RV.float()
    shaped_RV = _shape(plain_RV, rows)
    draws_R = uniforms(
        [row.params.seed for row in rows], [row.sample for row in rows], [len(row.token_ids) for row in rows]
    )
    sampled = sample(shaped_RV, [row.params for row in rows], draws_R)
    tokens = [row.again(token) for row, token in zip(rows, sampled, strict=True)]
    for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        if row.params.logprobs is not None:
            row.logprobs += token_logprobs(plain_RV[place : place + 1], [token], row.params.logprobs)
    return tokens


def _shape(logits_RV: Tensor, rows: Sequence[Row]) -> Tensor:
    """Logits with repetition penalties and constraints; the ones given stay as they are."""
    changed = [place for place, row in enumerate(rows) if row.matcher or row.params.repetition_penalty != 1]
    if not changed:
        return logits_RV
    logits_RV = logits_RV.clone()
    for place in changed:
        row, logits_V = rows[place], logits_RV[place]
        if row.params.repetition_penalty != 1:
            seen = torch.tensor(sorted({*row.prompt_ids, *row.token_ids}), device=logits_V.device)
            scores = logits_V[seen]
            penalty = row.params.repetition_penalty
            logits_V[seen] = torch.where(scores > 0, scores / penalty, scores * penalty)
        if row.matcher is not None:
            allowed_V = torch.from_numpy(row.matcher.allowed(len(logits_V))).to(logits_V.device)
            logits_V.masked_fill_(~allowed_V, -torch.inf)
    return logits_RV


def token_logprobs(logits_RV: Tensor, tokens: Sequence[int], alternatives: int) -> list[TokenLogprob]:
    """Of one token for each row of fp32 logits, with this many of the likeliest tokens in its place."""
    logprobs_RV = logits_RV.log_softmax(dim=-1)
    chosen = logprobs_RV.gather(1, torch.tensor(tokens, device=logits_RV.device)[:, None])[:, 0].tolist()
    best = logprobs_RV.topk(alternatives, dim=-1)
    tops = [tuple(zip(*pair, strict=True)) for pair in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    return [TokenLogprob(*entry) for entry in zip(tokens, chosen, tops, strict=True)]


def uniforms(seeds: Sequence[int], samples: Sequence[int], steps: Sequence[int]) -> Tensor:
    """One number in [0, 1) per row, float64 of shape [R], a hash (splitmix64) of its seed, sample and step."""
    keys = np.array([seed & (2**64 - 1) for seed in seeds], dtype=np.uint64)
    for part in (samples, steps):
        keys = _mix(keys + np.uint64(0x9E3779B97F4A7C15) * (np.asarray(part, dtype=np.uint64) + np.uint64(1)))
    return torch.from_numpy((keys >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(keys: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every input bit moves every output bit."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def sample(logits_RV: Tensor, params: Sequence[SamplingParams], uniforms_R: Tensor) -> list[int]:
    """The next token of each row."""
    kinds = [_kind(one) for one in params]
    tokens = [0] * len(params)
    for kind, choose in (("greedy", _greedy), ("plain", _plain), ("truncated", _truncated)):
        rows = [row for row, found in enumerate(kinds) if found == kind]
        if rows:
            index = torch.tensor(rows)
            # Most batches are of one kind: spare them the copy of all logits.
            logits = logits_RV[: len(rows)] if len(rows) == len(params) else logits_RV[index.to(logits_RV.device)]
            chosen = choose(logits, [params[row] for row in rows], uniforms_R[index].to(logits.device))
            for row, token in zip(rows, chosen.tolist(), strict=True):
                tokens[row] = token
    return tokens


def _kind(params: SamplingParams) -> str:
    if params.temperature == 0 or params.top_k == 1:
        return "greedy"
    return "plain" if params.top_k == 0 and params.top_p == 1 and params.min_p == 0 else "truncated"


def _greedy(logits_RV: Tensor, params: Sequence[SamplingParams], uniforms_R: Tensor) -> Tensor:
    return logits_RV.argmax(dim=-1)


def _plain(logits_RV: Tensor, params: Sequence[SamplingParams], uniforms_R: Tensor) -> Tensor:
    """Invert the cumulative distribution over the vocabulary in two steps: the block of tokens, then the token."""
    probabilities_RV = _probabilities(logits_RV, params)
    padding = -probabilities_RV.shape[1] % BLOCK
    if padding:
        probabilities_RV = torch.nn.functional.pad(probabilities_RV, (0, padding))
    blocks_RNb = probabilities_RV.unflatten(1, (-1, BLOCK))
    ends_RN = blocks_RNb.sum(dim=-1).double().cumsum(dim=-1)
    target_R1 = (uniforms_R * ends_RN[:, -1])[:, None]
    block_R1 = torch.searchsorted(ends_RN, target_R1, right=True).clamp(max=ends_RN.shape[1] - 1)
    inside_Rb = blocks_RNb.gather(1, block_R1[..., None].expand(-1, -1, BLOCK))[:, 0].double().cumsum(dim=-1)
    before_R1 = torch.where(block_R1 > 0, ends_RN.gather(1, (block_R1 - 1).clamp(min=0)), 0.0)
    found_R = (block_R1 * BLOCK + _first_above(inside_Rb, target_R1 - before_R1))[:, 0]
    return found_R.clamp(max=logits_RV.shape[1] - 1)


def _truncated(logits_RV: Tensor, params: Sequence[SamplingParams], uniforms_R: Tensor) -> Tensor:
    """Sample among the top_k likeliest, of these among the fewest that reach top_p, of these among those of min_p."""
    size = logits_RV.shape[1]
    probabilities_RV = _probabilities(logits_RV, params)
    top_k_R = torch.tensor([min(one.top_k or size, size) for one in params], device=logits_RV.device)
    top_p_R = torch.tensor([one.top_p for one in params], dtype=torch.float64, device=logits_RV.device)
    min_p_R = torch.tensor([one.min_p for one in params], device=logits_RV.device)
    tokens_R = torch.empty(len(params), dtype=torch.long, device=logits_RV.device)
    todo = torch.arange(len(params), device=logits_RV.device)
    for candidates in (min(CANDIDATES, size), size):
        chosen, enough = _among(
            probabilities_RV[todo], candidates, top_k_R[todo], top_p_R[todo], min_p_R[todo], uniforms_R[todo]
        )
        tokens_R[todo[enough]] = chosen[enough]
        todo = todo[~enough]
        if not len(todo):
            break
    return tokens_R


def _among(
    probabilities_RV: Tensor, candidates: int, top_k_R: Tensor, top_p_R: Tensor, min_p_R: Tensor, uniforms_R: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens [R] drawn from the `candidates` likeliest, and whether those held all that may be drawn, [R]."""
    values_RC, tokens_RC = probabilities_RV.topk(candidates, dim=-1)
    rank_C = torch.arange(candidates, device=values_RC.device)
    within_RC = values_RC.double() * (rank_C < top_k_R[:, None])
    ends_RC = within_RC.cumsum(dim=-1)
    # With top_k the mass that top_p is a share of is that of the top_k tokens.
    mass_R = torch.where(top_k_R <= candidates, ends_RC[:, -1], 1.0)
    needed_R = top_p_R * mass_R
    # A top_k beyond the candidates needs the whole vocabulary: the mass of its tokens is not known before.
    unlimited_R = (top_k_R >= probabilities_RV.shape[1]) & (top_p_R < 1)
    enough_R = (top_k_R <= candidates) | (unlimited_R & (ends_RC[:, -1] >= needed_R))
    least_R = min_p_R * values_RC[:, 0]
    enough_R |= (top_k_R >= probabilities_RV.shape[1]) & (top_p_R == 1) & (values_RC[:, -1] < least_R)
    if candidates == probabilities_RV.shape[1]:
        enough_R = torch.ones_like(enough_R)
    kept_RC = within_RC * (ends_RC - within_RC < needed_R[:, None]) * (values_RC >= least_R[:, None])
    kept_ends_RC = kept_RC.cumsum(dim=-1)
    target_R1 = uniforms_R[:, None] * kept_ends_RC[:, -1:]
    return tokens_RC.gather(1, _first_above(kept_ends_RC, target_R1))[:, 0], enough_R


def _probabilities(logits_RV: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    temperatures = [one.temperature for one in params]
    if any(temperature != 1 for temperature in temperatures):
        logits_RV = logits_RV / torch.tensor(temperatures, dtype=logits_RV.dtype, device=logits_RV.device)[:, None]
    return torch.softmax(logits_RV, dim=-1, dtype=torch.float32)


def _first_above(ends_RC: Tensor, target_R1: Tensor) -> Tensor:
    """Index of the first cumulative sum above the target, [R, 1]; never one of no probability."""
    last_R1 = torch.searchsorted(ends_RC, ends_RC[:, -1:].contiguous())
    found_R1 = torch.minimum(torch.searchsorted(ends_RC, target_R1.contiguous(), right=True), last_R1)
    return found_R1.clamp(max=ends_RC.shape[1] - 1)  # beyond the end where a model's numbers are no numbers
