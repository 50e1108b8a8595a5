"""Tables as Markdown."""

from collections.abc import Sequence

from tasks.sources.base import Record


def table(record: Record, field: str, rows: Sequence[Sequence[object]]) -> str:
    """The first row is the header; shorter rows are filled up. A cell's line breaks and bars would break the table."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list | tuple) or not row:
            record.refuse(f"{field}, row {number}", row, "a list of cells")
    width = max(len(row) for row in rows)
    header, *body = ([_cell(cell) for cell in [*row, *[""] * (width - len(row))]] for row in rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * width, *body))


def _cell(cell: object) -> str:
    return " ".join(str(cell).split()).replace("|", r"\|")
