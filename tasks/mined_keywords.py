"""Keywords out of Python files: what they import, what they call, and the words in their names, by document frequency.

A part of a name is a keyword where it is a real word: one of the project's own English texts, or of the list in
keywords.yaml. Files are parsed, never run.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tasks.configs.prompts import VOCABULARY
from tasks.picked_keywords import DATA
from tasks.prompts.sentences import words
from tasks.python_code import names_bound, parsed

SHORTEST = 3
"""Letters of the shortest keyword."""
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True)
class Mined:
    """A keyword and where it was found."""

    text: str
    files: int
    """How many have it."""
    first: int
    """Place of the first of them."""


def mine(files: Iterable[str], min_files: int) -> tuple[list[Mined], int]:
    """Most frequent first, then by alphabet; and how many files were left out because they are no Python."""
    known, skipped = vocabulary(), 0
    places: dict[str, list[int]] = {}
    for place, file in enumerate(files):
        tree = parsed(file)
        if tree is None:
            skipped += 1
        else:
            for keyword in keywords_of(tree, known):
                places.setdefault(keyword, []).append(place)
    found = [Mined(keyword, len(where), where[0]) for keyword, where in places.items() if len(where) >= min_files]
    return sorted(found, key=lambda mined: (-mined.files, mined.text)), skipped


def keywords_of(tree: ast.Module, known: frozenset[str]) -> set[str]:
    """Imported top-level modules, called names that are not the file's own, and real words in names, plurals too."""
    own = names_bound(tree) - {*_imported(tree)}
    called = {name for name in _called(tree) if name not in own}
    parts = {part for name in [*_names(tree)] for part in split_name(name) if {part, part.removesuffix("s")} & known}
    return {name for name in {*_modules(tree), *called, *parts} if len(name) >= SHORTEST and not name.startswith("_")}


def split_name(name: str) -> list[str]:
    """ "maxHTTPRetries" and "max_http_retries" → ["max", "http", "retries"]."""
    return [part.lower() for part in _PART.findall(name)]


@cache
def vocabulary() -> frozenset[str]:
    """Lower-case words of the project's curated texts and of keywords.yaml's own list; names in capitals left out."""
    folder = Path(__file__).parent
    texts = [*_texts([yaml.safe_load((folder / name).read_text(encoding="utf-8")) for name in VOCABULARY])]
    said = {word for text in texts for word in words(text) if word.isascii() and word.islower()}
    return frozenset({*said, *DATA["words"]})


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)


def _called(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        for place in ("id", "arg", "name", "attr"):
            name = getattr(node, place, None)
            if isinstance(name, str):
                yield name


def seed_files(folder: Path = Path(__file__).parent) -> Sequence[str]:
    """The code of the project's hand-written Python tasks: what is mined where a run brings no files."""
    tasks = yaml.safe_load((folder / "code_seeds.yaml").read_text(encoding="utf-8"))
    return [task["code"] for task in tasks]
