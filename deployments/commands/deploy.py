"""`ratchet deploy`: iterations on a schedule."""

import json
import uuid
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
from deployments.deploy import Deployment, as_changes, register
from deployments.plans import read_config
from infra.errors import ServiceError
from infra.settings import Settings
from infra.stack import Stack
from tasks.configs.plan import Plan


@click.command("deploy")
@plan_options
@click.option("--cron", help='When to run, such as "0 2 * * *"; without it only on demand.')
@click.option("--timezone", default="UTC", show_default=True, help="Of the schedule.")
@click.option("--name", help="The deployment's name (the config file's or the preset's).")
@click.option(
    "--collision",
    type=click.Choice(["enqueue", "cancel-new"]),
    default="enqueue",
    show_default=True,
    help="What a run does while another one runs.",
)
@workspace_option
@json_option
@debug_option
def deploy(
    preset: str | None, config: Path | None, changes: tuple[str, ...], fresh: bool, cron: str | None, timezone: str,
    name: str | None, collision: str, workspace: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Register Prefect deployments with their schedules.

    Each run appends one iteration, one run at a time. A worker on this machine runs them; the command to start it is
    printed. The server is PREFECT_API_URL's, or the one that `ratchet up` started.

    Example: ratchet deploy --preset tiny --cron "0 2 * * *"
    """
    plan = read_plan(preset, config, changes, fresh=False)
    settings = read_settings(workspace)
    given = all_changes(plan, config, changes)
    if fresh:
        given.append(f"salt={uuid.uuid4().hex[:8]}")
    title = name or (config.stem if config else plan.preset)
    wanted = Deployment(title, plan.preset, tuple(given), cron, timezone, collision)
    document = register(wanted, settings, server(settings))
    STDERR.print(f"registered {document['deployment']}: {document['url']}", markup=False, soft_wrap=True)
    STDERR.print(f"its runs need a worker: {document['worker']}", markup=False, soft_wrap=True)
    if as_json:
        print_json(document)


def all_changes(plan: Plan, config: Path | None, changes: tuple[str, ...]) -> list[str]:
    """Of the config file and the command, with files by absolute paths: a worker starts in another folder."""
    places = [f"{setting}.path={json.dumps(source.path)}" for setting, source in plan.files().items()]
    return [*as_changes(without_preset(config)), *changes, *places]


def without_preset(config: Path | None) -> dict[str, Any]:
    """What a config file changes."""
    values = read_config(config) if config else {}
    return {key: value for key, value in values.items() if key != "preset"}


def server(settings: Settings) -> str:
    """The API's address. Raises ServiceError where there is no lasting server to register with."""
    status = Stack(settings.workspace).status()
    running = status.endpoints.prefect_api_url if status.mode == "up" else None
    url = settings.prefect_api_url or running
    if url is None:
        raise ServiceError(
            f"no Prefect server is configured, and none runs in {settings.workspace}",
            "start one with `ratchet up`, or set PREFECT_API_URL",
        )
    return url


COMMANDS = {"deploy": deploy}
