"""The user's own documents: each .txt or .md file of a folder is one; or records with a `text`."""

from collections.abc import Iterator
from typing import Any

from tasks.sources.base import RECORD_FILES, Record, register
from tasks.sources.rows import text_row


@register("plain_text", use="documents", licence="", synthetic=False, files=(".txt", ".md", *RECORD_FILES))
def read(record: Record) -> Iterator[dict[str, Any]]:
    yield text_row(record, record.value.strip() if isinstance(record.value, str) else record.text("text", "content"))
