"""`ratchet data trace`: a row's or an artifact's lineage both ways, up to the registered models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from deployments.artifact_names import find_artifact
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
from deployments.model_roles import Roles, roles_in_records, roles_in_registry
from deployments.readable import harmless
from deployments.row_counts import count_rows
from deployments.session import registry_server
from infra.artifacts import Artifact
from infra.errors import InputError, ServiceError
from infra.settings import Settings
from infra.stack import Stack
from infra.storage import Storage
from infra.tracking import resolve_reference

SHOWN = 40
"""Most rows of a list on the terminal; --json has all."""
REGISTERED = "models:/"


@click.command("trace")
@click.argument("name", metavar="ID")
@click.option("--rows", "with_rows", is_flag=True, help="List the ids of the rows that taught a checkpoint.")
@workspace_option
@json_option
@debug_option
def trace_command(name: str, with_rows: bool, workspace: Path | None, as_json: bool) -> None:
    """Follow a row, an artifact or a model both ways: what it was made from, what became of it, what it taught.

    ID is a row's id, an artifact's fingerprint (of both the first letters are enough), stage/fingerprint, a uri,
    models:/NAME/VERSION or models:/NAME@ALIAS. Of a model it lists the data sets that taught it.

    Example: ratchet data trace 5d41402abc4b2a76
    """
    settings = read_settings(workspace)
    store = Storage.open(settings.store)
    if name.startswith(REGISTERED):
        name, registered = registered_model(name, settings)
        unknown = ""
    else:
        registered, unknown = registry(settings)
    if "/" in name:
        artifact = find_artifact(name, settings.store)
        store, name = artifact.storage(), artifact.fingerprint
    found = trace(store, name)
    recorded = roles_in_records(store)
    for entry in (found, *found["models"]):
        add_roles(entry, recorded, registered)
    found["taught_by"] = [lesson for entry in found["taught_by"] if (lesson := with_counts(entry, with_rows))]
    if as_json:
        print_json(found)
        return
    show(output_console(), found)
    for part in found["unreadable"]:
        STDERR.print(f"cannot be read, and is missing here: {harmless(part)}", style="red", markup=False)
    if unknown:
        STDERR.print(f"registered versions are not known: {unknown}", style="dim", markup=False)


def registered_model(reference: str, settings: Settings) -> tuple[str, Roles]:
    """Fingerprint of the checkpoint that a registered version points at, and all registered versions."""
    with registry_server(settings, lambda text: STDERR.print(text, style="dim", markup=False)) as uri:
        if uri is None:
            raise InputError(f"{reference}: this workspace has no registry", "give a row's id or a fingerprint")
        tags = resolve_reference(uri, reference)
        if "fingerprint" not in tags:
            raise InputError(f"{reference} names no artifact", "Ratchet did not register it: give a fingerprint")
        return tags["fingerprint"], roles_in_registry(uri)


def registry(settings: Settings) -> tuple[Roles | None, str]:
    """Registered versions by fingerprint; None, and why, where no server runs: none is started for this."""
    uri = settings.mlflow_tracking_uri or Stack(settings.workspace).status().endpoints.mlflow_tracking_uri
    if uri is None:
        return None, "no MLflow server runs (`ratchet up` starts one)"
    try:
        return roles_in_registry(uri), ""
    except ServiceError as error:
        return None, error.message


def add_roles(entry: dict[str, Any], recorded: Roles, registered: Roles | None) -> None:
    """A model's part in the iterations, and its registered versions: null where they are not known."""
    name: str = entry.get("fingerprint") or entry["id"]
    entry["roles"] = recorded.get(name, [])
    entry["versions"] = None if registered is None else registered.get(name, [])


def with_counts(entry: Mapping[str, Any], with_rows: bool) -> dict[str, Any] | None:
    """A data set with its rows by source, licence and so on; None for one whose rows say nothing of the kind."""
    artifact = artifact_at(entry["uri"])
    counts = count_rows(artifact)
    if not counts:
        return None
    rows = {"row_ids": [row["id"] for row in artifact.iter_rows()]} if with_rows else {}
    return {**entry, **counts, **rows}


def artifact_at(uri: str) -> Artifact:
    store, _, address = uri.rpartition("/artifacts/")
    stage, _, fingerprint = address.partition("/")
    return Artifact(stage=stage, kind="dataset", fingerprint=fingerprint, store=store)


def show(console: Console, found: Mapping[str, Any]) -> None:
    console.print(Text(f"{found['kind']} {found['id']} in {', '.join(found['artifacts'])}", style="bold"))
    if known := roles_and_versions(found):
        console.print(Text(known))
    for title in ("parents", "children"):
        console.print(Text(f"{title}: {len(found[title])}"))
        for entry in found[title][:SHOWN]:
            places = ", ".join(entry["artifacts"]) or "not in this store"
            console.print(Text(f"{'  ' * entry['depth']}{harmless(entry['id'])}  {places}"))
        if any(not entry["artifacts"] for entry in found[title]):
            console.print(Text("  (not in this store: rows that ship with the project have no artifact)", style="dim"))
        if len(found[title]) > SHOWN:
            console.print(Text(f"  … and {len(found[title]) - SHOWN} more (--json lists all)"))
    for title, entries in (("in data sets", found["datasets"]), ("taught by", found["taught_by"])):
        if entries:
            console.print(Text(f"{title}: {len(entries)}"))
            console.print(Text("\n".join(map(dataset_line, entries))))
    console.print(Text(f"models taught: {len(found['models'])}"))
    for model in found["models"]:
        console.print(Text(model_line(model)))


def dataset_line(entry: Mapping[str, Any]) -> str:
    count = f"{entry['count']} of " if "count" in entry else ""
    taught = f", taught {entry['taught']}" if "taught" in entry else ""
    line = f"  {harmless(entry['label'])}: {count}{entry['rows']} rows{taught}  {entry['uri']}"
    spread = [f"{harmless(name or 'none')} {rows}" for name, rows in entry.get("source", {}).items()]
    ids = [f"    {harmless(name)}" for name in entry.get("row_ids", ())]
    return "\n".join([line, *([f"    sources: {', '.join(spread)}"] if spread else []), *ids])


def model_line(model: Mapping[str, Any]) -> str:
    return "  ".join([f"  {harmless(model['label'])}", model["uri"], roles_and_versions(model)]).rstrip()


def roles_and_versions(entry: Mapping[str, Any]) -> str:
    """Such as "models:/demo/7 @generator; candidate of demo iteration 3 (promote)"."""
    known = [
        " ".join([version["version"], *(f"@{alias}" for alias in version["aliases"])])
        for version in entry["versions"] or ()
    ]
    roles = [
        f"{role['role']} of {role['project']} iteration {role['iteration']}"
        + (f" ({role['verdict']})" if "verdict" in role else "")
        for role in entry["roles"]
    ]
    return "; ".join([*known, *roles])


COMMANDS = {"trace": trace_command}
