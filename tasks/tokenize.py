"""Documents as token shards: read once, encoded once, for every phase of pretraining that reads them.

    text        what is 3 plus 4 ? 7 .
    token_ids   41 12 9 33 10 5 13 7 2        2: the end-of-text token

Shards are Parquet like those of every data stage, so that they are written one by one, checked, and skipped by a
restarted job. `tasks/token_corpus.py` turns them into files that are mapped into memory where a model trains.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from models.tokenizer import Tokenizer
from tasks.configs.pretraining_data import TokenizeConfig
from tasks.rows import PROVENANCE, SCHEMA_VERSION, make_row
from tasks.streams import Source, rows_in, stream

Row = Mapping[str, Any]

TOKENS = pa.schema(
    [("id", pa.string()), ("token_ids", pa.list_(pa.uint32())), *PROVENANCE],
    metadata={"ratchet.schema": SCHEMA_VERSION},
)
UNKNOWN = "unknown"
"""The licence of documents that state none, told of the model as well."""
TOGETHER = 512
"""Documents that the tokenizer's threads share."""


@dataclass
class Tally:
    """What the shards hold, by source."""

    documents: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    licences: set[str] = field(default_factory=set)
    read: int = 0

    def add(self, read: int, written: Sequence[Row]) -> None:
        self.read += read
        for row in written:
            self.documents[row["source"]] += 1
            self.tokens[row["source"]] += len(row["token_ids"])
            self.licences.add(row["licence"] or UNKNOWN)


def run(config: TokenizeConfig, output: Output, texts: Source, tokenizer: Artifact) -> Outcome:
    """TOKENS rows from TEXT rows, in their order; empty texts are dropped. Raises EmptyDataset where none is left."""
    words = Tokenizer.load(tokenizer.folder())
    encoder = Encoder(words, config.source)
    total, tally = rows_in(texts), Tally()
    for number, group in enumerate(groups(stream(texts), config.shard_rows)):
        if output.has_shard(number):
            tally.add(len(group), output.read_shard(number))
        else:
            written = [row for some in groups(iter(group), TOGETHER) for row in encoder.encode(some)]
            output.write_shard(number, written, TOKENS)
            tally.add(len(group), written)
        output.progress(tally.read, total, "documents", tokens=tally.tokens.total())
    return outcome(tally, words)


class Encoder:
    """Rows of text to rows of token ids."""

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self.tokenizer, self.source, self.end, self.digest = tokenizer, source, end_id(tokenizer), tokenizer.digest()

    def encode(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        kept = [row for row in rows if row["text"]]
        encoded = self.tokenizer.backend.encode_batch_fast([row["text"] for row in kept], add_special_tokens=False)
        return [self._row(row, [*found.ids, self.end]) for row, found in zip(kept, encoded, strict=True)]

    def _row(self, text: Row, token_ids: list[int]) -> dict[str, Any]:
        copied = {name: text[name] for name in ("synthetic", "generator", "licence")}
        values = {"token_ids": np.array(token_ids, np.uint32), "source": self.source or text["source"] or "", **copied}
        return make_row(TOKENS, values, self.digest, [text["id"]])


def end_id(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_id is None:
        raise InputError("the tokenizer has no end-of-text token, which ends every document", "give it an eos_token")
    return tokenizer.eos_id


def groups(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while group := [*islice(rows, size)]:
        yield group


def outcome(tally: Tally, tokenizer: Tokenizer) -> Outcome:
    kept = tally.documents.total()
    counts = {"in": tally.read, "kept": kept, "dropped:empty": tally.read - kept}
    if not kept:
        raise EmptyDataset(f"no documents to tokenize: {counts}", "give rows with text")
    sources = {
        source: {"documents": tally.documents[source], "tokens": tally.tokens[source]}
        for source in sorted(tally.documents)
    }
    by_source = {f"{what}/{source}": count for source, found in sources.items() for what, count in found.items()}
    return Outcome(
        metrics={"documents": kept, "tokens": tally.tokens.total(), **by_source},
        result={"tokenizer": tokenizer.digest(), "licences": sorted(tally.licences), "sources": sources},
        counts=counts,
    )
