"""What each stage's code was when its version was last settled, in `stage_code.json`.

A stage's code is its module under tasks/ and every module of tasks/ and models/ that it imports, at any depth; configs
are left out, for their values are part of the fingerprint. Comments, docstrings and blank lines do not count.

python tests/tasks/stage_code.py                          # after raising versions: settle them
python tests/tasks/stage_code.py --same-bytes "REASON"    # a waiver: the change makes the same bytes as before
"""

import argparse
import ast
import hashlib
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tasks import configs
from tasks.configs.base import StageConfig

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_suffix(".json")
COUNTED = ("tasks", "models")


@dataclass
class Record:
    """Modules' digests, stages' versions, and the changes that waivers let by, with their reasons."""

    modules: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    waivers: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def read(path: Path = RECORD) -> "Record":
        return Record(**json.loads(path.read_text()))

    def write(self, path: Path = RECORD) -> None:
        path.write_text(json.dumps(vars(self), indent=1, sort_keys=True) + "\n")


def stages() -> dict[str, type[StageConfig]]:
    """Every stage's config class by the stage's name."""
    for module in pkgutil.iter_modules(configs.__path__):
        importlib.import_module(f"{configs.__name__}.{module.name}")
    ours = (config for config in subclasses(StageConfig) if config.__module__.startswith(configs.__name__))  # no test's
    return {config.stage: config for config in ours if "stage" in vars(config)}


def subclasses(config: type[StageConfig]) -> Iterator[type[StageConfig]]:
    for child in config.__subclasses__():
        yield child
        yield from subclasses(child)


def location(module: str, root: Path) -> Path | None:
    """The module's file; None when it is no module of a counted folder."""
    if module.split(".")[0] not in COUNTED or module.startswith("tasks.configs"):
        return None
    base = root.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imports(module: str, root: Path) -> set[str]:
    """Counted modules that `module` imports itself. Who imports a package gets all of it: some load theirs by name."""
    path = location(module, root)
    assert path is not None
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = {name for name in names if location(name, root)}
    for package in {name for name in found if root.joinpath(*name.split(".")).is_dir()}:
        if not any(name.startswith(f"{package}.") for name in found):
            folder = str(root.joinpath(*package.split(".")))
            found |= {f"{package}.{child.name}" for child in pkgutil.iter_modules([folder])}
    return found


@cache
def closure(module: str, root: Path = ROOT) -> frozenset[str]:
    """`module` and all that it imports, at any depth."""
    seen, ahead = {module}, [module]
    while ahead:
        new = imports(ahead.pop(), root) - seen
        seen |= new
        ahead += new
    return frozenset(seen)


def digest(module: str, root: Path = ROOT) -> str:
    """Hash of the lines that Python runs."""
    path = location(module, root)
    assert path is not None
    text = path.read_text()
    skipped = {number for number, line in enumerate(text.splitlines(), 1) if not line.strip() or line.strip()[0] == "#"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    kept = [line for number, line in enumerate(text.splitlines(), 1) if number not in skipped]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:16]


def current(root: Path = ROOT) -> Record:
    """The code as it is."""
    known = stages()
    modules = sorted(set().union(*(closure(config.module, root) for config in known.values())))
    return Record({module: digest(module, root) for module in modules}, {n: c.version for n, c in known.items()})


def unsettled(record: Record, now: Record, root: Path = ROOT) -> dict[str, list[str]]:
    """Stages whose code changed while their version stayed, with the modules that changed and no waiver names."""
    waived = {(module, code) for waiver in record.waivers for module, code in waiver["modules"].items()}
    changed = {module for module, _ in now.modules.items() - record.modules.items() - waived}
    return {
        name: names
        for name, config in stages().items()
        if record.versions.get(name) == now.versions[name] and (names := sorted(changed & closure(config.module, root)))
    }


def settle(reason: str) -> str:
    """Write the record anew; returns what is wrong, if anything."""
    record, now = Record.read() if RECORD.exists() else Record(), current()
    now.waivers = record.waivers
    if left := unsettled(record, now):
        if not reason:
            lines = [f"  {name} (version {now.versions[name]}): {', '.join(modules)}" for name, modules in left.items()]
            return "\n".join(["changed code, same version; raise it, or give --same-bytes a reason:", *lines])
        modules = {module: now.modules[module] for names in left.values() for module in names}
        now.waivers = [*record.waivers, {"modules": modules, "reason": reason}]
    now.write()
    return ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--same-bytes", metavar="REASON", default="")
    sys.exit(settle(parser.parse_args().same_bytes) or 0)
