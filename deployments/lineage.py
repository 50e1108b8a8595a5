"""Where a row or an artifact comes from and what became of it, read from rows' parents and manifests' inputs alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.artifacts import Artifact, list_artifacts
from infra.errors import InputError
from infra.manifest import Manifest
from infra.parquet import open_parquet
from infra.storage import Storage

Links = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Graph:
    """One kind of thing (rows, or artifacts) by id: what each was made from, and which artifacts hold it."""

    parents: dict[str, list[str]]
    places: dict[str, list[Artifact]]

    def children(self) -> dict[str, list[str]]:
        turned: defaultdict[str, list[str]] = defaultdict(list)
        for child, parents in self.parents.items():
            for parent in parents:
                turned[parent].append(child)
        return turned

    def entries(self, depths: Mapping[str, int]) -> list[dict[str, Any]]:
        """What was reached, the nearest first; an id that nothing in the store holds has no artifacts."""
        return [
            {"id": name, "depth": depth, "artifacts": [item.uri for item in self.places.get(name, [])]}
            for name, depth in depths.items()
        ]


def trace(store: Storage, given: str) -> dict[str, Any]:
    """The lineage of the row or artifact whose id begins with `given`: parents, children, and the models it taught.

    Raises InputError where nothing has this id, or several things do.
    """
    manifests = {artifact.fingerprint: (artifact, artifact.manifest()) for artifact in list_artifacts(store)}
    artifacts = artifact_graph(manifests)
    rows = row_graph(artifact for artifact, _ in manifests.values())
    found = [(kind, name) for kind, graph in (("artifact", artifacts), ("row", rows))
             for name in graph.places if given and name.startswith(given)]  # fmt: skip
    if len(found) != 1:
        what = f"{len(found)} things have" if found else "no row and no artifact has"
        some = ", ".join(f"{kind} {name}" for kind, name in sorted(found)[:8])
        raise InputError(
            f"{what} an id that begins with {given!r} in {store.uri}",
            f"give more of it: {some}" if found else "see `ratchet data show`",
        )
    kind, name = found[0]
    graph = rows if kind == "row" else artifacts
    below, above = reach(name, graph.parents), reach(name, graph.children())
    holders = {item.fingerprint for one in (name, *above) for item in graph.places.get(one, [])}
    taught = models_taught(holders, manifests)
    return {
        "id": name,
        "kind": kind,
        "artifacts": [item.uri for item in graph.places[name]],
        "parents": graph.entries(below),
        "children": graph.entries(above),
        "models": [{"uri": artifact.uri, "label": manifest.label} for artifact, manifest in taught],
    }


def artifact_graph(manifests: Mapping[str, tuple[Artifact, Manifest]]) -> Graph:
    return Graph(
        {name: inputs_of(manifest) for name, (_, manifest) in manifests.items()},
        {name: [artifact] for name, (artifact, _) in manifests.items()},
    )


def inputs_of(manifest: Manifest) -> list[str]:
    """Fingerprints of all inputs."""
    return [
        name for value in manifest.inputs.values() for name in (value if isinstance(value, list) else [value])
    ]  # fmt: skip


def row_graph(artifacts: Iterable[Artifact]) -> Graph:
    """Every row of every artifact; only the columns that matter are decoded."""
    graph = Graph({}, defaultdict(list))
    for artifact in artifacts:
        for part in artifact.parts():
            table = open_parquet(artifact.read_bytes(part)).read(columns=["id", "parents"])
            for name, parents in zip(*(table.column(i).to_pylist() for i in ("id", "parents")), strict=True):
                graph.parents.setdefault(name, parents or [])
                graph.places[name].append(artifact)
    return graph


def reach(start: str, links: Links) -> dict[str, int]:
    """Everything that `links` lead to from `start`, with the number of steps it takes."""
    depths, frontier = {start: 0}, [start]
    while frontier:
        found = {name: depths[one] + 1 for one in frontier for name in links.get(one, ()) if name not in depths}
        depths |= found
        frontier = [*found]
    del depths[start]
    return depths


def models_taught(
    holders: set[str], manifests: Mapping[str, tuple[Artifact, Manifest]]
) -> list[tuple[Artifact, Manifest]]:
    """Checkpoints that were trained on one of these artifacts, and those that were trained from such a checkpoint."""
    checkpoints = {name: entry for name, entry in manifests.items() if entry[1].kind == "checkpoint"}
    taught: set[str] = {name for name in checkpoints if holders & set(inputs_of(checkpoints[name][1]))}
    while more := {name for name in checkpoints if taught & set(inputs_of(checkpoints[name][1]))} - taught:
        taught |= more
    return sorted((checkpoints[name] for name in taught), key=lambda entry: (entry[1].created, entry[1].label))
