"""A model card from manifests alone: what a checkpoint is, what it was made from, its licence, and how it did."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.artifacts import Artifact
from infra.errors import ArtifactMissing
from infra.manifest import Manifest

SHOWN_METRICS = 12


def ancestors(artifact: Artifact) -> Iterator[tuple[Artifact, Manifest]]:
    """The artifact and everything that it was made from, each once, nearest first; what is gone is left out."""
    todo, seen = [artifact], set()
    while todo:
        item = todo.pop(0)
        if item.fingerprint in seen:
            continue
        seen.add(item.fingerprint)
        try:
            manifest = item.manifest()
        except ArtifactMissing:
            continue
        yield item, manifest
        for name, fingerprints in manifest.inputs.items():
            stages = manifest.input_stages[name]
            pairs = zip(as_list(stages), as_list(fingerprints), strict=True)
            todo += [
                Artifact(stage=stage, kind="unknown", fingerprint=fingerprint, store=item.store)
                for stage, fingerprint in pairs
            ]


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def licences(artifact: Artifact) -> list[str]:
    """Licences of everything that the artifact was made from, combined upward."""
    found: set[str] = set()
    for _, manifest in ancestors(artifact):
        stated = [*manifest.result.get("licences", []), manifest.result.get("licence"), manifest.recipe.get("licence")]
        found.update(str(licence) for licence in stated if licence)
    return sorted(found)


def model_card(artifact: Artifact, facts: Mapping[str, Any]) -> str:
    """Markdown. `facts` are what only the wheel knows: base, generator, iteration, step, verdict."""
    manifest = artifact.manifest()
    lines = [
        f"# {facts.get('name', artifact.stage)}",
        "",
        f"A checkpoint of stage `{manifest.label}`, made by Ratchet's weak-to-strong alignment loop.",
        "",
        *(f"- **{key.replace('_', ' ')}**: {value}" for key, value in facts.items() if key != "name" and value),
        f"- **licence** (derived from the base and all training rows): {', '.join(licences(artifact)) or 'unknown'}",
        f"- **fingerprint**: `{artifact.fingerprint}`",
        f"- **code version**: {manifest.code_version}",
        "",
        "## Trained on",
        "",
        *training_data(manifest, artifact.store),
        "",
        "## Measured",
        "",
        *(f"- {name}: {value:.4g}" for name, value in sorted(manifest.metrics.items())[:SHOWN_METRICS]),
        "",
        "## Intended use",
        "",
        "Research on alignment, and generating the next iteration's data. It was judged on the project's own items"
        " only; it was not tested for safety, and it repeats the errors and biases of its base and of the models that"
        " wrote its data.",
    ]
    return "\n".join(lines) + "\n"


def training_data(manifest: Manifest, store: str) -> list[str]:
    """A line for each direct input of the stage."""
    lines = []
    for name, stage in manifest.input_stages.items():
        fingerprint = manifest.inputs[name]
        if isinstance(stage, str) and isinstance(fingerprint, str):
            source = Artifact(stage=stage, kind="unknown", fingerprint=fingerprint, store=store)
            lines.append(f"- {name}: `{stage}/{fingerprint[:12]}`{rows_of(source)}")
    return lines


def rows_of(source: Artifact) -> str:
    """ ", 40 rows" for a data set; what was cleaned up is said to be gone."""
    try:
        rows = source.manifest().rows
    except ArtifactMissing:
        return ", no longer in the store"
    return "" if rows is None else f", {rows} rows"
