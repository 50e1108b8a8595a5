"""What a stage left out and why, kept beside its rows for whoever looks (`ratchet data show --html`).

Counts in the manifest are exact; of the texts at most `MOST` are kept for each reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from infra.output import Output
from infra.parquet import to_parquet
from tasks.rows import DROPPED

FILE = "dropped.parquet"
MOST = 1000
Entry = Mapping[str, Any]


def dropped_row(reason: str, text: str | Sequence[Mapping[str, str]], **known: str) -> dict[str, Any]:
    """One entry; `known` are `row_id`, `family`, `topic` and `detail` where there are any."""
    messages = [{"role": "user", "content": text}] if isinstance(text, str) else [*text]
    return {"row_id": "", "family": "", "topic": "", "detail": ""} | known | {"reason": reason, "messages": messages}


def first_of_each(entries: Iterable[Entry], seen: Counter[str]) -> list[Entry]:
    """Those that do not bring their reason above `MOST`; `seen` counts what is there already and goes on counting."""
    kept = []
    for entry in entries:
        seen[entry["reason"]] += 1
        if seen[entry["reason"]] <= MOST:
            kept.append(entry)
    return kept


def write_dropped(output: Output, entries: Iterable[Entry]) -> None:
    """The first `MOST` entries of each reason, in order."""
    output.write_bytes(FILE, to_parquet(first_of_each(entries, Counter()), DROPPED))
