"""Where a row or an artifact comes from and what became of it, read from rows' parents and manifests' inputs alone.

Of the rows only two columns are read. A graph is two tables, so that one step from any number of rows to all their
parents or children is one pass over a column: about a million rows a second.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.artifacts import Artifact, addresses
from infra.errors import ArtifactCorrupt, ArtifactMissing, InputError, StoreError
from infra.manifest import Manifest
from infra.parquet import check_schema_version
from infra.storage import Storage

logger = logging.getLogger(__name__)
Manifests = Mapping[str, tuple[Artifact, Manifest]]
LINKS = pa.schema([("child", pa.string()), ("parent", pa.string())])
PLACES = pa.schema([("id", pa.string()), ("holder", pa.int32())])
CANDIDATES = 8
"""Most ids that an error lists."""


@dataclass(frozen=True)
class Graph:
    """One kind of thing (rows, or artifacts) by id: what each was made from, and which artifacts hold it."""

    links: pa.Table
    """LINKS"""
    places: pa.Table
    """PLACES; `holder` counts in `holders`."""
    holders: Sequence[Artifact]
    unreadable: Sequence[str] = ()
    """Parts of data sets whose rows are not among them, with the reason."""

    def beginning_with(self, text: str) -> list[str]:
        matching = pc.call_function("starts_with", [self.places["id"]], pc.MatchSubstringOptions(text))
        return sorted(self.places["id"].filter(matching).unique().to_pylist())

    def parents(self, names: pa.Array) -> list[str]:
        return self._step("child", "parent", names)

    def children(self, names: pa.Array) -> list[str]:
        return self._step("parent", "child", names)

    def places_of(self, names: Iterable[str]) -> dict[str, list[Artifact]]:
        """The artifacts that hold each of the ids; an id that nothing in the store holds is not among them."""
        wanted = pa.array([*names], pa.string())
        found = self.places.filter(pc.field("id").isin(wanted))
        places: defaultdict[str, list[Artifact]] = defaultdict(list)
        for name, holder in zip(found["id"].to_pylist(), found["holder"].to_pylist(), strict=True):
            places[name].append(self.holders[holder])
        return places

    def _step(self, start: str, end: str, names: pa.Array) -> list[str]:
        return self.links.filter(pc.field(start).isin(names))[end].unique().to_pylist()


def trace(store: Storage, given: str) -> dict[str, Any]:
    """The lineage of the row or artifact whose id begins with `given`: what it was made from and what was made from it,
    the data sets that these rows are in, the models they taught, and, of a checkpoint, the data sets that taught it.

    Rows are not looked at where `given` is an artifact's whole fingerprint. `unreadable` lists parts of data sets whose
    rows are missing from the answer. Raises InputError where nothing has this id, or several things do.
    """
    manifests = read_manifests(store)
    graphs = {"artifact": artifact_graph(manifests)}
    if given not in manifests:
        graphs["row"] = row_graph(manifests.values())
    kind, name = choose(graphs, given, store.uri)
    graph = graphs[kind]
    below, above = reach(name, graph.parents), reach(name, graph.children)
    places = graph.places_of([name, *below, *above])
    fed = Counter(item.fingerprint for one in (name, *above) for item in places.get(one, []))
    return {
        "id": name,
        "kind": kind,
        "artifacts": [item.uri for item in places[name]],
        "parents": entries(below, places),
        "children": entries(above, places),
        "datasets": [] if kind == "artifact" else [
            dataset(*manifests[one]) | {"count": count}
            for one, count in by_age(fed, manifests).items() if manifests[one][1].kind == "dataset"
        ],
        "models": [model(*entry) for entry in models_taught(set(fed), manifests)],
        "taught_by": taught_by(name, manifests) if kind == "artifact" else [],
        "unreadable": list(graph.unreadable),
    }  # fmt: skip


def choose(graphs: Mapping[str, Graph], given: str, where: str) -> tuple[str, str]:
    """Kind and id of the one thing whose id begins with `given`."""
    found = [(kind, name) for kind, graph in graphs.items() for name in graph.beginning_with(given) if given]
    if len(found) != 1:
        what = f"{len(found)} things have" if found else "no row and no artifact has"
        some = ", ".join(f"{kind} {name}" for kind, name in found[:CANDIDATES])
        lost = [part for graph in graphs.values() for part in graph.unreadable]
        where += f" ({len(lost)} parts cannot be read: {lost[0]})" if lost else ""
        raise InputError(
            f"{what} an id that begins with {given!r} in {where}",
            f"give more of it: {some}" if found else "see `ratchet data show`",
        )
    return found[0]


def read_manifests(store: Storage) -> Manifests:
    """Of every artifact whose manifest can be read; the others are logged as warnings."""
    found = {}
    for stage, name in addresses(store):
        artifact = Artifact(stage=stage, kind="unknown", fingerprint=name, store=store.uri)
        try:
            manifest = artifact.manifest()
            found[name] = (artifact.model_copy(update={"kind": manifest.kind}), manifest)
        except (ArtifactCorrupt, ArtifactMissing, InputError) as error:
            logger.warning("%s", error)
    return found


def artifact_graph(manifests: Manifests) -> Graph:
    links = [(name, parent) for name, (_, manifest) in manifests.items() for parent in inputs_of(manifest)]
    children, parents = zip(*links, strict=True) if links else ((), ())
    return Graph(
        pa.table([pa.array(children, pa.string()), pa.array(parents, pa.string())], schema=LINKS),
        pa.table([pa.array([*manifests], pa.string()), pa.array(range(len(manifests)), pa.int32())], schema=PLACES),
        [artifact for artifact, _ in manifests.values()],
    )


def inputs_of(manifest: Manifest) -> list[str]:
    """Fingerprints of all inputs."""
    return [
        name for value in manifest.inputs.values() for name in (value if isinstance(value, list) else [value])
    ]  # fmt: skip


def row_graph(given: Iterable[tuple[Artifact, Manifest]]) -> Graph:
    """Every row of every artifact. Rows that have no parents of their own, such as a pair's log-probabilities, carry
    the id of the row that they belong to: they are another place of it."""
    links, places, holders, unreadable = [LINKS.empty_table()], [PLACES.empty_table()], [], []
    for artifact, manifest in given:
        for part in (file.path for file in manifest.files if file.path.startswith("part-")):
            try:
                table = id_columns(artifact, part)
            except (StoreError, InputError) as error:
                unreadable.append(f"{artifact.stage}/{artifact.fingerprint}/{part}: {error.message}")
                continue
            ids = table["id"].combine_chunks()
            places.append(pa.table([ids, pa.repeat(pa.scalar(len(holders), pa.int32()), len(ids))], schema=PLACES))
            if "parents" in table.column_names:
                lists = table["parents"].combine_chunks()
                children = ids.take(lists.value_parent_indices())
                links.append(pa.table([children, lists.flatten()], schema=LINKS))
        holders.append(artifact)
    return Graph(pa.concat_tables(links), pa.concat_tables(places), holders, unreadable)


def id_columns(artifact: Artifact, part: str) -> pa.Table:
    """The columns `id` and `parents`, pages checked; the rest is not even fetched. No rows where there are no ids."""
    filesystem, path = artifact.storage().arrow(f"{artifact.key}/{part}")
    try:
        file = pq.ParquetFile(path, filesystem=filesystem, page_checksum_verification=True)
        check_schema_version(file.schema_arrow)
        wanted = [name for name in ("id", "parents") if name in file.schema_arrow.names]
        return file.read(columns=wanted) if "id" in wanted else PLACES.empty_table()
    except (OSError, pa.ArrowException) as error:
        raise ArtifactCorrupt(str(error).partition("\n")[0], "`ratchet data verify` lists all such files") from error


def reach(start: str, step: Callable[[pa.Array], list[str]]) -> dict[str, int]:
    """Everything that `step` leads to from `start`, the nearest first, with the number of steps it takes."""
    depths, frontier, depth = {start: 0}, [start], 0
    while frontier:
        depth += 1
        frontier = [name for name in step(pa.array(frontier, pa.string())) if name not in depths]
        depths |= dict.fromkeys(frontier, depth)
    del depths[start]
    return depths


def entries(depths: Mapping[str, int], places: Mapping[str, Sequence[Artifact]]) -> list[dict[str, Any]]:
    """What was reached; an id that nothing in the store holds has no artifacts."""
    return [
        {"id": name, "depth": depth, "artifacts": [item.uri for item in places.get(name, ())]}
        for name, depth in depths.items()
    ]


def by_age(counts: Mapping[str, int], manifests: Manifests) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts, key=lambda name: manifests[name][1].created)}


def dataset(artifact: Artifact, manifest: Manifest) -> dict[str, Any]:
    return {"uri": artifact.uri, "label": manifest.label, "rows": manifest.rows}


def model(artifact: Artifact, manifest: Manifest) -> dict[str, Any]:
    return {"uri": artifact.uri, "label": manifest.label, "fingerprint": artifact.fingerprint}


def models_taught(holders: set[str], manifests: Manifests) -> list[tuple[Artifact, Manifest]]:
    """Checkpoints that were trained on one of these artifacts, and those that were trained from such a checkpoint."""
    checkpoints = {name: entry for name, entry in manifests.items() if entry[1].kind == "checkpoint"}
    taught: set[str] = {name for name in checkpoints if holders & set(inputs_of(checkpoints[name][1]))}
    while more := {name for name in checkpoints if taught & set(inputs_of(checkpoints[name][1]))} - taught:
        taught |= more
    return sorted((checkpoints[name] for name in taught), key=lambda entry: (entry[1].created, entry[1].label))


def taught_by(name: str, manifests: Manifests) -> list[dict[str, Any]]:
    """The data sets that a checkpoint, and those that it was trained from, learned from: the last lesson first.

    Nothing for anything but a checkpoint. What the store has lost is left out.
    """
    lessons, todo, seen = [], [name], {name}
    while todo:
        entry = manifests.get(todo.pop(0))
        if entry is None or entry[1].kind != "checkpoint":
            continue
        for one in inputs_of(entry[1]):
            if one in seen:
                continue
            seen.add(one)
            todo.append(one)
            if one in manifests and manifests[one][1].kind == "dataset":
                lessons.append(dataset(*manifests[one]) | {"taught": entry[1].label})
    return lessons
