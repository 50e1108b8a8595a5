"""`ratchet data gc`: what nothing needs any more, and its removal."""

import math
from collections.abc import Mapping, Sequence
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
from deployments.garbage import Garbage, readable_manifests, unneeded_artifacts
from deployments.idle import check_nothing_runs, check_quiet, written
from deployments.known_versions import Registered, known_versions
from deployments.leftovers import leftovers
from deployments.lineage import Manifests
from deployments.needed import Limits, find_needs, named
from deployments.readable import harmless, print_table
from deployments.removal import remove
from infra.errors import InputError, ServiceError
from infra.lock import workspace_lock
from infra.settings import Settings
from infra.storage import Storage

MOST_DAYS = 36_500


def days(context: click.Context, parameter: click.Parameter, value: float) -> timedelta:
    if not (math.isfinite(value) and 0 <= value <= MOST_DAYS):
        raise click.BadParameter(f"{value} is not between 0 and {MOST_DAYS} days", context, parameter)
    return timedelta(days=value)


@click.command("gc")
@click.option("--yes", is_flag=True, help="Delete what is listed.")
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted: the default.")
@click.option("--older-than", type=float, callback=days, default=1.0, show_default=True, metavar="DAYS",
              help="Keep what is younger.")  # fmt: skip
@click.option("--abandoned-after", type=float, callback=days, default=14.0, show_default=True, metavar="DAYS",
              help="Keep for as long what a run that was stopped goes on from, and what its jobs name.")  # fmt: skip
@click.option("--keep-iterations", type=click.IntRange(min=1), metavar="N",
              help="Also delete checkpoints of iterations that were not promoted, before the last N.")  # fmt: skip
@workspace_option
@json_option
@debug_option
def gc(
    yes: bool, dry_run: bool, older_than: timedelta, abandoned_after: timedelta, keep_iterations: int | None,
    workspace: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Clean up: list, and with --yes delete, what nothing needs any more.

    That is: artifacts that no record, no registered model and nothing new needs, such as those of an abandoned run;
    unfinished and quarantined files; settings and logs of jobs that have ended; the workspace's cache. Whatever a
    recorded iteration or a registered model was made from stays; so does every model where no registry has authority
    over the store.

    With --yes nothing may be at work: no run, no job, and nothing written to the store for ten minutes.

    With --keep-iterations the old iterations' data, examinations and reports stay, their checkpoints go. A later run
    of the same lineage would train these again: use it for lineages that are done.

    Example: ratchet data gc --older-than 7
    """
    if yes and dry_run:
        raise InputError("--yes and --dry-run", "give one of them")
    settings = read_settings(workspace)
    store, limits = Storage.open(settings.store), Limits(older_than, keep_iterations, abandoned_after)
    with workspace_lock(settings.workspace) if yes else nullcontext():
        seen = written(store)
        if yes:
            check_nothing_runs(settings)
            check_quiet(store, seen, datetime.now(UTC))
        items = find_garbage(store, settings, limits, must=yes)
        if yes:
            items = delete(store, items, seen)
    total = sum(item.bytes for item in items)
    if as_json:
        entries = [{"uri": item.uri, "kind": item.kind, "bytes": item.bytes, "reason": item.reason} for item in items]
        print_json({"deleted": yes, "items": entries, "bytes": total})
    else:
        show(items, yes)


def find_garbage(store: Storage, settings: Settings, limits: Limits, must: bool) -> list[Garbage]:
    """With `must` a registry that does not answer raises ServiceError; without, every model counts as registered."""
    now, manifests = datetime.now(UTC), readable_manifests(store)
    needs = find_needs(store, manifests, registered_models(settings, manifests, must), limits, now)
    for note in needs.notes:
        say(note)
    artifacts = unneeded_artifacts(store, manifests, needs)
    return [*artifacts, *leftovers(store, settings.workspace, now - limits.younger_than, needs)]


def registered_models(settings: Settings, manifests: Manifests, must: bool) -> Registered | None:
    """None where no registry has authority over the store, or where it knows none of its models."""
    try:
        found, reason = known_versions(settings)
    except ServiceError as error:
        if must:
            raise
        found, reason = None, f"{error.message} (--yes would stop here)"
    if found is not None and not any(name in manifests for row in found for name in named(row)):
        found, reason = None, "the registry knows no model of this store"
    if found is None:
        say(f"{reason}: every model is kept, with all that it was made from")
    return found


def delete(store: Storage, items: Sequence[Garbage], seen: Mapping[str, datetime]) -> list[Garbage]:
    """What has gone; where an error ends it, it is said before."""
    gone: list[Garbage] = []
    try:
        with STDERR.status("deleting") as status:
            for item in remove(store, items, seen, lambda uri: status.update(harmless(uri))):
                gone.append(item)
    except BaseException:
        say(f"deleted {amount(gone)} before it stopped")
        raise
    return gone


def say(text: str) -> None:
    STDERR.print(text, style="dim", markup=False)


def show(items: Sequence[Garbage], deleted: bool) -> None:
    if not items:
        STDERR.print("nothing to clean up", markup=False)
        return
    cells = [(size(item.bytes), item.kind, item.uri, item.reason) for item in items]
    print_table(output_console(), ("size", "kind", "what", "why"), cells, numbers=("size",))
    what = amount(items)
    STDERR.print(f"deleted {what}" if deleted else f"{what}; nothing was deleted: --yes does it", markup=False)


def amount(items: Sequence[Garbage]) -> str:
    """Such as "1 item, 5 B"."""
    return f"{len(items)} item{'s' if len(items) != 1 else ''}, {size(sum(item.bytes for item in items))}"


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


COMMANDS = {"gc": gc}
