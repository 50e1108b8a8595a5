"""A few rows of each data set, as a reader wants to see them. Their text is a model's: hostile until escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tasks.reporting.lineage import Turn
from tasks.rows import ATTRIBUTES

SHOWN = 3
LOOKED_AT = 1000
"""Rows from the start of a data set, of which those with the smallest ids are shown: as good as drawn at random."""
TELLING = ("family", "judge", "aid")
"""What a reader looks for first; a row shows those that it has."""
REWARDS = ("reward", "chosen_reward", "rejected_reward")
FACTS = ("topic", "responder", "finish_reason", "source", "licence")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    id: str
    facts: list[tuple[str, str]]
    turns: list[tuple[str, str]]
    """Role and text."""
    choices: list[tuple[str, str]]
    """Two answers to compare side by side, with their headings."""


@dataclass(frozen=True)
class SampleSet:
    label: str
    rows: int
    samples: list[Sample]


def samples_of(turn: Turn) -> list[SampleSet]:
    return [
        SampleSet(label, node.manifest.rows or 0, [sample_of(row) for row in chosen(node.artifact.iter_rows())])
        for label, node in turn.data.items()
    ]


def chosen(rows: Any) -> list[Row]:
    return sorted(islice(rows, LOOKED_AT), key=lambda row: row["id"])[:SHOWN]


def sample_of(row: Row) -> Sample:
    """From a row of any schema in tasks/rows.py."""
    turns = spoken(row.get("messages") or row.get("prompt") or ())
    if row.get("response") is not None:
        turns.append(("assistant", row["response"]))
    if row.get("text") is not None:
        turns.append(("text", row["text"]))
    sides = [
        (name, "\n".join(text for _, text in spoken(row[name]))) for name in ("chosen", "rejected") if row.get(name)
    ]
    return Sample(row["id"], facts_of(row), turns, sides)


def spoken(messages: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


def facts_of(row: Row) -> list[tuple[str, str]]:
    facts = [(name, str(row[name])) for name in TELLING if row.get(name)]
    if row.get("passed") is not None:
        facts.append(("ground truth", "passed" if row["passed"] else "failed"))
    facts += [(name, f"{row[name]:.3g}") for name in REWARDS if row.get(name) is not None]
    facts += [(name, str(row[name])) for name in FACTS if row.get(name)]
    if check := row.get("verifier"):
        facts.append(("check", f"{check['kind']} {check['payload']}"))
    facts += [(name, f"{row[name]:.3g}") for name in ATTRIBUTES if row.get(name) is not None]
    facts.append(("synthetic", "yes" if row.get("synthetic") else "no"))
    if row.get("generator"):
        facts.append(("written by", row["generator"][:12]))
    return [(name.replace("_", " "), value) for name, value in facts]
