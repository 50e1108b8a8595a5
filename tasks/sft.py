"""Supervised fine-tuning: the model learns what the assistant said, and the token that ended its turn.

    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
                                                                                  └ trained ┘

One stage for code SFT, general SFT and the small controls; user turns are masked (paper, section 3.3.1).
"""

from collections.abc import Sequence
from itertools import takewhile

from infra.artifacts import Artifact
from infra.output import Outcome, Output
from models.chat import encode_dialogue
from models.lora import merge_lora
from models.objectives import NextToken
from models.packing import Document
from models.tokenizer import Tokenizer
from models.train import Trainer
from tasks.best_weights import train_keeping_best
from tasks.configs.training import SFTConfig
from tasks.distribution import distribute
from tasks.held_out import hold_out_keyed
from tasks.rows import canonical
from tasks.training import (
    Dropped,
    Row,
    choose_weights,
    encoded,
    example_batches,
    examples_of,
    keep_short,
    licences_of,
    open_trainee,
    optimizer_settings,
    token_limit,
    write_model,
)


def run(config: SFTConfig, output: Output, base: Artifact, dialogues: Artifact) -> Outcome:
    """A checkpoint trained from `base` on dialogue rows. Raises EmptyDataset where no row can be trained on."""
    model, tokenizer = open_trainee(base, config)
    rows = dialogues.rows()
    keyed, counts = read_documents(rows, tokenizer, token_limit(config, model))
    documents, validation = hold_out_keyed(keyed, config.validation_fraction, config.seed)
    choose_weights(model, config)
    workers = distribute(config, model, base)
    trainer = Trainer(
        model,
        NextToken(model, config.z_loss, workers),
        documents,
        example_batches(config, documents),
        optimizer_settings(config),
        config.resources.microbatch_tokens,
        workers,
    )
    metrics = train_keeping_best(trainer, config, output, validation)
    merge_lora(model)
    write_model(model, tokenizer, output, documents[0].token_ids, workers)
    trained = sum(len(document.trained) for document in documents)
    return Outcome(
        metrics=metrics | {"examples": len(documents), "trained_tokens_per_epoch": trained},
        result={"licences": licences_of(base, rows)},
        counts=counts,
    )


def first_words(row: Row) -> str:
    """What is said before the assistant's first answer: rows that share it must not be on both sides."""
    return canonical([*takewhile(lambda message: message["role"] != "assistant", row["messages"])])


def read_documents(
    rows: Sequence[Row], tokenizer: Tokenizer, max_tokens: int
) -> tuple[list[tuple[str, Document]], dict[str, int]]:
    """Dialogues as documents of which only assistant turns are trained, each with the words that it starts from."""

    def make(row: Row) -> tuple[str, Document]:
        if not any(message["role"] == "assistant" for message in row["messages"]):
            raise Dropped("no assistant turn")
        last_only = row.get("teaches") == "last"
        token_ids, trained = encoded(lambda: encode_dialogue(tokenizer, row["messages"], last_turn_only=last_only))
        document = Document.of(token_ids, trained)
        keep_short(len(document.token_ids), max_tokens)
        return first_words(row), document

    return examples_of(rows, make, "dialogues")
