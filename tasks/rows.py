"""Row schemas of every dataset, with the provenance that each row carries (docs/data.md shows real ones).

A row's id is 128 bits of SHA-256 over its canonical content and its parents' ids, so equal content from equal parents
is the same row on every machine. A row's randomness comes from `row_seed`, never from its place in a batch.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = "1.0"
WIDER = "1.1"
"""Of schemas that were given columns since; a reader of 1.x takes both."""

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
MESSAGES = pa.list_(MESSAGE)
VERIFIER = pa.struct([("kind", pa.string()), ("version", pa.int32()), ("payload", pa.string())])
"""`kind` names a ground-truth checker (tasks/judges/ground_truth.py); `payload` is canonical JSON."""

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
"""HelpSteer2's order (paper, section 3.2); targets 0..4."""

PROVENANCE = [
    ("parents", pa.list_(pa.string())),
    ("source", pa.string()),
    ("synthetic", pa.bool_()),
    ("generator", pa.string()),
    ("licence", pa.string()),
]
"""`generator`: fingerprint of the model that wrote the row's text, "" for none."""

_SCORES = [(name, pa.float32()) for name in ATTRIBUTES]


def _schema(*fields: tuple[str, pa.DataType], version: str = SCHEMA_VERSION) -> pa.Schema:
    return pa.schema([("id", pa.string()), *fields, *PROVENANCE], metadata={"ratchet.schema": version})


TOPIC = _schema(("topic", pa.string()), ("macro_topic", pa.string()))
PROMPT = _schema(
    ("family", pa.string()), ("topic", pa.string()), ("task", pa.string()), ("answer_format", pa.string()),
    ("messages", MESSAGES), ("verifier", VERIFIER), ("side", pa.string()), ("unsafe", pa.bool_()),
    ("details", pa.string()), version=WIDER,
)  # fmt: skip
"""`side`: "sft" or "preference" where prompts were split, "" for both. `details`: the family's own, canonical JSON."""
DIALOGUE = _schema(
    ("prompt_id", pa.string()), ("family", pa.string()), ("messages", MESSAGES), ("teaches", pa.string()), *_SCORES,
    ("reward", pa.float32()), version=WIDER,
)  # fmt: skip
"""`teaches`: assistant turns that training learns, "all" (also null) or "last"."""
RESPONSE = _schema(
    ("prompt_id", pa.string()), ("family", pa.string()), ("topic", pa.string()), ("prompt", MESSAGES),
    ("verifier", VERIFIER), ("side", pa.string()), ("unsafe", pa.bool_()), ("response", pa.string()),
    ("responder", pa.string()), ("sample", pa.int32()), ("aid", pa.string()), ("finish_reason", pa.string()),
    ("passed", pa.bool_()), *_SCORES, ("reward", pa.float32()), version=WIDER,
)  # fmt: skip
"""`passed`: ground truth's verdict, null for none. `aid`: how a passing answer was produced, "" for plain."""
PREFERENCE = _schema(
    ("prompt_id", pa.string()), ("family", pa.string()), ("prompt", MESSAGES), ("chosen", MESSAGES),
    ("rejected", MESSAGES), ("chosen_reward", pa.float32()), ("rejected_reward", pa.float32()), ("judge", pa.string()),
)  # fmt: skip
ATTRIBUTE = _schema(("prompt", MESSAGES), ("response", pa.string()), *_SCORES)
"""HelpSteer2-style labels; a missing label is null and is masked in training."""
ITEM = _schema(
    ("family", pa.string()), ("key", pa.string()), ("half", pa.string()), ("messages", MESSAGES), ("verifier", VERIFIER)
)
"""An evaluation item. `key` (kind, parameters or topic) is the bootstrap's cluster; `half` is "dev" or "gate"."""
TEXT = _schema(("text", pa.string()))
KEYWORD = _schema(("keyword", pa.string()), ("field", pa.string()), ("origin", pa.string()))
"""`field`: "python" or "maths"; `origin`: "topics", "entities", "mined" or "picked"."""
DROPPED = pa.schema(
    [("row_id", pa.string()), ("family", pa.string()), ("topic", pa.string()), ("reason", pa.string()),
     ("detail", pa.string()), ("messages", MESSAGES)],
    metadata={"ratchet.schema": SCHEMA_VERSION},
)  # fmt: skip
"""What a stage left out, kept for inspection (tasks/dropped.py); `row_id` is "" for a draft that never was a row."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def row_id(content: Any, parents: Iterable[str] = ()) -> str:
    """128 bits, as 32 hexadecimal digits, over the canonical content and the parents' ids."""
    return hashlib.sha256(canonical([content, list(parents)]).encode()).hexdigest()[:32]


def row_seed(fingerprint: str, row: str) -> int:
    """The 63-bit seed of one row in one stage, the same whatever the batch, shard or attempt."""
    return int.from_bytes(hashlib.sha256(f"{fingerprint}/{row}".encode()).digest()[:8], "big") >> 1


def make_row(schema: pa.Schema, values: Mapping[str, Any], content: Any, parents: Iterable[str] = ()) -> dict[str, Any]:
    """A full row of `schema` with its id; columns that `values` leaves out are null.

    Raises KeyError for a value that the schema has no column for.
    """
    parents = list(parents)
    unknown = set(values) - set(schema.names)
    if unknown:
        raise KeyError(f"no such column: {sorted(unknown)}; the schema has {schema.names}")
    return dict.fromkeys(schema.names) | {"parents": parents} | dict(values) | {"id": row_id(content, parents)}


def synthetic_share(rows: Iterable[Mapping[str, Any]]) -> float:
    """Share of rows whose `synthetic` flag is set, from the rows' own provenance; 0 for no rows."""
    flags = [bool(row["synthetic"]) for row in rows]
    return sum(flags) / max(1, len(flags))
