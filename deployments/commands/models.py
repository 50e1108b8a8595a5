"""`ratchet models` and `ratchet rollback`: the registry, and the way back."""

from pathlib import Path
from typing import Any

import click

from deployments.commands.data import output_console
from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    print_json,
    workspace_option,
)
from deployments.readable import print_table
from deployments.rollback import choose_project, roll_back
from deployments.session import registry_server
from infra.settings import Settings
from infra.tracking import registered_versions


def say(text: str) -> None:
    STDERR.print(text, style="dim", markup=False)


@click.command("models")
@click.option("--project", help="Only this project's model (RATCHET_PROJECT).")
@workspace_option
@json_option
@debug_option
def models(project: str | None, workspace: Path | None, as_json: bool) -> None:
    """List the registered models and their aliases.

    Where no MLflow server runs, one is started for this command.
    """
    settings = Settings.from_env(workspace=workspace, project=project)
    with registry_server(settings, say) as uri:
        rows = [] if uri is None else registered_versions(uri, settings.project)
    if as_json:
        print_json(rows)
    elif not rows:
        STDERR.print("no registered models; `ratchet run` makes some, `ratchet import` brings one in", markup=False)
    else:
        columns = ("model", "aliases", "step", "iteration", "licence", "artifact")
        print_table(output_console(), columns, map(as_cells, rows), numbers=())


def as_cells(row: dict[str, Any]) -> tuple[str, ...]:
    tags = row["tags"]
    facts = (tags.get(name, "") for name in ("step", "iteration", "licence"))
    return (f"models:/{row['name']}/{row['version']}", " ".join(row["aliases"]), *facts, row["uri"])


@click.command("rollback")
@click.option("--reason", default="", help="Why; kept in the record.")
@click.option("--project", help="Whose generator (RATCHET_PROJECT, or the only project there is).")
@workspace_option
@json_option
@debug_option
def rollback(reason: str, project: str | None, workspace: Path | None, as_json: bool) -> None:
    """Go back to the previous generator.

    The next iteration starts from it. Several rollbacks go back step by step; nothing is deleted.
    """
    settings = Settings.from_env(workspace=workspace, project=project)
    name = choose_project(settings)
    with registry_server(settings, say, create=True) as uri:
        document = roll_back(settings, str(uri), name, reason)
    STDERR.print(f"generator of {name}: {document['from']} → {document['generator']}", markup=False)
    if as_json:
        print_json(document)


COMMANDS = {"models": models, "rollback": rollback}
