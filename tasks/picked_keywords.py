"""What keywords.yaml holds: templates, names to classify, and the hand-picked keywords of maths and Python as rows."""

from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from tasks.rows import KEYWORD, make_row

Field = Literal["python", "maths"]
FIELDS: tuple[Field, ...] = get_args(Field)
DATA: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "keywords.yaml").read_text(encoding="utf-8"))
LICENCE = "Apache-2.0"
"""Of the hand-picked lists, which are part of the project."""


@cache
def picked_keywords(field: Field) -> list[dict[str, Any]]:
    """Rows of the hand-picked keywords, in the file's order."""
    return [_row(keyword, field) for keyword in DATA["picked"][field]]


def _row(keyword: str, field: Field) -> dict[str, Any]:
    values = {"keyword": keyword, "field": field, "origin": "picked", "source": "keywords/picked", "synthetic": False,
              "generator": "", "licence": LICENCE}  # fmt: skip
    return make_row(KEYWORD, values, [keyword, field, "picked"])
