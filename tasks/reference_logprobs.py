"""Reference log-probabilities, made once before a round of preference tuning by the checkpoint that it starts from.

    {"id": pair id, "chosen_logprob": -61.2, "rejected_logprob": -80.9, "tokens": digest of the token ids}

They are keyed by model, data and chat template: `read_reference` refuses any others.
"""

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from models.dealing import deal
from models.decoder import Decoder
from models.objectives import pair_logprobs
from models.packing import Pair, grown
from models.parallel.workers import Workers
from models.tokenizer import Tokenizer
from tasks.configs.training import ReferenceLogprobsConfig
from tasks.distribution import spread
from tasks.preference_pairs import FORMAT, longest, read_pair, tokens_digest
from tasks.rows import SCHEMA_VERSION
from tasks.training import Dropped, Row, open_for

_COLUMNS = [
    ("id", pa.string()),
    ("chosen_logprob", pa.float64()),
    ("rejected_logprob", pa.float64()),
    ("tokens", pa.string()),
]
REFERENCE = pa.schema(_COLUMNS, metadata={"ratchet.schema": SCHEMA_VERSION})


def run(config: ReferenceLogprobsConfig, output: Output, policy: Artifact, pairs: Artifact) -> Outcome:
    """One row per pair that can be rendered. Raises EmptyDataset where there is none."""
    model, tokenizer = open_for(config.resources, policy)
    workers = spread(config.stage, config.resources, model, policy)
    rows = pairs.rows()
    started, tokens = time.monotonic(), 0
    for number, start in enumerate(range(0, len(rows), config.shard_rows)):
        shard = rows[start : start + config.shard_rows]
        if not output.has_shard(number):
            found = [(row, pair) for row in shard if (pair := _pair(row, tokenizer, model)) is not None]
            logprobs = score_pairs(model, [pair for _, pair in found], config.resources.microbatch_tokens, workers)
            scored = [_row(row, pair, values) for (row, pair), values in zip(found, logprobs, strict=True)]
            output.write_shard(number, scored, REFERENCE)
            tokens += sum(grown((pair.chosen, pair.rejected)).tokens for _, pair in found)
        output.progress(start + len(shard), len(rows), "pairs")
    kept = sum(len(output.read_shard(number)) for number in range(-(-len(rows) // config.shard_rows)))
    if not kept:
        raise EmptyDataset(f"none of {len(rows)} pairs can be rendered and scored", "look at the pairs' messages")
    return Outcome(
        metrics={"tokens_per_s": tokens / max(1e-9, time.monotonic() - started)},
        result=identity(policy, pairs, tokenizer),
        counts={"in": len(rows), "kept": kept, "dropped:not usable": len(rows) - kept},
    )


@torch.no_grad()
def score_pairs(
    model: Decoder, pairs: Sequence[Pair], microbatch_tokens: int, workers: Workers
) -> list[tuple[float, float]]:
    """Summed log-probabilities of both responses of each pair, in order; every process gets them all."""
    sums_P2 = torch.zeros(len(pairs), 2, dtype=torch.float64, device=workers.device)
    for bins in deal([(p.chosen, p.rejected) for p in pairs], microbatch_tokens, workers.plan.data_ranks):
        members = bins[workers.data_rank]
        # A process with nothing to score still takes part in the exchange of weights.
        logprobs = pair_logprobs(model, [pairs[index] for index in members or [0]], workers)
        if members:
            sums_P2[members] = torch.stack(logprobs, dim=1).to(sums_P2)
    return [(chosen, rejected) for chosen, rejected in workers.sum_tensor(sums_P2).tolist()]


def identity(policy: Artifact, pairs: Artifact, tokenizer: Tokenizer) -> dict[str, Any]:
    """What reference log-probabilities belong to: contents, not addresses."""
    return {
        "policy": policy.manifest().sha256(),
        "pairs": pairs.manifest().sha256(),
        "template": tokenizer.digest(),
        "format": FORMAT,
    }


def read_reference(
    reference: Artifact, policy: Artifact, pairs: Artifact, tokenizer: Tokenizer
) -> dict[str, tuple[float, float, str]]:
    """Chosen and rejected log-probability and token digest by pair id.

    Raises InputError where they were made by another model, of other pairs or with another template.
    """
    found, expected = reference.manifest().result, identity(policy, pairs, tokenizer)
    differing = [name for name, value in expected.items() if found.get(name) != value]
    if differing:
        raise InputError(
            f"the reference log-probabilities {reference.uri} belong to another {' and '.join(differing)}: "
            f"found {[found.get(name) for name in differing]}, expected {[expected[name] for name in differing]}",
            "run the reference-logprobs stage on this policy and these pairs",
        )
    return {row["id"]: (row["chosen_logprob"], row["rejected_logprob"], row["tokens"]) for row in reference.iter_rows()}


def _pair(row: Row, tokenizer: Tokenizer, model: Decoder) -> Pair | None:
    try:
        pair = read_pair(row, tokenizer)
    except Dropped:
        return None
    return pair if longest(pair) <= model.config.max_positions else None


def _row(row: Row, pair: Pair, logprobs: tuple[float, float]) -> dict[str, Any]:
    values = {"chosen_logprob": logprobs[0], "rejected_logprob": logprobs[1], "tokens": tokens_digest(pair)}
    return {"id": row["id"], **values}
