"""Open-Platypus: questions and worked answers of science and logic from eleven other sets (Lee et al., 2023).

    {"instruction": "…", "input": "", "output": "…", "data_source": "MATH/PRM-800K"}

Each row has the licence and the origin of its `data_source`; copies without that column have neither. ScienceQA's rows
are CC-BY-NC-SA-4.0 and ReClor's for non-commercial use only. TheoremQA's are that benchmark's own test questions, and
ARB, SciBench, OpenBookQA and PRM800K have readers of their own: deduplicate.
"""

from collections.abc import Iterator
from typing import Any

from tasks.sources.base import Record, register
from tasks.sources.rows import assistant, dialogue_row, user

SOURCES = {
    "MATH/PRM-800K": ("MIT", True),
    "ARB": ("CC-BY-4.0", False),
    "scienceqa": ("CC-BY-NC-SA-4.0", False),
    "scibench": ("MIT", False),
    "theoremqa": ("MIT", False),
    "reclor": ("LicenseRef-non-commercial", False),
    "tigerbot-kaggle": ("Apache-2.0", False),
    "leetcode_ne": ("", True),
    "airoboros": ("", True),
    "guanaco": ("Apache-2.0", False),
}
"""Licence, as the set's card states it, and whether a model wrote the answers; "" for none stated or "other"."""


@register("open_platypus", use="dialogues", licence="", synthetic=True)
def read(record: Record) -> Iterator[dict[str, Any]]:
    given = record.text("input", empty=True) if record.get("input") is not None else ""
    question = "\n\n".join(part for part in (record.text("instruction"), given) if part)
    row = dialogue_row(record, [user(question), assistant(record.text("output"))])
    if record.get("data_source") is None:
        yield row
        return
    name = record.text("data_source")
    licence, synthetic = SOURCES.get(name, ("", True))
    yield row | {"source": f"open_platypus/{name}", "licence": licence, "synthetic": synthetic}
