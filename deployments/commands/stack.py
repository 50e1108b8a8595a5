"""`ratchet up`, `down`, `status` and `doctor`: the local servers, and what this machine lacks."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from deployments.commands.options import (
    STDERR,
    Decorator,
    debug_option,
    json_option,
    output_console,
    print_json,
    read_settings,
    workspace_option,
)
from deployments.readable import harmless, print_table
from infra.doctor import Check
from infra.doctor import doctor as examine
from infra.services import PREFERRED
from infra.stack import ServiceStatus, Stack, StackStatus

MARKS = {"ok": ("✓", "green"), "lost": ("–", "yellow"), "missing": ("✗", "red")}


def port_option(service: str) -> Decorator:
    return click.option(
        f"--{service}-port",
        type=click.IntRange(1, 65535),
        default=PREFERRED[service],
        show_default=True,
        help=f"Port of {service} on this machine.",
    )


@click.command("up")
@port_option("prefect")
@port_option("mlflow")
@port_option("ray")
@workspace_option
@json_option
@debug_option
def up(prefect_port: int, mlflow_port: int, ray_port: int, workspace: Path | None, as_json: bool) -> None:
    """Start the local stack: Prefect, MLflow, Ray.

    Returns once all three answer; they stay until `ratchet down`. Runs of this workspace use them.
    """
    stack = Stack(read_settings(workspace).workspace)
    stack.up({"prefect": prefect_port, "mlflow": mlflow_port, "ray": ray_port}, say_state)
    show_status(stack, as_json)


def say_state(name: str, state: str, seconds: float) -> None:
    if state == "ready":
        STDERR.print(f"[green]✓[/green] {name} is ready after {seconds:.0f} s")
    else:
        STDERR.print(f"[dim]  {state} {name}[/dim]")


@click.command("down")
@workspace_option
@json_option
@debug_option
def down(workspace: Path | None, as_json: bool) -> None:
    """Stop the local stack. What it kept stays in the workspace."""
    stack = Stack(read_settings(workspace).workspace)
    stopped = stack.down()
    STDERR.print("stopped" if stopped else f"nothing runs in {stack.workspace}", markup=False)
    if as_json:
        print_json({"workspace": str(stack.workspace), "stopped": stopped})


@click.command("status")
@workspace_option
@json_option
@debug_option
def status(workspace: Path | None, as_json: bool) -> None:
    """Show the local stack's health.

    It is the one that `ratchet up` started, or a run's own.
    """
    show_status(Stack(read_settings(workspace).workspace), as_json)


def show_status(stack: Stack, as_json: bool) -> None:
    found = stack.status()
    if as_json:
        print_json(status_document(stack, found))
    elif found.mode == "down":
        STDERR.print(f"nothing runs in {stack.workspace}; `ratchet up` starts the stack", markup=False)
    else:
        whose = "started by `ratchet up`" if found.mode == "up" else "of a run under way"
        STDERR.print(f"{stack.workspace}: {whose}, up for {uptime(found)}", markup=False)
        cells = [(item.name, page(item), item.detail or "healthy", item.pid, item.log) for item in found.services]
        print_table(output_console(), ("service", "page", "health", "pid", "log"), cells, numbers=("pid",))


def status_document(stack: Stack, found: StackStatus) -> dict[str, Any]:
    """{"mode": "up" | "embedded" | "down", "workspace", "pid", "started", "services": […], and the clients' URLs}"""
    return {
        "mode": found.mode,
        "workspace": str(stack.workspace),
        "pid": found.pid,
        "started": found.started,
        "services": [asdict(item) | {"page": page(item)} for item in found.services],
        **asdict(found.endpoints),
    }


def page(service: ServiceStatus) -> str:
    """What a person opens in a browser."""
    return service.url.removesuffix("/api")


def uptime(found: StackStatus) -> str:
    seconds = int(time.time() - (found.started or time.time()))
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


@click.command("doctor")
@workspace_option
@json_option
@debug_option
def doctor(workspace: Path | None, as_json: bool) -> None:
    """Check this machine, and say what is missing.

    What is missing comes with its remedy. Ends with 1 when Ratchet does not work without it.
    """
    checks = examine(read_settings(workspace))
    ok = all(check.ok for check in checks if check.needed)
    if as_json:
        print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            print_check(check)
    if not ok:
        sys.exit(1)


def print_check(check: Check) -> None:
    """One line; what is missing gets its remedy below."""
    mark, colour = MARKS["ok" if check.ok else "missing" if check.needed else "lost"]
    console = output_console()
    console.print(Text.assemble((f"{mark} ", colour), (f"{check.name:<20} ", "bold"), harmless(check.found)))
    if not check.ok:
        console.print(Text(f"  {'':<20} {harmless(check.remedy)}", style=colour))


COMMANDS = {"up": up, "down": down, "status": status, "doctor": doctor}
