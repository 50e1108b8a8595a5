"""Pretraining: the next token of every document (paper, section 2.4).

    document   what is 3 plus 4 ? 7 .  <|endoftext|>
                      └──────── trained ───────────┘

Without a base a fresh decoder is trained with the tokenizer that is given: the main phase. With a base that
checkpoint goes on, with its own schedule and data: the continued phase.
"""

from collections.abc import Iterator, Sequence

from infra.artifacts import Artifact
from infra.errors import InputError
from infra.output import Outcome, Output
from models.batches import TokenBatches
from models.decoder import Decoder, init_model
from models.objectives import NextToken
from models.packing import Document
from models.tokenizer import Tokenizer
from models.train import Trainer
from tasks.configs.training import PretrainConfig
from tasks.training import (
    device_for,
    examples_of,
    licences_of,
    open_model,
    optimizer_settings,
    resume,
    token_limit,
    train,
    write_model,
)


def run(
    config: PretrainConfig,
    output: Output,
    texts: Artifact | tuple[Artifact, ...],
    tokenizer: Artifact,
    base: Artifact | None = None,
) -> Outcome:
    """A checkpoint trained on TEXT rows. Raises EmptyDataset without a document, InputError where `base` was trained
    with another tokenizer."""
    words = Tokenizer.load(tokenizer.folder())
    model = fresh_model(config, words) if base is None else continued_model(config, base, words)
    rows = [row for part in (texts if isinstance(texts, tuple) else (texts,)) for row in part.iter_rows()]
    tokens, counts = examples_of(rows, lambda row: closed(words, row["text"]), "documents")
    pieces = [piece for document in tokens for piece in cut(document, token_limit(config, model))]
    objective = NextToken(model)
    plan = TokenBatches([*map(objective.length, pieces)], config.tokens_per_step, config.seed, steps=config.steps)
    settings = optimizer_settings(config)
    trainer = Trainer(model, objective, pieces, plan, settings, config.resources.microbatch_tokens)
    resume(trainer, output)
    metrics = train(trainer, config.resources, output)
    write_model(model, words, output, pieces[0].token_ids)
    sizes = {
        "parameters": model.config.num_parameters,
        "corpus_tokens": sum(map(len, tokens)),
        "epochs": sum(len(plan.batch(step)) for step in range(plan.steps)) / len(pieces),
    }
    return Outcome(metrics=metrics | sizes, result={"licences": licences_of(base, rows)}, counts=counts)


def fresh_model(config: PretrainConfig, tokenizer: Tokenizer) -> Decoder:
    """A decoder of the configured shape, its vocabulary and special tokens the tokenizer's."""
    special = {"bos_id": tokenizer.bos_id, "eos_ids": (end_id(tokenizer),), "pad_id": tokenizer.pad_id}
    shape = config.model.model_config_for(tokenizer.vocab_size, **special)
    return init_model(shape, config.seed).to(device_for(config.resources))


def continued_model(config: PretrainConfig, base: Artifact, tokenizer: Tokenizer) -> Decoder:
    """The base, provided that it reads the same tokens."""
    model, own = open_model(base, config.resources)
    if own.digest() != tokenizer.digest():
        raise InputError(
            f"{base.uri} has the tokenizer {own.digest()}, the documents come with {tokenizer.digest()}",
            "go on with the tokenizer that the base was trained with",
        )
    return model


def end_id(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_id is None:
        raise InputError("the tokenizer has no end-of-text token, which ends every document", "give it an eos_token")
    return tokenizer.eos_id


def closed(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of one whole document."""
    return [*tokenizer.encode(text), end_id(tokenizer)]


def cut(token_ids: Sequence[int], limit: int) -> Iterator[Document]:
    """Pieces that read at most `limit` tokens; each begins with the token that ended the one before, so that all
    tokens but the document's first are trained exactly once."""
    for start in range(0, len(token_ids) - 1, limit):
        yield Document.of(token_ids[start : start + limit + 1])
