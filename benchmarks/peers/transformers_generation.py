"""transformers' side of benchmarks/generation.py: padded batches, and its continuous batching."""

from collections.abc import Iterator, Sequence

import torch
from transformers import GenerationConfig

Rows = list[list[int]]


def useful(tokens: Sequence[int], limit: int, stop: Sequence[int]) -> list[int]:
    """What comes before a row's own stop or limit; a padded batch computes more."""
    kept = list(tokens[:limit])
    end = next((place for place, token in enumerate(kept) if token in stop), len(kept))
    return kept[:end]


def batches(prompts: Rows, size: int) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Rows' numbers, shortest prompts first, with their token ids, padded on the left, and the attention mask."""
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for first in range(0, len(order), size):
        members = order[first : first + size]
        width = max(len(prompts[row]) for row in members)
        token_ids = torch.tensor([[0] * (width - len(prompts[row])) + prompts[row] for row in members])
        mask = torch.tensor([[0] * (width - len(prompts[row])) + [1] * len(prompts[row]) for row in members])
        yield members, token_ids, mask


def padded(model: torch.nn.Module, prompts: Rows, limits: Sequence[int], stop: Sequence[int], batch: int) -> Rows:
    """`generate` over batches of prompts sorted by length, each to the largest limit in it."""
    rows: dict[int, list[int]] = {}
    for members, token_ids, mask in batches(prompts, batch):
        made = model.generate(
            input_ids=token_ids, attention_mask=mask, do_sample=False, max_new_tokens=max(limits[r] for r in members),
            eos_token_id=list(stop), pad_token_id=stop[0],
        )[:, token_ids.shape[1] :].tolist()  # fmt: skip
        rows |= {row: useful(tokens, limits[row], stop) for row, tokens in zip(members, made, strict=True)}
    return [rows[row] for row in range(len(prompts))]


def continuous(model: torch.nn.Module, prompts: Rows, limits: Sequence[int], stop: Sequence[int]) -> Rows:
    """Its continuous batching, each request with its own limit."""
    config = GenerationConfig(
        do_sample=False, eos_token_id=list(stop), pad_token_id=stop[0], max_new_tokens=max(limits)
    )
    rows: dict[str, list[int]] = {}
    with model.continuous_batching_context_manager(generation_config=config, block=True, timeout=60) as manager:
        for number, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
            manager.add_request(prompt, str(number), max_new_tokens=limit)
        while len(rows) < len(prompts):
            found = manager.get_result(timeout=5)
            if found is not None and found.is_finished():
                rows[found.request_id] = useful(found.generated_tokens, limits[int(found.request_id)], stop)
            elif found is None and not manager.is_running():
                raise RuntimeError("transformers' continuous batching stopped")
    return [rows[str(number)] for number in range(len(prompts))]


@torch.inference_mode()
def scores(model: torch.nn.Module, prompts: Rows, words: Sequence[int], batch: int) -> list[list[float]]:
    """Log-probabilities of each word as a prompt's next token, in padded batches sorted by length."""
    found: dict[int, list[float]] = {}
    for members, token_ids, mask in batches(prompts, batch):
        logits = model(
            input_ids=token_ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), logits_to_keep=1
        ).logits[:, -1]
        picked = logits.log_softmax(-1)[:, list(words)].tolist()
        found |= dict(zip(members, picked, strict=True))
    return [found[row] for row in range(len(prompts))]
