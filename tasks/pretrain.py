"""Pretraining: the next token of every document (paper, section 2.4).

    document   what is 3 plus 4 ? 7 .  <|endoftext|>
                      └──────── trained ───────────┘

Without a base a fresh decoder is trained with the tokenizer that is given: the main phase. With a base that
checkpoint goes on, with its own schedule and data: the continued phase. Documents come as token shards, and are read
by weights of their sources; what was taken of each is counted exactly.
"""

from dataclasses import replace

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from models.batches import BatchRamp
from models.decoder import Decoder, init_model
from models.lora import merge_lora
from models.mixture import MixedBatches, Mixture
from models.objectives import NextToken
from models.optim import OptimizerSettings
from models.pieces import Pieces
from models.tokenizer import Tokenizer
from models.train import Trainer
from tasks.configs.training import PretrainConfig
from tasks.distribution import device_for, distribute
from tasks.streams import Source, artifacts_of
from tasks.token_corpus import open_tokens
from tasks.tokenize import end_id
from tasks.training import (
    choose_weights,
    open_trainee,
    optimizer_settings,
    resume,
    token_limit,
    train,
    write_model,
)


def run(
    config: PretrainConfig,
    output: Output,
    tokens: Source,
    tokenizer: Artifact,
    base: Artifact | None = None,
) -> Outcome:
    """A checkpoint trained on TOKENS rows. Raises EmptyDataset without a document, InputError where tokens or `base`
    belong to another tokenizer, or where the settings do not fit sources and base."""
    words = Tokenizer.load(tokenizer.folder())
    settings = course(config, base)
    if base is None and config.trainable != "all":
        raise InputError(
            f"trainable is {config.trainable!r} and there is no base, whose weights it would leave as they are",
            "set trainable=all, or give a base",
        )
    model = fresh_model(config, words) if base is None else continued_model(config, base, words)
    pieces = Pieces(open_tokens(artifacts_of(tokens), words), token_limit(config, model))
    plan = batches(config, pieces)
    choose_weights(model, config)
    workers = distribute(config, model, base)
    objective = NextToken(model, config.z_loss, workers)
    trainer = Trainer(model, objective, pieces, plan, settings, config.resources.microbatch_tokens, workers)
    resume(trainer, output)
    metrics = train(trainer, config, output)
    merge_lora(model)
    write_model(model, words, output, pieces[0].token_ids, workers)
    more = {
        "parameters": model.config.num_parameters,
        "corpus_tokens": int(pieces.shards.lengths.sum()),
        "epochs": int(plan.visits[-1].sum()) / len(pieces),
        "full_learning_rate": settings.learning_rate,
        "final_learning_rate": settings.rate(plan.steps - 1, plan.steps),
    }
    documents = len(pieces.shards)
    return Outcome(
        metrics=metrics | more | uses(plan, pieces),
        result={"licences": licences([*artifacts_of(tokens), *artifacts_of(base)])},
        counts={"in": documents, "kept": documents},
    )


def fresh_model(config: PretrainConfig, tokenizer: Tokenizer) -> Decoder:
    """A decoder of the configured shape, its vocabulary and special tokens the tokenizer's."""
    special = {"bos_id": tokenizer.bos_id, "eos_ids": (end_id(tokenizer),), "pad_id": tokenizer.pad_id}
    shape = config.model.model_config_for(tokenizer.vocab_size, **special)
    return init_model(shape, config.seed).to(device_for(config.resources))


def continued_model(config: PretrainConfig, base: Artifact, tokenizer: Tokenizer) -> Decoder:
    """The base, provided that it reads the same tokens."""
    model, own = open_trainee(base, config)
    if own.digest() != tokenizer.digest():
        raise InputError(
            f"{base.uri} has the tokenizer {own.digest()}, the documents come with {tokenizer.digest()}",
            "go on with the tokenizer that the base was trained with",
        )
    return model


def course(config: PretrainConfig, base: Artifact | None) -> OptimizerSettings:
    """The optimizer's settings; its full learning rate may be the one that the base ended with."""
    settings = optimizer_settings(config)
    if config.learning_rate_from == "setting":
        return settings
    if base is None:
        raise InputError(
            "learning_rate_from is 'base' and there is no base to go on from",
            "give a base, or set learning_rate_from=setting",
        )
    found = base.manifest().metrics.get("final_learning_rate")
    if not found:
        raise InputError(
            f"learning_rate_from is 'base', and {base.uri}, made by {base.stage!r}, does not say with which learning "
            "rate it ended",
            "go on from a pretrained checkpoint of this version, or set learning_rate and learning_rate_from=setting",
        )
    return replace(settings, learning_rate=found)


def batches(config: PretrainConfig, pieces: Pieces) -> MixedBatches:
    """Which pieces each step reads."""
    if not len(pieces):
        raise EmptyDataset(
            f"no documents to train on: {len(pieces.shards)} documents, none with two tokens", "give more rows"
        )
    ramp = BatchRamp(config.batch_sizes)
    return MixedBatches(
        pieces.lengths, pieces.source_of, mixtures(config, pieces), ramp, config.seed, steps=config.steps
    )


def mixtures(config: PretrainConfig, pieces: Pieces) -> list[Mixture]:
    """The weights of the sources, and from which step on. Raises InputError where they do not fit the documents."""
    sources = pieces.shards.sources
    sizes = {source: float(pieces.lengths[pieces.source_of == place].sum()) for place, source in enumerate(sources)}
    try:
        config.check_sources([source for source, size in sizes.items() if size])
    except ValueError as error:
        remedy = "give each source of the documents its weight, and no other one"
        raise InputError(str(error), remedy) from error
    first = config.mixture or sizes
    found = [Mixture(tuple(first.get(source, 0.0) for source in sources))]
    if config.second_mixture:
        weights = tuple(config.second_mixture.get(source, 0.0) for source in sources)
        found.append(Mixture(weights, config.switch_step))
    return found


def uses(plan: MixedBatches, pieces: Pieces) -> dict[str, float]:
    """Tokens taken of each source, and how often it was gone through."""
    found = zip(pieces.shards.sources, plan.used(), strict=True)
    return {
        f"{what}/{source}": value
        for source, use in found
        for what, value in (("tokens", use.tokens), ("epochs", use.epochs))
    }


def licences(inputs: list[Artifact]) -> list[str]:
    """Every licence of the documents and the base: a model's licence is derived from all of them."""
    results = [artifact.manifest().result for artifact in inputs]
    return sorted(
        {licence for result in results for licence in result.get("licences") or [result.get("licence")] if licence}
    )
