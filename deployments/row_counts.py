"""How an artifact's rows are spread over sources, licences, families: only those columns are read, part by part."""

from collections import Counter
from collections.abc import Sequence

from infra.artifacts import Artifact
from infra.parquet import open_parquet

COLUMNS = ("source", "licence", "family", "synthetic", "generator")


def count_rows(artifact: Artifact, columns: Sequence[str] = COLUMNS) -> dict[str, dict[str, int]]:
    """Rows by value of each of these columns that the rows have, the most frequent first; null counts as ""."""
    counts = {name: Counter() for name in columns}
    for part in artifact.parts():
        file = open_parquet(artifact.read_bytes(part))
        table = file.read(columns=[name for name in columns if name in file.schema_arrow.names])
        for name in table.column_names:
            for pair in table[name].value_counts().to_pylist():
                counts[name][_text(pair["values"])] += pair["counts"]
    return {name: dict(found.most_common()) for name, found in counts.items() if found}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value or "")
