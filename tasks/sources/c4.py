"""C4's shards (ODC-By): c4-train.00000-of-01024.json.gz, a document a line.

    {"text": "…", "timestamp": "2019-04-25T12:57:54Z", "url": "https://…"}

The files are called .json, though each line of theirs is an object.
"""

from collections.abc import Iterator
from typing import Any

from tasks.sources.base import Record, register
from tasks.sources.rows import text_row


@register("c4", use="documents", licence="ODC-By-1.0", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    record.text("url")
    yield text_row(record, record.text("text"))
