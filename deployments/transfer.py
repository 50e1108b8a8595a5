"""Models in and out: a source from outside becomes an artifact and a registered version, an artifact a plain folder."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.in_process import as_artifact
from deployments.references import resolve, with_weights
from flows.model_card import licences, model_card
from infra.artifacts import Artifact
from infra.disk_errors import explained
from infra.errors import ArtifactCorrupt, InputError
from infra.manifest import LOG_FILES
from infra.settings import PROJECT_NAME, Settings
from infra.tracking import Registry, Tracker, as_row, resolve_reference
from models.checkpoint import load_model
from models.gguf_export import Precision, export_gguf

CARD = "README.md"
CARD_FACTS = ("step", "iteration", "base", "generator", "synthetic_share", "gate_verdict", "source")
"""Tags of a registered version that the model card repeats."""
ALIAS = re.compile(r"(?!latest$|v?\d+$)[A-Za-z0-9._-]{1,255}")


def check_name(name: str) -> None:
    if not PROJECT_NAME.fullmatch(name):
        raise InputError(
            f"--name {name!r}", "use 1–64 letters, digits, '.', '_' or '-', starting with a letter or digit"
        )


def check_alias(alias: str | None) -> None:
    if alias is not None and not ALIAS.fullmatch(alias):
        raise InputError(f"--alias {alias!r}", "use letters, digits, '.', '_' or '-'; not 'latest' and no version")


def check_target(folder: Path) -> None:
    """Raises InputError for a folder that holds something, or a file that exists, before any work starts."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "holds files already" if folder.is_dir() else "is a file"
        raise InputError(f"{folder} {what}", "name a new or an empty folder: nothing is ever overwritten")


def import_model(
    source: str, name: str, licence: str, alias: str | None, settings: Settings, tracking_uri: str
) -> dict[str, Any]:
    """Import and register under `name`; returns the version's row, as `ratchet models --json` shows it."""
    found = resolve(source, tracking_uri, settings.workspace / "cache")
    if not isinstance(found, Artifact) and licence:
        found = found.model_copy(update={"licence": licence})
    artifact = as_artifact(found, settings)
    facts = {"step": "imported", "source": source, "licence": ", ".join(licences(artifact)) or "unknown"}
    registry = Registry(Tracker(tracking_uri, name))
    card = model_card(artifact, {"name": name, "step": facts["step"], "source": source})
    version = registry.register(artifact, facts, card)
    if alias is not None:
        registry.set_alias(alias, version)
    aliases = sorted(label for label, number in registry.aliases().items() if number == version)
    return as_row(registry.client.get_model_version(name, str(version)), aliases)


def export_model(reference: str, folder: Path, settings: Settings, tracking_uri: str | None) -> dict[str, Any]:
    """Write the model and its card to `folder`, whole or not at all; returns what `ratchet export --json` prints."""
    artifact = with_files(reference, settings, tracking_uri)
    tags = resolve_reference(str(tracking_uri), reference) if reference.startswith("models:/") else {}
    folder = folder.absolute()
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        parameters = fill(part, artifact, reference, tags)
        with explained(folder):
            part.chmod(0o755)
            part.replace(folder)  # over an empty folder; one that was filled in the meantime is an error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {
        "model": reference,
        "artifact": artifact.uri,
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir()),
        "parameters": parameters,
        "licence": ", ".join(licences(artifact)) or "unknown",
    }


def export_file(
    reference: str, path: Path, precision: Precision, settings: Settings, tracking_uri: str | None
) -> dict[str, Any]:
    """Write the model as one GGUF file, whole or not at all; returns what `ratchet export --json` prints.

    Raises InputError for a model that the format does not cover.
    """
    artifact, path = with_files(reference, settings, tracking_uri), path.absolute()
    licence = ", ".join(licences(artifact))
    with explained(path), tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=made(path.parent)) as part:
        whole = Path(part, path.name)
        try:
            model, tokenizer = load_model(artifact.folder())
            export_gguf(model, tokenizer, whole, precision, name=reference, licence=licence)
        except (FileNotFoundError, ValueError) as error:
            raise InputError(f"{reference} cannot be a GGUF file: {error}", "export it as a folder") from error
        whole.replace(path)
    return {
        "model": reference,
        "artifact": artifact.uri,
        "folder": str(path.parent),
        "files": [path.name],
        "parameters": model.config.num_parameters,
        "licence": licence or "unknown",
    }


def with_files(reference: str, settings: Settings, tracking_uri: str | None) -> Artifact:
    """What a reference names, as an artifact that holds weights."""
    found = resolve(reference, tracking_uri, settings.workspace / "cache")
    return as_artifact(with_weights("MODEL", reference, found), settings)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fill(folder: Path, artifact: Artifact, reference: str, tags: Mapping[str, str]) -> int:
    """Files, compared with their checksums, and the card; the model is then loaded. Returns its parameters."""
    problems = artifact.verify()
    if problems:
        file, reason = problems[0]
        raise ArtifactCorrupt(f"{artifact.uri}/{file}: {reason}", "make it again: run its iteration once more")
    store = artifact.storage()
    for file in artifact.manifest().files:
        if file.path not in LOG_FILES:
            store.get_file(f"{artifact.key}/{file.path}", folder / file.path)
    facts = {"name": reference, **{name: tags[name] for name in CARD_FACTS if name in tags}}
    (folder / CARD).write_text(model_card(artifact, facts), encoding="utf-8")
    try:
        model, _ = load_model(folder)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{reference} is no model that can be loaded: {error}", "give a checkpoint") from error
    return model.config.num_parameters
