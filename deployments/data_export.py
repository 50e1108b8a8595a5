"""A data set out of the store: its rows and its card in a folder that `datasets.load_dataset(folder)` opens."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployments.data_card import data_card, licence_names
from deployments.row_counts import count_rows
from infra.artifacts import Artifact
from infra.attempts import file_sha256
from infra.disk_errors import explained
from infra.errors import InputError
from infra.manifest import FileEntry
from infra.parquet import open_parquet, read_rows

FORMATS = ("parquet", "jsonl")
CARD = "README.md"


def export_data(artifact: Artifact, folder: Path, kind: str) -> dict[str, Any]:
    """Write the folder, whole or not at all; returns what `ratchet data export --json` prints.

    Raises InputError for an artifact without rows, and for a folder that holds something.
    """
    if not artifact.parts():
        raise InputError(f"{artifact.uri} holds no rows: it is of kind {artifact.kind!r}", "give a data set")
    check_free(folder)
    folder = folder.absolute()
    make_parent(folder)
    with explained(folder):
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        document = fill(part, artifact, kind)
        with explained(folder):
            part.chmod(0o755)
            part.replace(folder)  # over an empty folder; one that was filled in the meantime is an error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {"artifact": artifact.uri, "folder": str(folder), **document}


def make_parent(path: Path) -> None:
    """The folder that `path` is to lie in. Raises InputError where that is a file."""
    try:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{path.parent} is a file", "name a place in a folder") from error


def check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} holds something already", "name a new or an empty folder: nothing is overwritten")


def fill(folder: Path, artifact: Artifact, kind: str) -> dict[str, Any]:
    """Rows first, then the card. Of the rows one part at a time is in memory."""
    manifest, counts = artifact.manifest(), count_rows(artifact)
    (folder / "data").mkdir()
    with explained(folder):
        for name in artifact.parts():
            write_part(artifact, name, folder / "data", kind)
        files = [
            FileEntry(path=f"data/{path.name}", bytes=path.stat().st_size, sha256=file_sha256(path))
            for path in sorted((folder / "data").iterdir())
        ]
        schema = open_parquet(artifact.read_bytes(artifact.parts()[0])).schema_arrow
        (folder / CARD).write_text(data_card(artifact, manifest, schema, counts, files, kind), encoding="utf-8")
    return {
        "rows": manifest.rows,
        "files": [CARD, *(file.path for file in files)],
        "licences": licence_names(counts),
        "fingerprint": artifact.fingerprint,
    }


def write_part(artifact: Artifact, name: str, folder: Path, kind: str) -> None:
    data = artifact.read_bytes(name)
    if kind == "parquet":
        (folder / name).write_bytes(data)
        return
    with (folder / Path(name).with_suffix(".jsonl")).open("w", encoding="utf-8") as stream:
        for row in plain_rows(data):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def plain_rows(data: bytes) -> Iterator[dict[str, Any]]:
    return map(finite, read_rows(open_parquet(data), 1024))


def finite(value: Any) -> Any:
    """`value` with numbers that JSON does not know (NaN, infinity) as null."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
