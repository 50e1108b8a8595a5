"""`ratchet run`: the whole thing, live."""

import sys
from pathlib import Path
from typing import Any

import click

from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    plan_options,
    print_json,
    read_plan,
    read_settings,
    workspace_option,
)
from deployments.commands.plan import look_ahead, show
from deployments.preflight import preflight
from deployments.session import Session, session
from deployments.summary import as_document, print_summary
from deployments.terminal import Terminal
from deployments.wheel import check_iterations, turn_wheel
from flows.events import listening
from infra.settings import Settings
from tasks.configs.plan import Plan


@click.command("run")
@plan_options
@click.option("--iterations", type=int, default=1, show_default=True, help="Turns of the wheel in all.")
@click.option("--dry-run", is_flag=True, help="Only show the plan; exit code 2 where training cannot fit into memory.")
@workspace_option
@json_option
@debug_option
def run(
    preset: str | None, config: Path | None, changes: tuple[str, ...], fresh: bool, iterations: int,
    dry_run: bool, workspace: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Turn the wheel: run iterations, live, to a verdict and a report.

    The same command again finds what is there and goes on where it stopped. With --dry-run nothing is started.
    """
    check_iterations(iterations)
    plan = read_plan(preset, config, changes, fresh)
    settings = read_settings(workspace)
    if dry_run:
        return rehearse(plan, settings, iterations, as_json)
    preflight(plan, settings)
    command = ["ratchet", *sys.argv[1:]]
    with session(settings, lambda text: STDERR.print(f"[dim]{text}[/dim]")) as servers:
        document = execute(plan, servers, iterations, command)
    if as_json:
        print_json(document)


def rehearse(plan: Plan, settings: Settings, iterations: int, as_json: bool) -> None:
    """What `ratchet plan` shows. Raises InputError where a training stage does not fit into its memory."""
    found = look_ahead(plan, settings, iterations)
    if as_json:
        found.check_memory()  # first: stdout takes one document, and a failure's is its own
    show(found, as_json)
    found.check_memory()


def execute(plan: Plan, servers: Session, iterations: int, command: list[str]) -> dict[str, Any]:
    """Run with the live view, then print the summary; returns the contract's JSON document."""
    STDERR.print(f"Prefect {servers.prefect_api_url.removesuffix('/api')}   MLflow {servers.mlflow_tracking_uri}")
    with Terminal(STDERR) as terminal, listening(terminal):
        book = turn_wheel(plan, servers, iterations, command)
    print_summary(STDERR, book, servers)
    return as_document(book)


COMMANDS = {"run": run}
