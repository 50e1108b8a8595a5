"""From what a user writes (a preset, a YAML file, `--set a.b=v`) to a validated plan; errors name the field."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from deployments.presets import PRESETS
from infra.errors import InputError, RatchetError
from tasks.configs.plan import Plan
from tasks.configs.pretraining_plan import PretrainingPlan
from tasks.configs.sources import YOURS, SourceConfig

DEFAULT_PRESET = "smollm"


def load_plan(preset: str | None, config: Path | None, changes: Sequence[str]) -> Plan:
    """The plan of a preset or of a config file (which names one), with `changes` ("a.b=v", v in YAML) on top.

    Raises InputError for an unknown preset or field (with the nearest name) and for a value out of range.
    """
    values: dict[str, Any] = read_config(config) if config else {}
    if preset and config:
        raise InputError(f"--preset {preset} and --config {config} were both given", "the file names its own preset")
    name = preset or values.pop("preset", DEFAULT_PRESET)
    for change in changes:
        set_path(values, *parse_change(change))
    if name not in PRESETS:
        raise InputError(f"no preset is called {name!r}{nearest(name, PRESETS)}", f"choose from {', '.join(PRESETS)}")
    scale = values.pop("scale", 1.0)
    if not isinstance(scale, int | float) or not 0 < scale <= 1000:
        raise InputError(f"scale: found {scale!r}, expected a number above 0 and at most 1000", "set scale=1")
    try:
        plan = PRESETS[name](float(scale))
    except ValidationError as error:
        where, said = told(error)
        raise InputError(f"scale: {scale} does not suit the preset {name}: {where}: {said}", "set scale=1") from error
    changed = change_plan(plan, values) if values else plan
    refuse_unnamed(changed)
    return placed(changed).with_endpoint()


def placed(plan: Plan) -> Plan:
    """`plan` with local files by absolute paths, so that it means the same from any folder."""
    return plan.model_copy(update={name: _placed(getattr(plan, name)) for name in ("sources", "pretraining")})


def _placed(value: Any) -> Any:
    if isinstance(value, SourceConfig):
        local = not value.path.startswith("s3://")
        return value.model_copy(update={"path": os.path.abspath(Path(value.path).expanduser())}) if local else value
    if isinstance(value, PretrainingPlan):
        return value.model_copy(update={name: _placed(getattr(value, name)) for name in type(value).model_fields})
    return {name: _placed(one) for name, one in value.items()} if isinstance(value, dict) else value


@contextmanager
def about(setting: str) -> Iterator[None]:
    """An error of the block's, by its setting."""
    try:
        yield
    except RatchetError as error:
        raise InputError(f"{setting}: {error.message}", error.remedy) from error


def refuse_unnamed(plan: Plan) -> None:
    """Raises InputError where the preset leaves files to the user who has not named them."""
    settings = [f"{setting}.path" for setting, source in plan.files().items() if source.path == YOURS]
    if settings:
        raise InputError(
            f"{plan.preset} reads texts of your own, and these are not named: {', '.join(settings)}",
            f"name a file, a folder or s3://BUCKET/KEY: --set {settings[0]}=…, or all of them in a file for --config "
            "(docs/training.md)",
        )


def read_config(path: Path) -> dict[str, Any]:
    """A user's YAML file. Raises InputError when it is missing or no mapping."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--config {path}: {' '.join(str(error).split())}", "give a readable YAML file") from error
    if not isinstance(values, dict):
        raise InputError(
            f"--config {path}: found {type(values).__name__}, expected a mapping", "see docs/configuration.md"
        )
    return values


def parse_change(text: str) -> tuple[list[str], Any]:
    """ "a.b=v" to (["a", "b"], value)."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise InputError(f"--set {text!r} has no name or no '='", "write --set name.of.field=value")
    try:
        return path.strip().split("."), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text!r}: the value is no YAML", "quote it") from error


def set_path(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Put `value` at a dotted path of nested mappings, making them as needed."""
    for key in path[:-1]:
        inner = values.get(key, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {'.'.join(path)}: {key} is a plain value already", "remove one of the two")
        values[key] = dict(inner)  # a copy: where YAML has an alias, the original stays as it is
        values = values[key]
    values[path[-1]] = value


def change_plan(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """`plan` with nested changes. Raises InputError that names the field."""
    check_names(plan, changes, "")
    merged = merge(plan.model_dump(), changes)
    try:
        return Plan.model_validate(merged)
    except ValidationError as error:
        where, said = told(error)
        raise InputError(f"{where}: {said}", "correct that setting") from error


def told(error: ValidationError) -> tuple[str, str]:
    """The setting of the first of its errors, and what is wrong there."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "plan"
    message = first["msg"].removeprefix("Value error, ")
    # Settings that do not go together are told by the message; all of them would bury it.
    found = "" if isinstance(first["input"], Mapping | BaseModel) else f"found {first['input']!r}: "
    return where, f"{found}{message}"


def check_names(model: BaseModel, changes: Mapping[str, Any], prefix: str) -> None:
    """Unknown names, with the nearest known one, before anything else."""
    for key, value in changes.items():
        if key not in type(model).model_fields:
            known = list(type(model).model_fields)
            raise InputError(
                f"{prefix}{key}: no such setting{nearest(key, known)}", f"settings here: {', '.join(known)}"
            )
        current = getattr(model, key)
        if isinstance(current, BaseModel) and isinstance(value, Mapping):
            check_names(current, value, f"{prefix}{key}.")
        elif isinstance(current, tuple) and isinstance(value, Mapping):
            check_items(current, value, f"{prefix}{key}.")
        elif isinstance(current, dict) and isinstance(value, Mapping):
            check_named(current, value, f"{prefix}{key}.")


def check_named(known: Mapping[str, Any], changes: Mapping[str, Any], prefix: str) -> None:
    """Sources by the user's names: one that is not known has a reader, or is another's name misspelled."""
    for name, value in changes.items():
        if isinstance(known.get(name), BaseModel) and isinstance(value, Mapping):
            check_names(known[name], value, f"{prefix}{name}.")
        elif isinstance(name, str) and isinstance(value, Mapping) and "reader" not in value:
            raise InputError(
                f"{prefix}{name}: no such source{nearest(name, known)}; there are {', '.join(known) or 'none'}",
                f"correct its name, or give a new one a reader: {prefix}{name}={{reader: plain_text, path: …}}",
            )


def check_items(items: tuple[Any, ...], changes: Mapping[str, Any], prefix: str) -> None:
    """Changes to a list's items are keyed by position, from 0."""
    for index, value in changes.items():
        if not str(index).isdigit() or int(index) >= len(items):
            raise InputError(f"{prefix}{index}: no such item", f"positions 0 to {len(items) - 1}")
        if isinstance(items[int(index)], BaseModel) and isinstance(value, Mapping):
            check_names(items[int(index)], value, f"{prefix}{index}.")


def merge(old: Any, new: Any) -> Any:
    """`new` over `old`, deeply; a mapping over a list changes items by position."""
    if isinstance(old, dict) and isinstance(new, Mapping):
        return old | {key: merge(old.get(key), value) for key, value in new.items()}
    if isinstance(old, tuple | list) and isinstance(new, Mapping):
        items = list(old)
        for index, value in new.items():
            items[int(index)] = merge(items[int(index)], value)
        return items
    return new


def nearest(name: str, known: Any) -> str:
    """ " (did you mean …?)" where something is close."""
    close = difflib.get_close_matches(str(name), [str(item) for item in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
