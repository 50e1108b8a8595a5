"""Rows and manifests as a person reads them. Their text was written by models and strangers: it is shown, never obeyed.

A terminal obeys escape sequences and rich obeys markup. So everything passes `harmless` and is printed as `Text`.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.artifacts import Artifact
from infra.manifest import Manifest

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that steer a terminal or hide: control, format (text direction too), surrogates, line breaks."""
KEPT = "\n\t\u200d"
"""A zero-width joiner holds emoji together."""
ROLE_STYLES = {"system": "magenta", "user": "cyan", "assistant": "green"}
INLINE_CHARACTERS = 80
"""Longer texts get lines of their own."""


def harmless(text: Any) -> str:
    """`text` with every character that a terminal would act on spelled out, such as \\x1b; lines and tabs stay."""
    return "".join(
        letter if letter in KEPT or unicodedata.category(letter) not in HIDDEN else ascii(letter)[1:-1]
        for letter in str(text)
    )


def one_line(text: Any) -> str:
    return " ".join(harmless(text).split())


def print_table(
    console: Console, columns: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[str]
) -> None:
    """Plain columns; those in `numbers` to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(harmless(value)) for value in row))
    console.print(table)


def print_manifest(console: Console, artifact: Artifact, manifest: Manifest) -> None:
    """Where the artifact comes from and what it holds."""
    print_fields(console, "", {
        "artifact": artifact.uri, "kind": manifest.kind, "label": manifest.label, "version": manifest.version,
        "created": manifest.created, "wall_s": f"{manifest.wall_s:.1f}", "device": manifest.device,
        "code": manifest.code_version, "rows": manifest.rows, "bytes": manifest.bytes, "sha256": manifest.sha256(),
    })  # fmt: skip
    inputs = {name: _addresses(manifest.input_stages[name], value) for name, value in manifest.inputs.items()}
    sections = (
        ("inputs", inputs), ("recipe", manifest.recipe), ("counts", manifest.counts), ("metrics", manifest.metrics),
        ("result", manifest.result), ("files", {file.path: f"{file.bytes} bytes" for file in manifest.files}),
    )  # fmt: skip
    for title, values in sections:
        if values:
            print_fields(console, title, values)


def _addresses(stages: str | list[str], fingerprints: str | list[str]) -> str:
    if isinstance(stages, str):
        return f"{stages}/{fingerprints}"
    return ", ".join(f"{stage}/{fingerprint}" for stage, fingerprint in zip(stages, fingerprints, strict=True))


def print_fields(console: Console, title: str, values: Mapping[str, Any]) -> None:
    """One line a value, under a title."""
    if title:
        console.print(Text(f"\n{title}", style="bold"))
    width = max(len(harmless(name)) for name in values)
    for name, value in values.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        console.print(Text.assemble((f"  {harmless(name):<{width}}  ", "dim"), one_line(shown)))


def print_row(console: Console, number: int, row: Mapping[str, Any]) -> None:
    """A row: its short values on one line, then its texts, and its conversations as chats."""
    given = {name: value for name, value in row.items() if value not in (None, "", [])}
    blocks = {name: value for name, value in given.items() if _is_block(value)}
    short = "  ".join(f"{harmless(n)}={one_line(_short(v))}" for n, v in given.items() if n not in blocks)
    console.print(Text.assemble((f"\nrow {number}", "bold"), ("  " + short, "dim")))
    for name, value in blocks.items():
        console.print(Text(f" {harmless(name)}", style="bold"))
        for message in value if isinstance(value, list) else [{"role": "", "content": value}]:
            print_message(console, message["role"], message["content"])


def print_message(console: Console, role: str, content: str) -> None:
    """One turn of a conversation, indented."""
    lines = harmless(content).splitlines() or [""]
    head = f"  {harmless(role)}: " if role else "  "
    console.print(Text.assemble((head, ROLE_STYLES.get(role, "bold")), lines[0]))
    for line in lines[1:]:
        console.print(Text("    " + line))


def _is_block(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) > INLINE_CHARACTERS or "\n" in value
    return isinstance(value, list) and all(
        isinstance(item, dict) and {"role", "content"} <= set(item) for item in value
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
