"""`ratchet plan`: what a run would do; starts nothing."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    output_console,
    plan_options,
    print_json,
    read_plan,
    read_settings,
    workspace_option,
)
from deployments.planning import RunPlan, plan_run
from deployments.readable import print_table
from deployments.session import registry_server
from deployments.terminal import clock
from deployments.wheel import check_iterations
from infra.settings import Settings
from tasks.configs.plan import Plan


@click.command("plan")
@plan_options
@click.option("--iterations", type=int, default=1, show_default=True, help="Turns of the wheel in all.")
@workspace_option
@json_option
@debug_option
def plan(
    preset: str | None, config: Path | None, changes: tuple[str, ...], fresh: bool, iterations: int,
    workspace: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Show what would run: stages, cached or not; starts nothing.

    Times are those that stages of the same name last took in this store. Only where the settings name a registered
    model (models:/…) and no MLflow server runs, one is started to ask it.
    """
    check_iterations(iterations)
    found = look_ahead(read_plan(preset, config, changes, fresh), read_settings(workspace), iterations)
    show(found, as_json)


def look_ahead(wanted: Plan, settings: Settings, iterations: int) -> RunPlan:
    with tracking(wanted, settings) as uri:
        return plan_run(wanted, settings, iterations, uri)


def show(found: RunPlan, as_json: bool) -> None:
    if as_json:
        print_json(found.as_document())
    else:
        print_plan(output_console(), found.as_document())


def tracking(wanted: Plan, settings: Settings) -> Any:
    """MLflow's address for the block, None where no reference asks for it."""
    if not any(reference.startswith("models:/") for reference in (wanted.generator, wanted.base)):
        return nullcontext(None)
    return registry_server(settings, lambda text: STDERR.print(text, style="dim", markup=False))


def print_plan(console: Console, document: dict[str, Any]) -> None:
    """For people."""
    lineage = document["lineage"] or "not known before the models are fetched"
    console.print(f"preset {document['preset']}, project {document['project']}, lineage {lineage}", markup=False)
    console.print(f"store {document['store']}\n", markup=False)
    columns = ("model", "reference", "state", "parameters", "weights", "cache", "training")
    print_table(console, columns, map(model_cells, document["models"]), numbers=columns[3:])
    for item in document["iterations"]:
        writer = item["generator"] or "not known yet"
        console.print(f"\niteration {item['number']}, written by {writer}", markup=False)
        columns = ("job", "stage", "state", "GPUs", "tokens ≤", "memory", "last took")
        print_table(console, columns, map(stage_cells, item["stages"]), numbers=columns[3:])
    console.print()
    for note in document["notes"]:
        console.print(f"· {note}", markup=False)
    console.print(summary(document["totals"]), markup=False)


def model_cells(model: dict[str, Any]) -> tuple[str, ...]:
    return (
        model["role"],
        model["reference"],
        model["state"],
        parameters(model),
        memory(model["weights_bytes"], model["on_gpus"]),
        cache(model["cache_token_bytes"], model["cache_tokens"]),
        memory(model["training_bytes"], model["on_gpus"]),
    )


def parameters(model: dict[str, Any]) -> str:
    if model["parameters"] is None:
        return "unknown" if model["state"] == "hosted" else "not known yet"
    return f"{model['parameters']:,}"


def cache(token: int | None, room: int | None) -> str:
    """ "74 kB a token, room for 398,000" """
    if token is None:
        return ""
    return f"{token / 1e3:.0f} kB a token" + ("" if room is None else f", room for {room:,}")


def memory(size: int | None, on_gpus: bool) -> str:
    """ "42.6 GB on each GPU" """
    if size is None:
        return ""
    return f"{size / 1e9:.1f} GB on each GPU" if on_gpus else f"{size / 1e9:.1f} GB"


def stage_memory(found: dict[str, Any] | None) -> str:
    """ "61.2 of 80.0 GB a GPU", or without GPUs "2.1 of 25.1 GB" """
    if found is None:
        return ""
    text = f"{found['needed'] / 1e9:.1f} of {found['available'] / 1e9:.1f} GB" + (" a GPU" if found["on_gpus"] else "")
    return text if found["fits"] else f"{text}: too much"


def stage_cells(stage: dict[str, Any]) -> tuple[str, ...]:
    tokens, seconds = stage["tokens"], stage["last_wall_s"]
    return (
        stage["job"],
        stage["name"],
        stage["state"],
        str(stage["gpus"] or ""),
        "" if tokens is None else f"{tokens:,}",
        stage_memory(stage["memory"]),
        "" if seconds is None else clock(seconds),
    )


def summary(totals: dict[str, Any]) -> str:
    """One line: what there is to do, and what it took before."""
    todo = totals["missing"] + totals["damaged"] + totals["unknown"]
    text = f"{totals['cached']} stages are there, {todo} are to do"
    if totals["unknown"]:
        text += f" ({totals['unknown']} of them depend on what is not known yet)"
    if todo > totals["never_timed"]:
        text += f"; {todo - totals['never_timed']} of these last took {clock(totals['last_wall_s'])} in all"
    if totals["gpu_hours"]:
        text += f", {totals['gpu_hours']:.1f} GPU-hours"
    return text


COMMANDS = {"plan": plan}
