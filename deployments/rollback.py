"""Back to the previous generator: a record first, then the registry's aliases follow it."""

from typing import Any, get_args

from flows.succession import ALIAS_GENERATOR, line_of_generators, point_aliases, take_back
from infra.artifacts import Artifact
from infra.errors import InputError, RatchetError
from infra.records import ROOT, Kind, Records, lineages
from infra.settings import Settings
from infra.storage import Storage
from infra.tracking import Registry, Tracker


def choose_project(settings: Settings) -> str:
    """The project that is named, or the only one that has iterations. Raises InputError where that says nothing."""
    store = Storage.open(settings.store)
    known, name = store.children(ROOT), settings.project
    listed = f"projects there: {', '.join(known)}" if known else "`ratchet run` makes some"
    if name is not None and name not in known:
        raise InputError(f"project {name!r} has no iterations in {store.uri}", listed)
    if name is None and len(known) != 1:
        remedy = f"--project names one; {listed}" if known else listed
        raise InputError(f"{len(known) or 'no'} projects have iterations in {store.uri}", remedy)
    return name or known[0]


def roll_back(settings: Settings, tracking_uri: str, project: str, reason: str) -> dict[str, Any]:
    """Take the project's generator back by one promotion; returns what `ratchet rollback --json` prints.

    Raises RatchetError where there is nothing to go back to, or where registry and records disagree.
    """
    registry = Registry(Tracker(tracking_uri, project))
    records = current_lineage(Storage.open(settings.store), project, registry)
    record = take_back(records, reason)
    point_aliases(registry, line_of_generators(records))
    left = registry.version_of(record.source)
    if left is not None:
        why = reason or f"rollback {record.sequence}"
        registry.client.set_model_version_tag(project, str(left), "rolled_back", why)
    return {
        "generator": reference(registry, record.target),
        "from": reference(registry, record.source),
        "lineage": records.key.rsplit("/", 1)[1],
        "sequence": record.sequence,
        "after_iteration": record.after,
        "reason": reason,
    }


def reference(registry: Registry, artifact: Artifact) -> str:
    version = registry.version_of(artifact)
    return artifact.uri if version is None else f"models:/{registry.name}/{version}"


def current_lineage(store: Storage, project: str, registry: Registry) -> Records:
    """The lineage whose generator the registry shows; of several, the one written last."""
    shown = registry.aliases().get(ALIAS_GENERATOR)
    found = [Records(store, project, name) for name in lineages(store, project)]
    ours = [
        records
        for records in found
        if (line := line_of_generators(records)) and registry.version_of(line[-1]) == shown is not None
    ]
    if not ours:
        raise RatchetError(
            f"the registry's generator of {project!r} is version {shown}, which no lineage's records have in place",
            "run the last iteration's command again: it brings the registry in line with the records",
        )
    return max(ours, key=last_written)


def last_written(records: Records) -> str:
    """ISO time of the newest record."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    return max(record.created for kind in kinds for record in records.all(kind))  # type: ignore[call-overload]
