"""`ratchet data show --html`: one HTML file that holds an artifact's rows, and what its stage left out.

The rows travel as compressed JSON in a data block that holds no markup, and the page's script writes them as text only;
its content security policy lets no other script run and nothing be fetched. Rows are model output: they write what they
like.
"""

import base64
import gzip
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deployments.data_export import finite
from deployments.row_fields import FIELDS
from infra.artifacts import Artifact
from infra.errors import InputError
from infra.manifest import Manifest
from infra.parquet import open_parquet, read_rows
from tasks.dropped import FILE

MOST_ROWS = 50_000
"""A page with more takes a browser seconds to open."""
MOST_NUMBERS = 64
"""Of a list of numbers, such as a document's tokens, as many are shown."""
HERE = Path(__file__).parent
SCRIPTS = (
    "text.js", "table.js", "filters.js", "facets.js", "charts.js", "treemap.js", "list.js", "detail.js", "main.js",
)  # fmt: skip
TOLD = ("response", "answer", "messages", "text", "topic", "keyword")
"""Where a row's own words are: the first that it has."""


def data_page(artifact: Artifact, offset: int = 0, limit: int = MOST_ROWS) -> str:
    """Raises InputError for an artifact that has no rows to show."""
    manifest = artifact.manifest()
    if not artifact.parts():
        raise InputError(f"{artifact.uri} holds no rows: it is of kind {artifact.kind!r}", "give a data set")
    data = compressed(facts(artifact, manifest), shown_rows(artifact, offset, limit), dropped_rows(artifact, manifest))
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = (HERE / "page.html").read_text(encoding="utf-8")
    for name, text in (
        ("policy", f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"),
        ("style", (HERE / "page.css").read_text(encoding="utf-8")),
        ("script", script),
        ("data", data),
    ):
        page = page.replace(f"[[{name}]]", text)
    return page


def facts(artifact: Artifact, manifest: Manifest) -> dict[str, Any]:
    """The artifact itself, for the page's head; `fields` are what columns mean."""
    return {
        "uri": artifact.uri,
        **{name: getattr(manifest, name) for name in (
            "stage", "label", "fingerprint", "kind", "version", "created", "code_version", "device", "rows", "counts",
            "recipe", "metrics", "inputs", "input_stages",
        )},
        "fields": FIELDS,
    }  # fmt: skip


def shown_rows(artifact: Artifact, offset: int, limit: int) -> Iterator[dict[str, Any]]:
    for row in itertools.islice(artifact.iter_rows(), offset, offset + limit):
        yield measured(row) | {"outcome": "kept"}


def dropped_rows(artifact: Artifact, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """What the stage left out, as far as it kept that (tasks/dropped.py)."""
    if any(file.path == FILE for file in manifest.files):
        for row in read_rows(open_parquet(artifact.read_bytes(FILE)), 1024):
            yield measured(row) | {"id": row["row_id"], "outcome": f"dropped: {row['reason']}"}


def measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its empty columns, with its length and, of a pair, its margin."""
    return {name: short(finite(value)) for name, value in row.items() if value not in (None, "", [])} | lengths(row)


def short(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MOST_NUMBERS and isinstance(value[0], int | float):
        return [*value[:MOST_NUMBERS], f"… {len(value):,} in all"]
    return value


def lengths(row: Mapping[str, Any]) -> dict[str, Any]:
    """In words: of a pair both last turns, of a response the answer, else all that the row says."""
    if "rejected" in row:
        rewards = row["chosen_reward"], row["rejected_reward"]
        margin = {} if None in rewards else {"reward_gap": finite(rewards[0] - rewards[1])}
        last = {f"{side}_words": words((row[side] or [])[-1:]) for side in ("chosen", "rejected")}
        return last | margin
    told = next((row[name] for name in TOLD if row.get(name)), "")
    turns = {"turns": len(row["messages"])} if row.get("messages") and len(row["messages"]) > 1 else {}
    return {"words": words(told)} | turns


def words(told: str | Iterable[Mapping[str, str]]) -> int:
    texts = [told] if isinstance(told, str) else [message["content"] or "" for message in told or ()]
    return sum(len(text.split()) for text in texts)


def compressed(head: Mapping[str, Any], rows: Iterable[Any], dropped: Iterable[Any]) -> str:
    """Base64 of gzipped JSON: the head, and every row on a line of its own, one at a time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as stream:
        for document in itertools.chain([finite(head)], rows, dropped):
            stream.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return base64.b64encode(buffer.getvalue()).decode()
