"""Token shards of artifacts as one corpus, mapped into memory from the workspace's disk.

A Parquet shard is converted once, into a file of its own in the workspace's cache; processes that train together, and
those that resume, find it there. One shard is in memory at a time while that goes on, none of them afterwards.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from infra.artifacts import Artifact, cache_dir
from infra.disk_errors import explained
from infra.errors import InputError
from infra.parquet import open_parquet
from models.token_shards import COLUMNS, TokenShards, write_shard
from models.tokenizer import Tokenizer

BATCH_ROWS = 4096


def open_tokens(artifacts: Sequence[Artifact], tokenizer: Tokenizer) -> TokenShards:
    """The documents of all artifacts in order. Raises InputError for those that were made with another tokenizer."""
    for artifact in artifacts:
        found, expected = artifact.manifest().result.get("tokenizer"), tokenizer.digest()
        if found != expected:
            made = f"tokens of the tokenizer {found}" if found else "no tokens"
            raise InputError(
                f"{artifact.uri} holds {made}; the model's tokenizer is {expected}",
                "tokenize the documents with the tokenizer that the model is trained with",
            )
    return TokenShards([mapped(artifact, part) for artifact in artifacts for part in artifact.parts()])


def mapped(artifact: Artifact, part: str) -> Path:
    """The converted file of a Parquet shard. It appears whole, so that processes may make it at the same time."""
    path = cache_dir() / "tokens" / artifact.fingerprint / f"{part}.arrow"
    if path.is_file():
        return path
    batches = open_parquet(artifact.read_bytes(part)).iter_batches(BATCH_ROWS, columns=list(COLUMNS))
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{part}-", dir=path.parent) as staged:
            write_shard(Path(staged, part), batches)
            Path(staged, part).replace(path)
    return path
