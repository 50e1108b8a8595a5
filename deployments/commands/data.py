"""`ratchet data`: what is in the store, where it comes from, and whether it is still what its manifests say."""

import itertools
import math
from pathlib import Path
from typing import Any, get_args

import click
from rich.text import Text

from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    output_console,
    print_json,
    read_settings,
    workspace_option,
)
from deployments.lineage import trace
from deployments.readable import harmless, print_manifest, print_row, print_table
from infra.artifacts import Artifact, addresses, list_artifacts
from infra.errors import InputError
from infra.manifest import MANIFEST
from infra.storage import SEGMENT, Storage
from tasks.configs.base import Kind

CANDIDATES = 8
"""Most artifacts that an error lists."""


@click.group("data")
def data() -> None:
    """Look at artifacts: ls, show, trace, verify."""


@data.command("ls")
@click.option("--stage", help="Only artifacts of this stage, such as sft.")
@click.option("--kind", type=click.Choice(get_args(Kind)), help="Only artifacts of this kind.")
@workspace_option
@json_option
@debug_option
def ls(stage: str | None, kind: str | None, workspace: Path | None, as_json: bool) -> None:
    """List what is in the store, the oldest first.

    Example: ratchet data ls --kind dataset
    """
    store = Storage.open(read_settings(workspace).store)
    rows = [describe(artifact) for artifact in list_artifacts(store, stage)]
    rows = sorted((row for row in rows if kind in (None, row["kind"])), key=lambda row: (row["created"], row["uri"]))
    if as_json:
        print_json(rows)
    elif not rows:
        STDERR.print(f"no such artifacts in {store.uri}; `ratchet run` makes some", markup=False)
    else:
        columns = ("created", "kind", "stage/fingerprint", "rows", "bytes")
        cells = [
            (row["created"], row["kind"], f"{row['stage']}/{row['fingerprint']}", _count(row["rows"]), row["bytes"])
            for row in rows
        ]
        print_table(output_console(), columns, cells, numbers=("rows", "bytes"))


def describe(artifact: Artifact) -> dict[str, Any]:
    """An entry of `ratchet data ls --json`."""
    manifest = artifact.manifest()
    return {
        "kind": manifest.kind,
        "stage": manifest.stage,
        "uri": artifact.uri,
        "fingerprint": manifest.fingerprint,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "sha256": manifest.sha256(),
        "created": manifest.created,
    }


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


@data.command("show")
@click.argument("artifact")
@click.option("--rows", type=click.IntRange(min=0), default=5, show_default=True, help="Rows to show.")
@click.option("--offset", type=click.IntRange(min=0), default=0, show_default=True, help="Rows to skip first.")
@workspace_option
@json_option
@debug_option
def show(artifact: str, rows: int, offset: int, workspace: Path | None, as_json: bool) -> None:
    """Show an artifact's manifest and some of its rows.

    ARTIFACT is its uri, stage/fingerprint (the first letters are enough), or the fingerprint alone.

    Example: ratchet data show sft/3f2a --rows 2
    """
    found = find_artifact(artifact, read_settings(workspace).store)
    manifest = found.manifest()
    shown = [*itertools.islice(found.iter_rows(), offset, offset + rows)] if found.parts() else []
    if as_json:
        print_json({"uri": found.uri, "manifest": manifest.model_dump(), "rows": [finite(row) for row in shown]})
        return
    console = output_console()
    print_manifest(console, found, manifest)
    for number, row in enumerate(shown, start=offset):
        print_row(console, number, row)


def find_artifact(text: str, store: str) -> Artifact:
    """The one artifact that a uri, `stage/fingerprint`, a fingerprint's beginning or a stage names.

    Raises InputError, with the candidates where several match.
    """
    root, marker, address = text.rstrip("/").removesuffix(f"/{MANIFEST}").rpartition("artifacts/")
    where = Storage.open(root) if marker and root else Storage.open(store)
    stage, _, prefix = address.rpartition("/")
    if not prefix or (stage and not SEGMENT.fullmatch(stage)):
        raise InputError(f"{text!r} is no artifact", "give a uri, stage/fingerprint or the fingerprint's first letters")
    known = addresses(where)
    found = [item for item in known if item[1].startswith(prefix) and stage in ("", item[0])]
    found = found or [item for item in known if not stage and item[0] == prefix]
    if len(found) != 1:
        some = ", ".join(f"{name}/{fingerprint}" for name, fingerprint in found[:CANDIDATES])
        problem = f"{len(found)} artifacts match {text!r}" if found else f"no artifact matches {text!r} in {where.uri}"
        raise InputError(problem, f"give one of {some}" if found else "`ratchet data ls` lists what is there")
    name, fingerprint = found[0]
    artifact = Artifact(stage=name, kind="unknown", fingerprint=fingerprint, store=where.uri)
    return artifact.model_copy(update={"kind": artifact.manifest().kind})


def finite(value: Any) -> Any:
    """`value` with numbers that JSON does not know (NaN, infinity) as null."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@data.command("trace")
@click.argument("name", metavar="ID")
@workspace_option
@json_option
@debug_option
def trace_command(name: str, workspace: Path | None, as_json: bool) -> None:
    """Follow a row or an artifact both ways: what it was made from, what became of it, which models it taught.

    Example: ratchet data trace 5d41402abc4b2a76
    """
    found = trace(Storage.open(read_settings(workspace).store), name)
    if as_json:
        print_json(found)
        return
    console = output_console()
    console.print(Text(f"{found['kind']} {found['id']} in {', '.join(found['artifacts'])}", style="bold"))
    for title in ("parents", "children"):
        console.print(Text(f"{title}: {len(found[title])}"))
        for entry in found[title]:
            places = ", ".join(entry["artifacts"]) or "not in this store"
            console.print(Text(f"{'  ' * entry['depth']}{harmless(entry['id'])}  {places}"))
    console.print(Text(f"models taught: {len(found['models'])}"))
    for model in found["models"]:
        console.print(Text(f"  {harmless(model['label'])}  {model['uri']}"))


@data.command("verify")
@workspace_option
@json_option
@debug_option
def verify(workspace: Path | None, as_json: bool) -> int:
    """Compare every file in the store with the checksum in its manifest; exit code 1 when one differs.

    Example: ratchet data verify --json
    """
    store = Storage.open(read_settings(workspace).store)
    found = addresses(store)
    bad: list[dict[str, str]] = []
    with STDERR.status(f"reading {len(found)} artifacts"):
        for stage, fingerprint in found:
            artifact = Artifact(stage=stage, kind="unknown", fingerprint=fingerprint, store=store.uri)
            bad += [{"uri": artifact.uri, "file": file, "reason": reason} for file, reason in problems(artifact)]
    if as_json:
        print_json({"checked": len(found), "bad": bad})
        return 1 if bad else 0
    console = output_console()
    for item in bad:
        console.print(Text(harmless(f"{item['uri']}/{item['file']}: {item['reason']}"), style="red"))
    console.print(Text(f"{len(found)} artifacts checked, {len(bad)} bad files"))
    return 1 if bad else 0


def problems(artifact: Artifact) -> list[tuple[str, str]]:
    """As `Artifact.verify`; a manifest of an unknown version is one too."""
    try:
        return artifact.verify()
    except InputError as error:
        return [(MANIFEST, error.message)]


COMMANDS = {"data": data}
