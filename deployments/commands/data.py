"""`ratchet data`: what is in the store, where it comes from, and whether it is still what its manifests say."""

import itertools
from pathlib import Path
from typing import Any, get_args

import click
from rich.text import Text

from deployments.artifact_names import find_artifact
from deployments.cli import LazyCommand
from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    output_console,
    print_json,
    read_settings,
    workspace_option,
)
from deployments.data_export import finite, make_parent
from deployments.data_page.page import MOST_ROWS, data_page
from deployments.readable import harmless, print_manifest, print_row, print_table
from infra.artifacts import Artifact, addresses, list_artifacts
from infra.disk_errors import explained
from infra.errors import InputError, StoreError
from infra.manifest import MANIFEST
from infra.storage import Storage
from tasks.configs.base import Kind

ROWS = 5
ELSEWHERE = {
    "trace": ("data_trace", "Follow a row, an artifact or a model both ways."),
    "export": ("data_export", "Write a data set with its card."),
    "gc": ("data_gc", "Clean up: list, and with --yes delete, what nothing needs."),
}
"""Commands in modules of their own, which need more imports."""


@click.group("data", commands={name: LazyCommand(name, *entry) for name, entry in ELSEWHERE.items()})
def data() -> None:
    """Look at artifacts: ls, show, trace, verify; export them, and clean up."""


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
@click.option("--rows", type=click.IntRange(min=0), help=f"Rows to show: {ROWS}, or with --html {MOST_ROWS:,}.")
@click.option("--offset", type=click.IntRange(min=0), default=0, show_default=True, help="Rows to skip first.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page to browse.")
@workspace_option
@json_option
@debug_option
def show(
    artifact: str, rows: int | None, offset: int, html: Path | None, workspace: Path | None, as_json: bool
) -> None:
    """Show an artifact's manifest and some of its rows; with --html all of them, on a page of their own.

    ARTIFACT is its uri, stage/fingerprint (the first letters are enough), or the fingerprint alone.

    The page needs no network: search, filters (also what was dropped, and why), whole conversations, charts.

    Example: ratchet data show mix/3f2a --html mix.html
    """
    found = find_artifact(artifact, read_settings(workspace).store)
    manifest = found.manifest()
    if html is not None:
        document = write_page(found, html, offset, MOST_ROWS if rows is None else rows)
        if as_json:
            print_json(document)
        return
    count = ROWS if rows is None else rows
    shown = some_rows(found, offset, count) if found.parts() else []
    if as_json:
        print_json({"uri": found.uri, "manifest": manifest.model_dump(), "rows": [finite(row) for row in shown]})
        return
    console = output_console()
    print_manifest(console, found, manifest)
    for number, row in enumerate(shown, start=offset):
        print_row(console, number, row)


def some_rows(artifact: Artifact, offset: int, count: int) -> list[dict[str, Any]]:
    try:
        return [*itertools.islice(artifact.iter_rows(), offset, offset + count)]
    except StoreError as error:
        raise type(error)(error.message, "`ratchet data verify` lists all such files") from error


def write_page(artifact: Artifact, file: Path, offset: int, rows: int) -> dict[str, Any]:
    """The page, put there whole; returns what --json prints."""
    page, file = data_page(artifact, offset, rows), file.absolute()
    total = artifact.manifest().rows or 0
    make_parent(file)
    with explained(file):
        part = file.with_name(f".{file.name}.part")
        part.write_text(page, encoding="utf-8")
        part.replace(file)
    count = max(0, min(total - offset, rows))
    STDERR.print(f"{count:,} of {total:,} rows are in {file}: open it in a browser", markup=False)
    return {"uri": artifact.uri, "file": str(file), "rows": count, "bytes": file.stat().st_size}


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
