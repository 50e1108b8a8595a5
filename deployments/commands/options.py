"""Options that several commands share, and how they print."""

import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from deployments.plans import load_plan
from infra.settings import Settings
from tasks.configs.plan import Plan

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

STDERR = Console(stderr=True, highlight=False, soft_wrap=True)


def output_console() -> Console:
    """Stdout for people; in a pipe nobody sees a width, so that no line breaks there."""
    width = None if sys.stdout.isatty() else 10_000
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, width=width)


def workspace_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--workspace", type=click.Path(path_type=Path), help="Folder of store, databases and logs (.ratchet)."
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(function)


def debug_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--debug", is_flag=True, help="Show tracebacks.", expose_value=False)(function)


def setting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--preset, --config, --set."""
    for option in (
        click.option("--set", "changes", multiple=True, metavar="A.B=V", help="Change a setting; V is YAML."),
        click.option("--config", type=click.Path(path_type=Path), help="YAML file: a preset and what it changes."),
        click.option("--preset", help="Name of a preset (smollm)."),
    ):
        function = option(function)
    return function


def plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `setting_options`, and --fresh."""
    fresh = click.option("--fresh", is_flag=True, help="Start a new lineage: the same settings, new data.")
    return setting_options(fresh(function))


def read_plan(preset: str | None, config: Path | None, changes: tuple[str, ...], fresh: bool) -> Plan:
    """The validated plan; with `fresh` it gets a salt of its own."""
    plan = load_plan(preset, config, changes)
    return plan.model_copy(update={"salt": uuid.uuid4().hex[:8]}) if fresh else plan


def read_settings(workspace: Path | None) -> Settings:
    return Settings.from_env(workspace=workspace)


def print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")
