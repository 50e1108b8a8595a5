"""Where prompts come from: how well one fixed model answers those of each source, and how widely they are spread."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from tasks.configs.judging import JudgingConfig
from tasks.configs.responses import ResponsesConfig
from tasks.reporting.lineage import Node, Turn, as_list

REAL, ONE_TURN, SEVERAL_TURNS, INSTRUCTION = (
    "real prompts", "synthetic, one turn", "synthetic, several turns", "synthetic, instruction following",
)  # fmt: skip
GROUPS = (REAL, ONE_TURN, SEVERAL_TURNS, INSTRUCTION)
DIVERSITY = "diversity/"

Row = Mapping[str, Any]
Place = tuple[str, str]
"""Group and source of a prompt; the source is "" for a whole group."""
Scores = Mapping[str, Sequence[tuple[float, float]]]
"""Helpfulness and reward of the responder's answers, by prompt."""


@dataclass(frozen=True)
class Mean:
    """Over prompts."""

    value: float
    error: float | None
    """Standard error; None for a single prompt."""


@dataclass(frozen=True)
class SourceRow:
    group: str
    source: str
    prompts: int
    scored: int
    """Prompts whose answer the reward model saw; where ground truth decides it sees a sample only."""
    helpfulness: Mean | None
    reward: Mean | None


@dataclass(frozen=True)
class Sources:
    """The paper's comparison of prompt sources (section 3.2)."""

    responder: str
    rows: list[SourceRow]
    gap: Mean | None
    """Helpfulness on synthetic prompts of one turn minus that on real ones."""


@dataclass(frozen=True)
class Coverage:
    """Of one stage that wrote prompts, planned and got."""

    label: str
    families: list[tuple[str, int, int]]
    formats: list[tuple[str, float, int]]
    """Answer formats; planned where the family leaves the choice to the plan."""
    topics: int
    cells: int
    """Of task × topic × answer format, those with a prompt."""


@dataclass(frozen=True)
class Diversity:
    """Of the data sets that measured it."""

    names: list[str]
    rows: list[tuple[str, list[float | None]]]


def sources_of(turn: Turn) -> Sources | None:
    """From the last judging stage whose responses and prompts are known; None where there is none."""
    nodes = {node.fingerprint: node for node in turn.behind}
    for judged in reversed(turn.of_stage(JudgingConfig.stage)):
        answered = [node for node in parents(judged, "responses", nodes) if "responders" in node.manifest.recipe]
        prompts = [node for one in answered for node in parents(one, "prompts", nodes)]
        if prompts and answered[0].manifest.stage == ResponsesConfig.stage:
            responder = answered[0].manifest.recipe["responders"][0]["label"]
            places = {row["id"]: place_of(row) for node in prompts for row in node.artifact.iter_rows()}
            return compare(responder, places, judged.artifact.iter_rows())
    return None


def parents(node: Node, name: str, nodes: Mapping[str, Node]) -> list[Node]:
    """The artifacts that an input is made of, those that the store still has."""
    return [nodes[found] for found in as_list(node.manifest.inputs.get(name, [])) if found in nodes]


def place_of(prompt: Row) -> Place:
    source = (prompt["source"] or "").partition("/")[0] or prompt["family"]
    if not prompt["synthetic"]:
        return REAL, source
    if prompt["family"] == "instruction":
        return INSTRUCTION, source
    said = sum(message["role"] == "user" for message in prompt["messages"])
    return (SEVERAL_TURNS if said > 1 else ONE_TURN), source


def compare(responder: str, places: Mapping[str, Place], judged: Iterable[Row]) -> Sources:
    """`judged` are RESPONSE rows; the responder's answers count where no aid helped."""
    scores: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    asked: defaultdict[Place, set[str]] = defaultdict(set)
    for row in judged:
        if row["responder"] != responder or row["aid"] or row["prompt_id"] not in places:
            continue
        group, source = places[row["prompt_id"]]
        for place in ((group, source), (group, "")):
            asked[place].add(row["prompt_id"])
        if row["helpfulness"] is not None:
            scores[row["prompt_id"]].append((row["helpfulness"], row["reward"]))
    order = sorted(asked, key=lambda place: (GROUPS.index(place[0]), place[1]))
    rows = [source_row(*place, asked[place], scores) for place in order]
    whole = {row.group: row.helpfulness for row in rows if not row.source}
    return Sources(responder, rows, gap(whole.get(ONE_TURN), whole.get(REAL)))


def source_row(group: str, source: str, prompts: set[str], scores: Scores) -> SourceRow:
    scored = [scores[prompt] for prompt in sorted(prompts) if scores.get(prompt)]
    helpfulness, reward = (mean_of([mean(one[part] for one in answers) for answers in scored]) for part in (0, 1))
    return SourceRow(group, source, len(prompts), len(scored), helpfulness, reward)


def mean_of(values: Sequence[float]) -> Mean | None:
    if not values:
        return None
    return Mean(mean(values), stdev(values) / len(values) ** 0.5 if len(values) > 1 else None)


def gap(first: Mean | None, second: Mean | None) -> Mean | None:
    """Of two independent means, with its standard error; None where one is missing."""
    if first is None or second is None:
        return None
    known = first.error is not None and second.error is not None
    error = ((first.error or 0.0) ** 2 + (second.error or 0.0) ** 2) ** 0.5
    return Mean(first.value - second.value, error if known else None)


def coverages_of(turn: Turn) -> list[Coverage]:
    """Of the stages that left a table of coverage (tasks/coverage.py)."""
    found = [node.manifest for node in turn.behind if "coverage" in node.manifest.result]
    return [coverage_of(manifest.label, manifest.result["coverage"]) for manifest in found]


def coverage_of(label: str, table: Mapping[str, Any]) -> Coverage:
    families = [(name, counts["planned"], counts["got"]) for name, counts in sorted(table["families"].items())]
    planned: defaultdict[str, float] = defaultdict(float)
    for cell in table["plan"]:
        planned[cell["answer_format"]] += cell["planned"] or 0.0
    names = sorted({*planned, *table["formats"]})
    formats = [(name, planned.get(name, 0.0), table["formats"].get(name, 0)) for name in names]
    return Coverage(label, families, formats, table["topics"], table["cells"])


def diversity_of(turn: Turn) -> Diversity:
    measured = {
        node.manifest.label: {
            name.removeprefix(DIVERSITY): value
            for name, value in node.manifest.metrics.items()
            if name.startswith(DIVERSITY)
        }
        for node in turn.behind
    }
    measured = {label: values for label, values in measured.items() if values}
    names = sorted({name for values in measured.values() for name in values})
    return Diversity(names, [(label, [values.get(name) for name in names]) for label, values in measured.items()])
