"""What a store holds that nothing needs any more, and its removal.

Needed is what a root names, and all that this was made from, through the manifests' inputs. Roots:

- what the records of all projects name, and the reports of recorded iterations (with their data and examinations)
- every version in the registry; where no registry can be asked, every model that was brought in from outside
- what is younger than the age limit, and what the settings of a job of that age name: work under way, resume states

With `keep_iterations` older iterations that were not promoted are roots for all but checkpoints.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from deployments.lineage import Manifests, inputs_of, read_manifests
from deployments.modified import modified
from infra.artifacts import addresses
from infra.disk_errors import explained
from infra.errors import StoreError
from infra.manifest import MANIFEST
from infra.records import ROOT, Records, lineages
from infra.storage import Storage
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.configs.import_model import ImportModelConfig
from tasks.configs.report import ReportConfig

BROUGHT_IN = {ImportModelConfig.stage, EndpointModelConfig.stage}
UNNEEDED = "no record, no registered model and nothing new needs it"
Registered = Sequence[Mapping[str, Any]]
"""Rows of infra.tracking.registered_versions."""
Iteration = tuple[str, str, int]
"""Project, lineage, number."""


@dataclass(frozen=True)
class Limits:
    """What stays though nothing needs it, and what may go though something does."""

    younger_than: timedelta
    """What is younger stays."""
    keep_iterations: int | None = None
    """Of each lineage's older iterations that were not promoted the checkpoints may go; None: of no iteration."""


@dataclass(frozen=True)
class Garbage:
    """Something that can go: keys of the store, or a local folder."""

    uri: str
    kind: str
    """The artifact's, or "unfinished", "stray", "attempt", "quarantine", "job", "cache"."""
    bytes: int
    reason: str
    keys: tuple[str, ...] = ()
    """In the order in which they go: a manifest before its files."""
    folder: Path | None = None


@dataclass(frozen=True)
class Roots:
    whole: frozenset[str]
    """Fingerprints that are needed with all that they were made from."""
    without_checkpoints: Mapping[str, str]
    """Those of older iterations, with the iteration in words."""


def unneeded_artifacts(store: Storage, registered: Registered | None, limits: Limits, now: datetime) -> list[Garbage]:
    """What was made last goes first, so that a kill leaves nothing whose inputs went before it.

    Raises StoreError where a manifest or a record cannot be read: what it needs is then not known.
    """
    manifests, sizes = readable_manifests(store), store.sizes("artifacts")
    roots = find_roots(store, manifests, registered, limits, now)
    needed, partly = closure(roots.whole, manifests), closure(roots.without_checkpoints, manifests)
    found = []
    for name in children_first(manifests):
        artifact, manifest = manifests[name]
        if name in needed or (name in partly and manifest.kind != "checkpoint"):
            continue
        old = next((words for root, words in roots.without_checkpoints.items()
                    if name in closure([root], manifests)), "") if name in partly else ""  # fmt: skip
        keys = sorted((key for key in sizes if key.startswith(artifact.key + "/")),
                      key=lambda key: (not key.endswith(f"/{MANIFEST}"), key))  # fmt: skip
        size = sum(sizes[key] for key in keys)
        found.append(Garbage(artifact.uri, manifest.kind, size, old or UNNEEDED, tuple(keys)))
    return found


def readable_manifests(store: Storage) -> Manifests:
    manifests, known = read_manifests(store), addresses(store)
    if broken := [f"{stage}/{name}" for stage, name in known if name not in manifests]:
        raise StoreError(
            f"the manifest of {broken[0]} in {store.uri} cannot be read, nor that of {len(broken) - 1} others",
            "what it needs is not known: restore it, or delete its folder, then try again (`ratchet data verify`)",
        )
    return manifests


def find_roots(
    store: Storage, manifests: Manifests, registered: Registered | None, limits: Limits, now: datetime
) -> Roots:
    since = now - limits.younger_than
    old = older_iterations(store, limits.keep_iterations)
    whole, partly = set[str](), dict[str, str]()

    def add(name: str, iteration: Iteration | None) -> None:
        if iteration in old:
            partly[name] = old[iteration]
        else:
            whole.add(name)

    for key, record in read_all(store, store.list(ROOT), must=True):
        for name in fingerprints_in(record):
            add(name, iteration_of(key) if "/verdict-" in key else None)
    begun = {iteration_of(key) for key in store.list(ROOT)}
    for name, (artifact, manifest) in manifests.items():
        if datetime.fromisoformat(manifest.created) > since:
            whole.add(name)
        elif artifact.stage == ReportConfig.stage:
            iteration = tuple(manifest.recipe.get(field) for field in ("project", "lineage", "number"))
            if iteration in begun:
                add(name, iteration)  # type: ignore[arg-type]
        elif registered is None and artifact.stage in BROUGHT_IN:
            whole.add(name)
    for row in registered or ():
        iteration = (row["name"], row["tags"].get("lineage"), int(row["tags"].get("iteration", 0)))
        add(row["tags"].get("fingerprint", ""), None if row["aliases"] else iteration)  # type: ignore[arg-type]
    new_jobs = [key for key, changed in modified(store, "jobs").items() if changed > since and key.endswith(".json")]
    for _, spec in read_all(store, new_jobs, must=False):
        whole.update(fingerprints_in(spec))
    return Roots(frozenset(whole), partly)


def older_iterations(store: Storage, keep: int | None) -> dict[Iteration, str]:
    """Iterations before each lineage's last `keep` that were not promoted, with words for each."""
    if keep is None:
        return {}
    found = {}
    for project in store.children(ROOT):
        for lineage in lineages(store, project):
            for verdict in Records(store, project, lineage).all("verdict")[: -keep or None]:
                if verdict.verdict != "promote":
                    words = f"checkpoint of {project} iteration {verdict.number} ({verdict.verdict}); a run of"
                    found[project, lineage, verdict.number] = f"{words} lineage {lineage} would train it again"
    return found


def iteration_of(key: str) -> Iteration:
    """Of records/<project>/<lineage>/<kind>-<number>.json."""
    _, project, lineage, name = key.split("/")
    number = name.removesuffix(".json").rpartition("-")[2]
    return project, lineage, int(number) if number.isdigit() else 0


def read_all(store: Storage, keys: Iterable[str], must: bool) -> Iterator[tuple[str, Any]]:
    """JSON documents; with `must` one that cannot be read raises StoreError, else it is passed over."""
    for key in keys:
        try:
            yield key, json.loads(store.read(key))
        except ValueError as error:
            if must:
                raise StoreError(
                    f"{store.location(key)} cannot be read: {error}",
                    "what it needs is not known: restore it from a backup, then try again",
                ) from error


def fingerprints_in(value: Any) -> Iterator[str]:
    """Of every artifact named anywhere in a JSON document."""
    if isinstance(value, Mapping):
        if isinstance(value.get("fingerprint"), str):
            yield value["fingerprint"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from fingerprints_in(item)


def closure(roots: Iterable[str], manifests: Manifests) -> set[str]:
    """The roots and all that they were made from, as far as the store has it."""
    found, todo = set(), [name for name in roots if name in manifests]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [one for one in inputs_of(manifests[name][1]) if one in manifests]
    return found


def children_first(manifests: Manifests) -> list[str]:
    order = TopologicalSorter({name: inputs_of(manifest) for name, (_, manifest) in manifests.items()})
    return [name for name in reversed([*order.static_order()]) if name in manifests]


def remove(store: Storage, items: Sequence[Garbage], tell: Callable[[str], None]) -> None:
    """One after another; a kill in between leaves files that no manifest names, which the next time finds."""
    for item in items:
        tell(item.uri)
        for key in item.keys:
            store.delete(key)
        if item.folder is not None:
            with explained(item.folder):
                shutil.rmtree(item.folder)
