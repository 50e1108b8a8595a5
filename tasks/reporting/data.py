"""What the candidate learnt from: rows in, kept and dropped at every stage, and what the mixes are made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.configs.judging import PreferencesConfig
from tasks.configs.mix import MixConfig
from tasks.configs.responses import ResponsesConfig
from tasks.reporting.lineage import Node, Turn
from tasks.reporting.plots import share_bar

DROPPED = "dropped:"
PARTS = ("dialogues", "verified", "replay", "human", "sources", "code")
"""Of a mix, in the order of the page."""
JUDGES = {"ground_truth": "ground truth", "reward_model": "reward model", "llm": "LLM"}


@dataclass(frozen=True)
class Funnel:
    """One stage's rows."""

    label: str
    given: str
    """The data set's name in this iteration, "" for a stage behind one."""
    fingerprint: str
    came_in: int | None
    kept: int | None
    rows: int | None
    drops: dict[str, int]
    """By reason, the largest first."""
    notes: dict[str, int]
    """Other counts of the stage."""
    bar: Markup


@dataclass(frozen=True)
class Mix:
    """A supervised set by its parts."""

    label: str
    rows: int
    parts: list[tuple[str, int, int]]
    """Name, rows, synthetic rows."""
    synthetic_share: float
    code: dict[str, float]
    replay: dict[str, float]
    """Share of the set, "asked" for and "got"."""
    families: dict[str, int]
    bar: Markup


@dataclass(frozen=True)
class PairSet:
    """A preference set by who judged its pairs."""

    label: str
    rows: int
    judges: dict[str, int]
    aided: int
    metrics: dict[str, float]
    result: dict[str, Any]
    bar: Markup


@dataclass(frozen=True)
class Solved:
    """What the generator could answer of a family's checkable prompts."""

    family: str
    prompts: int
    answers: int
    passed: int
    solved_plain: int
    solved: int


def funnels_of(turn: Turn) -> list[Funnel]:
    """Every stage of this turn that counted rows, sources first; generator and base were made before it."""
    names = {node.fingerprint: label for label, node in turn.data.items()}
    return [
        funnel_of(node, names.get(node.fingerprint, ""))
        for node in turn.behind
        if node.manifest.kind in ("dataset", "checkpoint")
        and node.fingerprint not in (turn.generator, turn.base)
        and (node.manifest.counts or node.manifest.rows is not None)
    ]


def funnel_of(node: Node, given: str) -> Funnel:
    counts = node.manifest.counts
    drops = {name.removeprefix(DROPPED): n for name, n in counts.items() if name.startswith(DROPPED) and n}
    drops = dict(sorted(drops.items(), key=lambda entry: (-entry[1], entry[0])))
    kept = counts.get("kept", node.manifest.rows)
    parts = [("fill pair1", f"kept {kept or 0}", float(kept or 0))]
    parts += [(f"fill drop{i % 4}", f"{name} {n}", float(n)) for i, (name, n) in enumerate(drops.items())]
    return Funnel(
        label=node.manifest.label,
        given=given,
        fingerprint=node.fingerprint,
        came_in=counts.get("in"),
        kept=kept,
        rows=node.manifest.rows,
        drops=drops,
        notes={name: n for name, n in counts.items() if name not in ("in", "kept") and not name.startswith(DROPPED)},
        bar=share_bar(parts),
    )


def mixes_of(turn: Turn) -> list[Mix]:
    """Supervised sets, in the order of their making."""
    return [mix_of(node) for node in turn.of_stage(MixConfig.stage)]


def mix_of(node: Node) -> Mix:
    result = node.manifest.result
    parts = [(name, result["parts"][name], result["synthetic"][name]) for name in in_order(result["parts"], PARTS)]
    look = [(f"fill series{i}", f"{name} {rows}", float(rows)) for i, (name, rows, _) in enumerate(parts)]
    return Mix(
        label=node.manifest.label,
        rows=sum(rows for _, rows, _ in parts),
        parts=parts,
        synthetic_share=result["synthetic_share"],
        code=result["code_share"],
        replay=result["replay_share"],
        families=result["families"],
        bar=share_bar(look),
    )


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Manifests sort their keys; the page has an order of its own, unknown names last."""
    known = [*known]
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def pair_sets_of(turn: Turn) -> list[PairSet]:
    return [pair_set_of(node) for node in turn.of_stage(PreferencesConfig.stage)]


def pair_set_of(node: Node) -> PairSet:
    result = node.manifest.result
    judges = {JUDGES.get(name, name): result["judges"][name] for name in in_order(result["judges"], JUDGES)}
    look = [(f"fill series{i}", f"{name} {count}", float(count)) for i, (name, count) in enumerate(judges.items())]
    return PairSet(
        label=node.manifest.label,
        rows=node.manifest.rows or 0,
        judges=judges,
        aided=result["aided"],
        metrics=node.manifest.metrics,
        result=result,
        bar=share_bar(look),
    )


def solved_of(turn: Turn) -> list[Solved]:
    """By family, from the responses stage; empty where nothing could be checked."""
    tables = [node.manifest.result.get("pass_rates", {}) for node in turn.of_stage(ResponsesConfig.stage)]
    return [
        Solved(family=name.removeprefix("family:"), **counts)
        for table in tables
        for name, counts in sorted(table.items())
        if name.startswith("family:")
    ]
