"""An iteration's artifacts and what they were made from, read from manifests alone."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from infra.artifacts import Artifact
from infra.errors import ArtifactMissing, InputError
from infra.manifest import Manifest
from tasks.configs.report import ReportConfig

CURVES = "curves.json"


@dataclass(frozen=True)
class Node:
    """An artifact with its manifest, which is read once."""

    artifact: Artifact
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    def holds(self, file: str) -> bool:
        return any(entry.path == file for entry in self.manifest.files)

    def input(self, name: str) -> str:
        """Fingerprint of a single input, "" where there is none."""
        found = self.manifest.inputs.get(name, "")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True)
class Turn:
    """What the report is about: the stage's inputs by label, and everything behind them."""

    config: ReportConfig
    verdict: Node
    generator_exam: Node
    candidate_exam: Node
    baseline: Node
    data: dict[str, Node]
    models: dict[str, Node]
    evaluations: dict[str, Node]
    controls: dict[str, Node]
    searches: tuple[Node, ...] = ()
    """Tables of the phases whose settings were searched (tasks/tune.py)."""
    tried: tuple[Node, ...] = ()
    """The searches' candidates and all that they were made from in this turn, parents first."""
    behind: tuple[Node, ...] = ()
    """This turn's artifacts, parents first; what generator and base were made from is left out."""
    origins: tuple[Node, ...] = ()
    """The base and everything that it was made from, parents first; then the generator."""

    @property
    def generator(self) -> str:
        """Fingerprint of the model that wrote the data."""
        return self.generator_exam.input("model")

    @property
    def base(self) -> str:
        """Fingerprint of the checkpoint that the first step started from, "" where there is no step."""
        return next(iter(self.models.values())).input("base") if self.models else ""

    def roots(self) -> list[Node]:
        """The stage's inputs, in order."""
        groups = (self.data, self.models, self.evaluations, self.controls)
        single = [self.baseline, self.generator_exam, self.candidate_exam, self.verdict]
        return [*(node for group in groups for node in group.values()), *single]

    def of_stage(self, stage: str) -> list[Node]:
        return [node for node in self.behind if node.manifest.stage == stage]


@dataclass(frozen=True)
class Given:
    """The stage's inputs, as tasks/report.py gets them."""

    verdict: Artifact
    exams: Sequence[Artifact]
    baseline: Artifact
    data: Sequence[Artifact]
    models: Sequence[Artifact]
    evaluations: Sequence[Artifact]
    controls: Sequence[Artifact]
    searches: Sequence[Artifact] = ()


def read_turn(config: ReportConfig, given: Given) -> Turn:
    """Raises InputError where labels and artifacts differ in number."""
    before, after = labelled("exams", ("generator", "candidate"), given.exams).values()
    bare = Turn(
        config=config,
        verdict=open_node(given.verdict),
        generator_exam=before,
        candidate_exam=after,
        baseline=open_node(given.baseline),
        data=labelled("data", config.data, given.data),
        models=labelled("steps", config.steps, given.models),
        evaluations=labelled("steps", config.steps, given.evaluations),
        controls=labelled("controls", config.controls, given.controls),
        searches=tuple(open_node(table) for table in given.searches),
    )
    stop = {bare.generator, bare.base}
    behind, tried = walk(bare.roots(), stop), walk(bare.searches, stop)
    by_fingerprint = {node.fingerprint: node for node in behind}
    base, generator = (by_fingerprint.get(name) for name in (bare.base, bare.generator))
    origins = (*(walk([base]) if base else ()), *([generator] if generator else ()))
    return replace(bare, behind=tuple(behind), tried=tuple(tried), origins=origins)


def labelled(field: str, labels: Sequence[str], artifacts: Sequence[Artifact]) -> dict[str, Node]:
    if len(labels) != len(artifacts) or len(set(labels)) != len(labels):
        raise InputError(
            f"{field}: {len(artifacts)} artifacts for the labels {list(labels)}", "give one label to each artifact"
        )
    return {label: open_node(artifact) for label, artifact in zip(labels, artifacts, strict=True)}


def open_node(artifact: Artifact) -> Node:
    return Node(artifact, artifact.manifest())


def walk(roots: Sequence[Node], stop: Collection[str] = ()) -> list[Node]:
    """The roots and all that they were made from, each once, parents first; what the store has lost is left out.

    Nothing is followed beyond an artifact whose fingerprint is in `stop`.
    """
    found: dict[str, Node] = {}
    seen: set[str] = set()
    todo: list[tuple[Node, bool]] = [(node, False) for node in reversed(roots)]
    while todo:
        node, parents_done = todo.pop()
        if parents_done:
            found[node.fingerprint] = node
        elif node.fingerprint not in seen:
            seen.add(node.fingerprint)
            parents = [] if node.fingerprint in stop else [*parents_of(node)]
            todo += [(node, True), *((parent, False) for parent in reversed(parents))]
    return [*found.values()]


def parents_of(node: Node) -> Iterator[Node]:
    for name, value in node.manifest.inputs.items():
        stages = node.manifest.input_stages[name]
        for stage, fingerprint in zip(as_list(stages), as_list(value), strict=True):
            artifact = Artifact(stage=stage, kind="unknown", fingerprint=fingerprint, store=node.artifact.store)
            try:
                yield open_node(artifact)
            except ArtifactMissing:
                continue


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
