"""Which rows a stage works on, when it does not take all: seeded, and balanced over families."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

from tasks.rows import row_seed

Row = dict[str, Any]


def draw(rows: Iterable[Row], seed: int, limit: int) -> list[Row]:
    """Up to `limit` rows in a seeded order, families taking turns. Depends on the rows' ids, not on their order."""
    families = by_family(sorted(rows, key=lambda row: row_seed(str(seed), row["id"])))
    turns = zip_longest(*families.values())
    return [row for row in chain.from_iterable(turns) if row is not None][:limit]


def by_family(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by family, in alphabetical order of the families."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row)
    return dict(sorted(families.items()))


def verifiable(prompt: Row) -> bool:
    """Whether ground truth can check an answer to this prompt."""
    return bool(prompt["verifier"] and prompt["verifier"]["kind"])


def joined_licence(licences: Sequence[str | None]) -> str:
    """All licences that text carries from what it was made of, as one SPDX expression; "" where none is known."""
    return " AND ".join(sorted({part for licence in licences if licence for part in re.split(" AND |, ", licence)}))
