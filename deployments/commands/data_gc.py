"""`ratchet data gc`: what nothing needs any more, and its removal."""

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    output_console,
    print_json,
    read_settings,
    workspace_option,
)
from deployments.garbage import Garbage, Limits, Registered, remove, unneeded_artifacts
from deployments.leftovers import leftovers
from deployments.readable import harmless, print_table
from deployments.session import registry_server
from infra.errors import InputError, ServiceError
from infra.jobs import connect
from infra.lock import workspace_lock
from infra.settings import Settings
from infra.stack import Stack
from infra.storage import Storage
from infra.tracking import registered_versions


@click.command("gc")
@click.option("--yes", is_flag=True, help="Delete what is listed.")
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted: the default.")
@click.option("--older-than", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="DAYS",
              help="Keep what is younger, resume states of unfinished stages among it.")  # fmt: skip
@click.option("--keep-iterations", type=click.IntRange(min=1), metavar="N",
              help="Also delete checkpoints of iterations that were not promoted, before the last N.")  # fmt: skip
@workspace_option
@json_option
@debug_option
def gc(
    yes: bool, dry_run: bool, older_than: float, keep_iterations: int | None, workspace: Path | None, as_json: bool
) -> None:
    """Clean up: list, and with --yes delete, what nothing needs any more.

    That is: artifacts that no record, no registered model and nothing new needs, such as those of an abandoned run;
    unfinished and quarantined files; settings and logs of jobs that have ended; the workspace's cache. Whatever a
    recorded iteration or a registered model was made from stays.

    With --keep-iterations the old iterations' data, examinations and reports stay, their checkpoints go. A later run
    of the same lineage would train these again: use it for lineages that are done.

    Example: ratchet data gc --older-than 7
    """
    if yes and dry_run:
        raise InputError("--yes and --dry-run", "give one of them")
    settings = read_settings(workspace)
    store = Storage.open(settings.store)
    registered = registered_models(settings)
    limits = Limits(timedelta(days=older_than), keep_iterations)
    with workspace_lock(settings.workspace) if yes else nullcontext():
        if yes:
            check_no_job_runs(settings)
        items = find_garbage(store, settings.workspace, registered, limits)
        if yes:
            with STDERR.status("deleting") as status:
                remove(store, items, lambda uri: status.update(harmless(uri)))
    total = sum(item.bytes for item in items)
    if as_json:
        entries = [{"uri": item.uri, "kind": item.kind, "bytes": item.bytes, "reason": item.reason} for item in items]
        print_json({"deleted": yes, "items": entries, "bytes": total})
    else:
        show(items, total, yes)


def find_garbage(store: Storage, workspace: Path, registered: Registered | None, limits: Limits) -> list[Garbage]:
    now = datetime.now(UTC)
    artifacts = unneeded_artifacts(store, registered, limits, now)
    return [*artifacts, *leftovers(store, workspace, now - limits.younger_than)]


def registered_models(settings: Settings) -> Registered | None:
    """Every registered version; None where there is no registry to ask, which keeps all that was brought in."""

    def say(text: str) -> None:
        STDERR.print(text, style="dim", markup=False)

    try:
        with registry_server(settings, say) as uri:
            if uri is not None:
                return registered_versions(uri)
            reason = "this workspace has no registry"
    except ServiceError as error:
        reason = error.message
    say(f"{reason}: every model that was brought in from outside is kept")
    return None


def check_no_job_runs(settings: Settings) -> None:
    """Raises ServiceError while a job of a stack or cluster may be using the store."""
    address = settings.ray_address or Stack(settings.workspace).status().endpoints.ray_address
    live = [job.submission_id for job in connect(address).jobs() if job.live] if address else []
    if live:
        raise ServiceError(f"{len(live)} jobs run at {address}: {', '.join(live[:3])}", "wait until they have ended")


def show(items: Sequence[Garbage], total: int, deleted: bool) -> None:
    if not items:
        STDERR.print("nothing to clean up", markup=False)
        return
    cells = [(size(item.bytes), item.kind, item.uri, item.reason) for item in items]
    print_table(output_console(), ("size", "kind", "what", "why"), cells, numbers=("size",))
    what = f"{len(items)} items, {size(total)}"
    STDERR.print(f"deleted {what}" if deleted else f"{what}; nothing was deleted: --yes does it", markup=False)


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


COMMANDS = {"gc": gc}
