"""The card of an exported data set: what it holds, under which licences, and how it was made, from manifest and rows.

Its YAML head is what the Hugging Face hub and `datasets.load_dataset(folder)` read. Everything that a model or a
stranger may have written is put in code marks on one line.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from deployments.readable import one_line
from deployments.row_fields import FIELDS
from flows.model_card import ancestors
from infra.artifacts import Artifact
from infra.manifest import FileEntry, Manifest

HUB_LICENCES = {
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "gemma", "llama2", "llama3", "llama3.1", "gpl-3.0", "openrail",
}  # fmt: skip
"""Names that the hub knows; whatever else there is becomes "other"."""
SIZES = (
    (1e3, "n<1K"),
    (1e4, "1K<n<10K"),
    (1e5, "10K<n<100K"),
    (1e6, "100K<n<1M"),
    (1e9, "1M<n<1B"),
)
MARKUP = re.compile(r"[\\|\[\]!*_#~]")
Counts = Mapping[str, Mapping[str, int]]


def data_card(
    artifact: Artifact, manifest: Manifest, schema: pa.Schema, counts: Counts, files: Sequence[FileEntry], kind: str
) -> str:
    """Markdown. `counts` are those of deployments.row_counts, `files` what was written, `kind` "parquet" or "jsonl"."""
    licences = licence_names(counts)
    title = f"{manifest.label} ({manifest.stage}/{manifest.fingerprint[:12]})"
    sections = [
        head(title, manifest, schema, licences, kind, synthetic=bool(counts.get("synthetic", {}).get("true"))),
        f"# {plain(title)}\n\nA data set of {manifest.rows:,} rows, made by Ratchet's weak-to-strong alignment loop.",
        section("Licences", licence_lines(licences, counts.get("licence", {}))),
        section("Fields", table(("field", "type", "meaning"), fields(schema))),
        section("Rows", table(("rows", "count"), manifest.counts.items() or [("kept", manifest.rows)])),
        *(section(title, shares(counts[name])) for title, name in PARTS.items() if name in counts),
        section("How it was made", made(artifact, manifest)),
        section("Files", table(("file", "bytes", "SHA-256"), [(f.path, f.bytes, f.sha256) for f in files])),
    ]
    return "\n\n".join(sections) + "\n"


PARTS = {
    "Sources": "source", "Families": "family", "Written by a model (synthetic)": "synthetic",
    "Models that wrote it (fingerprints)": "generator",
}  # fmt: skip


def licence_names(counts: Counts) -> list[str]:
    """Each licence on its own, also where a row names several."""
    return sorted({name.strip() for names in counts.get("licence", {}) for name in names.split(",")})


def head(title: str, manifest: Manifest, schema: pa.Schema, licences: Sequence[str], kind: str, synthetic: bool) -> str:
    known = sorted({name.lower() if name.lower() in HUB_LICENCES else "other" for name in licences})
    size = next((name for limit, name in SIZES if (manifest.rows or 0) < limit), "n>1T")
    facts: dict[str, Any] = {
        "pretty_name": title,
        "license": known[0] if len(known) == 1 else known or ["other"],
        "size_categories": [size],
        "tags": ["ratchet", *(["synthetic"] if synthetic else [])],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": f"data/*.{kind}"}]}],
    }
    if kind == "jsonl":  # without it `datasets` would guess the types of columns that start with nulls
        facts["dataset_info"] = {"config_name": "default", "features": [feature(field) for field in schema]}
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---"


def feature(field: pa.Field) -> dict[str, Any]:
    """As `datasets` writes a column's type in YAML."""
    return {"name": field.name, **_feature_type(field.type)}


def _feature_type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        inner = _feature_type(kind.value_type)
        return {"list": inner.get("dtype", inner.get("struct"))}
    if pa.types.is_struct(kind):
        return {"struct": [feature(field) for field in kind.fields]}
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind))}


def section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def plain(value: object) -> str:
    """One line of Markdown that starts no markup, no link and no image."""
    text = one_line(value).replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")
    return MARKUP.sub(r"\\\g<0>", text).replace("://", "&#58;//")  # a bare address would become a link


def code(value: object) -> str:
    return f"`{one_line(value).replace('`', chr(39)).replace('|', chr(92) + '|') or ' '}`"


def table(columns: Sequence[str], rows: Any) -> list[str]:
    """Names as code, the rest as text."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return [*lines, *(f"| {code(row[0])} | {' | '.join(plain(value) for value in row[1:])} |" for row in rows)]


def fields(schema: pa.Schema) -> list[tuple[str, str, str]]:
    return [(field.name, type_name(field.type), FIELDS.get(field.name, "")) for field in schema]


def type_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    if pa.types.is_struct(kind):
        return "{" + ", ".join(f"{field.name}: {type_name(field.type)}" for field in kind.fields) + "}"
    return str(kind)


def licence_lines(licences: Sequence[str], rows: Mapping[str, int]) -> list[str]:
    several = [f"**{len(licences)} licences apply:** {', '.join(map(code, licences))}.", ""]
    none = ["The rows name no licence."]
    return [*(several if len(licences) > 1 else []), *(shares(rows) if any(licences) else none)]


def shares(rows: Mapping[str, int]) -> list[str]:
    total = sum(rows.values())
    return table(
        ("value", "rows", "share"), [(name or "none", f"{n:,}", f"{n / total:.1%}") for name, n in rows.items()]
    )


def made(artifact: Artifact, manifest: Manifest) -> list[str]:
    recipe = yaml.safe_dump(manifest.recipe, sort_keys=True, allow_unicode=False).strip().splitlines()
    history = [
        (f"{one.stage}/{one.fingerprint}", found.label, found.kind, found.created, found.rows or "")
        for one, found in ancestors(artifact)
    ][1:]
    return [
        f"- stage: {code(manifest.stage)}, version {manifest.version}, as {code(manifest.label)}",
        f"- fingerprint: {code(manifest.fingerprint)}",
        f"- SHA-256 of the artifact's files: {code(manifest.sha256())}",
        f"- code version: {code(manifest.code_version)}",
        f"- made: {manifest.created}, in {manifest.wall_s:.1f} s on {code(manifest.device)}",
        "",
        "Made from, the nearest first:",
        "",
        *(table(("artifact", "as", "kind", "made", "rows"), history) if history else ["- nothing else"]),
        "",
        "Recipe:",
        "",
        *(f"    {one_line_kept(line)}" for line in recipe),
    ]


def one_line_kept(line: str) -> str:
    """The line with its indentation."""
    return line[: len(line) - len(line.lstrip())] + one_line(line)
