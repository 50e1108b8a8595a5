"""What a store holds that nothing needs any more.

Needed is what deployments/needed.py names, and all that this was made from, through the manifests' inputs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from deployments.lineage import Manifests, inputs_of, read_manifests
from deployments.needed import Needs
from infra.artifacts import addresses
from infra.errors import StoreError
from infra.manifest import MANIFEST
from infra.storage import Storage

UNNEEDED = "no record, no registered model and nothing new needs it"


@dataclass(frozen=True)
class Garbage:
    """Something that can go: keys of the store, or a local file or folder."""

    uri: str
    kind: str
    """The artifact's, or "unfinished", "stray", "attempt", "quarantine", "job", "cache"."""
    bytes: int
    reason: str
    keys: tuple[str, ...] = ()
    """In the order in which they go: a manifest before its files."""
    folder: str = ""
    """The keys' own."""
    local: Path | None = None


def readable_manifests(store: Storage) -> Manifests:
    """Raises StoreError where a manifest cannot be read: what it needs is then not known."""
    manifests = read_manifests(store)
    broken = [f"{stage}/{name}" for stage, name in addresses(store) if name not in manifests]
    if broken:
        others = f" (nor can those of {len(broken) - 1} more)" if broken[1:] else ""
        raise StoreError(
            f"the manifest of {broken[0]} in {store.uri} cannot be read{others}",
            "what it needs is not known: restore it, or delete its folder, then try again (`ratchet data verify`)",
        )
    return manifests


def unneeded_artifacts(store: Storage, manifests: Manifests, needs: Needs) -> list[Garbage]:
    """What was made last goes first, so that a kill leaves nothing whose inputs went before it."""
    files = defaultdict[str, dict[str, int]](dict)
    for key, size in store.sizes("artifacts").items():
        files["/".join(key.split("/")[:3])][key] = size
    needed = closure(needs.whole, manifests)
    reasons = old_checkpoints(needs.without_checkpoints, manifests)
    found = []
    for name in children_first(manifests):
        artifact, manifest = manifests[name]
        if name in needed or (name in reasons and manifest.kind != "checkpoint"):
            continue
        sizes = files[artifact.key]
        keys = sorted(sizes, key=lambda key: (not key.endswith(f"/{MANIFEST}"), key))
        size, reason = sum(sizes.values()), reasons.get(name, UNNEEDED)
        found.append(Garbage(artifact.uri, manifest.kind, size, reason, tuple(keys), artifact.key))
    return found


def old_checkpoints(roots: Mapping[str, str], manifests: Manifests) -> dict[str, str]:
    """All that older iterations were made from, each with the words of one of them."""
    reasons: dict[str, str] = {}
    for root, words in roots.items():
        for name in closure([root], manifests):
            reasons.setdefault(name, words)
    return reasons


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
    """Raises StoreError where artifacts name each other as inputs."""
    order = TopologicalSorter({name: inputs_of(manifest) for name, (_, manifest) in manifests.items()})
    try:
        return [name for name in reversed([*order.static_order()]) if name in manifests]
    except CycleError as error:
        circle = ", ".join(dict.fromkeys(error.args[1]))
        raise StoreError(
            f"these artifacts name each other as inputs: {circle}", "no stage writes that: restore their manifests"
        ) from error
