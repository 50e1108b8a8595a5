"""How widely prompts are spread: task × topic × answer format, by family (paper, section 3.2)."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.prompts.formats import shares

Row = Mapping[str, Any]
Cell = tuple[str, str, str]
"""Family, task, answer format."""


def coverage_of(
    rows: Sequence[Row], planned: Mapping[str, int], weights: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Rows by family beside what was planned, by task and by answer format; how many topics, and cells of task ×
    topic × answer format, have at least one row; and in "plan" each family's task × answer format, planned and got.

    `planned` are the prompts wanted by family, `weights` those of the answer formats.
    """
    families = Counter(row["family"] for row in rows)
    cells = {(row["task"], row["topic"], row["answer_format"]) for row in rows}
    return {
        "families": {
            family: {"planned": planned.get(family, 0), "got": families[family]}
            for family in sorted({*planned, *families})
        },
        "tasks": dict(sorted(Counter(f"{row['family']}/{row['task']}" for row in rows).items())),
        "formats": dict(sorted(Counter(row["answer_format"] or "" for row in rows).items())),
        "topics": len({row["topic"] for row in rows if row["topic"]}),
        "cells": len(cells),
        "plan": _plan(rows, planned, weights or {}),
    }


def _plan(rows: Sequence[Row], planned: Mapping[str, int], weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """`planned` is null where the family decides for itself (tasks/prompts/formats.py)."""
    wanted: dict[Cell, float] = {
        (family, *cell): round(count * share, 1)
        for family, count in planned.items()
        for cell, share in shares(family, weights).items()
    }
    topics: dict[Cell, list[str]] = defaultdict(list)
    for row in rows:
        topics[row["family"], row["task"] or "", row["answer_format"] or ""].append(row["topic"])
    return [
        {
            "family": cell[0],
            "task": cell[1],
            "answer_format": cell[2],
            "planned": wanted.get(cell),
            "got": len(topics.get(cell, [])),
            "topics": len({topic for topic in topics.get(cell, []) if topic}),
        }
        for cell in sorted({*wanted, *topics})
    ]
