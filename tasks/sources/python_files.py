"""Python source to find keywords in: each .py file of a folder, or records with a `content` (code data sets)."""

from collections.abc import Iterator
from typing import Any

from tasks.sources.base import RECORD_FILES, Record, register
from tasks.sources.rows import text_row


@register("python_files", use="python_files", licence="", synthetic=False, files=(".py", *RECORD_FILES))
def read(record: Record) -> Iterator[dict[str, Any]]:
    """An empty file, as __init__.py often is, gives no row."""
    code = record.value if isinstance(record.value, str) else record.text("content", "code", "text", empty=True)
    if code.strip():
        row = text_row(record, code)
        licence = None if isinstance(record.value, str) else record.get("license", "licence")
        yield row | ({"licence": licence} if isinstance(licence, str) else {})
