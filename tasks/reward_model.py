"""The reward model: five attributes of an answer, by regression on labelled answers (paper, section 3.1).

Regression mode trains trunk and head and keeps the weights of the lowest validation loss. Ridge mode leaves the trunk
as it is and fits the head in closed form on the features of the very code that scores later. Prompts, not rows, are
split into training and validation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.artifacts import Artifact
from infra.output import Outcome, Output
from models.checkpoint import open_streamed
from models.dealing import deal
from models.lora import merge_lora
from models.objectives import Regression, read_hidden
from models.packing import Rated, pack_row
from models.parallel.gather import gathering
from models.parallel.workers import Workers
from models.reward import (
    RewardModel,
    RewardScorer,
    encode_conversation,
    load_reward_model,
    save_reward_model,
    whole_head,
)
from models.ridge import PENALTIES, fit_ridge
from models.tokenizer import Tokenizer
from models.train import Trainer
from tasks.attribute_metrics import attribute_metrics
from tasks.best_weights import train_keeping_best
from tasks.configs.training import RewardModelConfig
from tasks.distribution import distribute
from tasks.held_out import hold_out
from tasks.rows import ATTRIBUTES, canonical
from tasks.streams import Source, stream
from tasks.training import (
    PROBE_TOKENS,
    Dropped,
    Row,
    check_same,
    choose_weights,
    encoded,
    example_batches,
    examples_of,
    keep_short,
    licences_of,
    open_model,
    open_trainee,
    optimizer_settings,
    token_limit,
)
from tasks.training_speed import peak_memory_gib

FEATURE_ROWS = 16
"""Conversations read between two progress reports."""


@dataclass(frozen=True)
class Answer:
    """A labelled answer."""

    prompt: str
    """The conversation before it, canonical: what rows of one prompt share."""
    messages: list[dict[str, str]]
    rated: Rated


@dataclass(frozen=True)
class Parts:
    """The reward model in the making, and what it is made of."""

    model: RewardModel
    tokenizer: Tokenizer
    base: Artifact


def prompt_of(answer: Answer) -> str:
    return answer.prompt


def run(config: RewardModelConfig, output: Output, base: Artifact, attributes: Source) -> Outcome:
    """A reward model folder. Raises EmptyDataset without labelled rows of at least two prompts."""
    ridge = config.mode == "ridge"
    decoder, tokenizer = open_model(base, config.resources) if ridge else open_trainee(base, config)
    model = RewardModel(decoder)
    model.head.to("cpu" if decoder.unembedding_VD.is_meta else decoder.unembedding_VD.device)
    rows = [*stream(attributes)]
    answers, counts = read_answers(rows, tokenizer, token_limit(config, decoder))
    training, validation = hold_out(answers, prompt_of, config.validation_fraction, config.seed)
    fit = fit_head if ridge else train_regression
    metrics, workers = fit(config, output, Parts(model, tokenizer, base), (training, validation))
    predicted = predict(model, validation, config.resources.microbatch_tokens, workers)
    merge_lora(decoder)
    metrics |= attribute_metrics(predicted, labels_of(validation), [answer.prompt for answer in validation])
    write_reward_model(model, tokenizer, output, validation[0], workers)
    sizes = {
        "training_rows": len(training),
        "validation_rows": len(validation),
        "peak_memory_gib": peak_memory_gib(workers.device),
    }
    result = {"mode": config.mode, "attributes": list(ATTRIBUTES), "licences": licences_of(base, rows)}
    return Outcome(metrics=metrics | sizes, result=result, counts=counts)


def read_answers(rows: Sequence[Row], tokenizer: Tokenizer, max_tokens: int) -> tuple[list[Answer], dict[str, int]]:
    def make(row: Row) -> Answer:
        labels = tuple(math.nan if row[name] is None else float(row[name]) for name in ATTRIBUTES)
        if all(map(math.isnan, labels)):
            raise Dropped("no label")
        messages = [*row["prompt"], {"role": "assistant", "content": row["response"]}]
        token_ids, place, answer_at = encoded(lambda: encode_conversation(tokenizer, messages))
        keep_short(len(token_ids), max_tokens)
        rated = Rated(tuple(token_ids[: place + 1]), labels, prompt_tokens=answer_at)
        return Answer(canonical(row["prompt"]), messages, rated)

    return examples_of(rows, make, "labelled answers")


def labels_of(answers: Sequence[Answer]) -> Tensor:
    """[N, A], NaN where a label is missing."""
    return torch.tensor([answer.rated.labels for answer in answers])


@torch.no_grad()
def predict(model: RewardModel, answers: Sequence[Answer], microbatch_tokens: int, workers: Workers) -> Tensor:
    """Attributes of the answers, [N, A], by all the processes that hold the model; each gets them all."""
    rated = [answer.rated for answer in answers]
    predicted_NA = torch.zeros(len(rated), len(ATTRIBUTES), dtype=torch.float64, device=workers.device)
    for bins in deal([(one,) for one in rated], microbatch_tokens, workers.plan.data_ranks):
        members = bins[workers.data_rank]
        row = pack_row([rated[index] for index in members or [0]])  # the others wait for this process's slices
        found_NA = model.attributes(read_hidden(model.decoder, row, workers))
        if members:
            predicted_NA[members] = found_NA.to(predicted_NA)
    return workers.sum_tensor(predicted_NA).cpu().float()


def fit_head(
    config: RewardModelConfig, output: Output, parts: Parts, data: tuple[list[Answer], list[Answer]]
) -> tuple[dict[str, float], Workers]:
    """Set the head by ridge regression; metrics of the training rows, each predicted without its prompt."""
    training, _ = data
    model = parts.model
    features, scorer = [], RewardScorer(model, parts.tokenizer)
    for start in range(0, len(training), FEATURE_ROWS):
        messages = [answer.messages for answer in training[start : start + FEATURE_ROWS]]
        features.append(scorer.features(messages))
        output.progress(start + len(messages), len(training), "rows")
    penalties = PENALTIES if config.ridge_penalty == "auto" else (config.ridge_penalty,)
    prompts = [answer.prompt for answer in training]
    ridge = fit_ridge(torch.cat(features), labels_of(training), prompts, penalties)
    with torch.no_grad():
        model.head.weight.copy_(ridge.weight_AD)
        model.head.bias.copy_(ridge.bias_A)
    left_out = attribute_metrics(ridge.left_out_NA, labels_of(training), prompts)
    used = {f"ridge_penalty_{name}": penalty for name, penalty in zip(ATTRIBUTES, ridge.penalties, strict=True)}
    return {f"left_out_{name}": value for name, value in left_out.items()} | used, Workers()


def train_regression(
    config: RewardModelConfig, output: Output, parts: Parts, data: tuple[list[Answer], list[Answer]]
) -> tuple[dict[str, float], Workers]:
    """Train by mean squared error and leave the weights of the lowest validation loss in the model."""
    training, validation = ([answer.rated for answer in part] for part in data)
    prompts = [answer.prompt for answer in data[0]]
    model = parts.model
    choose_weights(model.decoder, config)
    workers = distribute(config, model.decoder, parts.base, [model.head])
    settings, microbatch = optimizer_settings(config), config.resources.microbatch_tokens
    objective, plan = Regression(model, workers), example_batches(config, training, prompts)
    trainer = Trainer(model, objective, training, plan, settings, microbatch, workers)
    return train_keeping_best(trainer, config, output, validation), workers


def write_reward_model(
    model: RewardModel, tokenizer: Tokenizer, output: Output, probe: Answer, workers: Workers
) -> None:
    """Write the folder, after comparing the attributes that what was written gives the probe.

    Every process calls it, since each may hold a part of the weights; the first one writes.
    """
    folder = output.scratch_folder()
    save_reward_model(model, tokenizer, folder, workers)
    trained = RewardModel(gathering(model.decoder, workers), model.config)
    trained.head.load_state_dict(whole_head(model, workers), assign=True)
    ours = attributes_of(trained, probe)
    if workers.rank == 0:
        written, _ = load_reward_model(folder, open_streamed)
        check_same(ours, attributes_of(written, probe), "attributes")
        output.write_folder(folder)


@torch.no_grad()
def attributes_of(model: RewardModel, answer: Answer) -> Tensor:
    """[1, A], where the weights of the head lie."""
    token_ids_1T = torch.tensor([answer.rated.token_ids[:PROBE_TOKENS]], device=model.head.weight.device)
    return model.attributes(model.decoder.hidden(token_ids_1T)[:, -1])
