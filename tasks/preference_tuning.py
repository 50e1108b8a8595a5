"""One round of preference tuning: DPO, or RPO with the judge's rewards in the loss (paper, section 3.3.2).

The policy starts from a checkpoint and is anchored to that same checkpoint, whose log-probabilities of both responses
were computed beforehand (tasks.reference_logprobs).
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from models.lora import merge_lora
from models.objectives import Preference, PreferenceSettings
from models.packing import Pair
from models.tokenizer import Tokenizer
from models.train import Trainer
from tasks.best_weights import train_keeping_best
from tasks.configs.search import one_value
from tasks.configs.training import PreferenceTuningConfig
from tasks.distribution import distribute
from tasks.held_out import hold_out_keyed
from tasks.preference_pairs import longest, read_pair, tokens_digest
from tasks.reference_logprobs import read_reference
from tasks.training import (
    Dropped,
    Row,
    choose_weights,
    example_batches,
    examples_of,
    keep_short,
    licences_of,
    open_trainee,
    optimizer_settings,
    token_limit,
    write_model,
)

Reference = dict[str, tuple[float, float, str]]


def run(
    config: PreferenceTuningConfig, output: Output, policy: Artifact, pairs: Artifact, reference: Artifact
) -> Outcome:
    """A checkpoint trained from `policy`. Raises EmptyDataset without usable pairs, InputError for a reference that
    another model, other pairs or another chat template made."""
    model, tokenizer = open_trainee(policy, config)
    rows = take_part(pairs.rows(), config.part, config.parts)
    known = read_reference(reference, policy, pairs, tokenizer)
    limit, needs_rewards = token_limit(config, model), config.objective == "rpo"
    keyed, counts = read_pairs(rows, tokenizer, known, limit, needs_rewards)
    kept, validation = hold_out_keyed(keyed, config.validation_fraction, config.seed)
    settings = preference_settings(config, kept)
    choose_weights(model, config)
    workers = distribute(config, model, policy)
    trainer = Trainer(
        model,
        Preference(model, settings, workers),
        kept,
        example_batches(config, kept),
        optimizer_settings(config),
        config.resources.microbatch_tokens,
        workers,
    )
    metrics = train_keeping_best(trainer, config, output, validation)
    merge_lora(model)
    write_model(model, tokenizer, output, kept[0].chosen.token_ids, workers)
    return Outcome(
        metrics=metrics | gap_metrics(settings, kept) | {"pairs": len(kept)},
        result={"objective": config.objective, "licences": licences_of(policy, rows)},
        counts=counts,
    )


def take_part(rows: Sequence[Row], part: int, parts: int) -> list[Row]:
    """The rows of every `parts`-th prompt, by the order of their ids: parts are disjoint in prompts and cover all."""
    taken = set(sorted({*map(prompt_of, rows)})[part::parts])
    return [row for row in rows if prompt_of(row) in taken]


def prompt_of(row: Row) -> str:
    """Identifies the prompt; a row without one is its own."""
    return row["prompt_id"] or row["id"]


def read_pairs(
    rows: Sequence[Row], tokenizer: Tokenizer, reference: Reference, max_tokens: int, needs_rewards: bool
) -> tuple[list[tuple[str, Pair]], dict[str, int]]:
    """Each row's prompt and its token pair, with reference log-probabilities and, where needed, rewards."""

    def make(row: Row) -> tuple[str, Pair]:
        rewards = (row["chosen_reward"], row["rejected_reward"])
        if needs_rewards and None in rewards:
            raise Dropped("no rewards")
        pair = read_pair(row, tokenizer)
        keep_short(longest(pair), max_tokens)
        chosen, rejected = _reference_of(row, pair, reference)
        rewards = [float(reward) if needs_rewards else 0.0 for reward in rewards]
        return prompt_of(row), replace(pair, reference_chosen=chosen, reference_rejected=rejected,
                                       chosen_reward=rewards[0], rejected_reward=rewards[1])  # fmt: skip

    return examples_of(rows, make, "preference pairs")


def preference_settings(config: PreferenceTuningConfig, pairs: Sequence[Pair]) -> PreferenceSettings:
    """The loss's settings, with eta worked out where it is "auto".

    Raises EmptyDataset where more than half of the pairs have no reward gap, so that no eta can make one.
    """
    eta = config.eta
    if config.objective == "rpo" and eta == "auto":
        gap = statistics.median(abs(pair.chosen_reward - pair.rejected_reward) for pair in pairs)
        if gap == 0:
            raise EmptyDataset(
                f"the median reward gap of {len(pairs)} pairs is 0, so eta='auto' has nothing to scale",
                "set eta to a number, or keep only pairs whose rewards differ",
            )
        eta = config.target_gap / gap
    return PreferenceSettings(
        objective=config.objective,
        beta=one_value("beta", config.beta),
        eta=1.0 if eta == "auto" else eta,
        distance=config.distance,
        sft_weight=one_value("sft_weight", config.sft_weight),
    )


def gap_metrics(settings: PreferenceSettings, pairs: Sequence[Pair]) -> dict[str, float]:
    """For RPO: the eta that was used, and how large a gap the rewards ask of the policy at the median pair."""
    if settings.objective == "dpo":
        return {"beta": settings.beta}
    gaps = [settings.eta * (pair.chosen_reward - pair.rejected_reward) for pair in pairs]
    scaled = statistics.median(map(abs, gaps))
    return {
        "beta": settings.beta,
        "eta": settings.eta,
        "median_reward_gap": scaled,
        "median_target_gap_nats": scaled / settings.beta,
        "share_against_reward": sum(gap < 0 for gap in gaps) / len(gaps),
    }


def _reference_of(row: Row, pair: Pair, reference: Reference) -> tuple[float, float]:
    if row["id"] not in reference:
        raise InputError(
            f"pair {row['id']} has no reference log-probabilities among {len(reference)}",
            "run the reference-logprobs stage on these pairs",
        )
    chosen, rejected, tokens = reference[row["id"]]
    if tokens != tokens_digest(pair):
        raise InputError(
            f"pair {row['id']} has other tokens (digest {tokens_digest(pair)}) than its reference log-probabilities "
            f"({tokens})",
            "run the reference-logprobs stage again",
        )
    return chosen, rejected
