"""How to make the iteration again, and the identity of everything that took part."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from tasks.reporting.advice import command_again
from tasks.reporting.lineage import Node, Turn


@dataclass(frozen=True)
class Made:
    """An artifact on one line."""

    label: str
    stage: str
    kind: str
    fingerprint: str
    rows: int | None
    bytes: int
    seconds: float
    created: str


@dataclass(frozen=True)
class Provenance:
    command: str
    """That makes the iteration again."""
    models: list[tuple[str, str]]
    """Role and fingerprint."""
    licences: list[str]
    """Of the candidate, from its base and all rows."""
    code_versions: list[str]
    devices: list[str]
    artifacts: list[Made]
    links: list[tuple[str, str]]
    """Pages elsewhere that a reader may follow: http and https only."""


def provenance_of(turn: Turn) -> Provenance:
    nodes = [*{node.fingerprint: node for node in (*turn.origins, *turn.behind)}.values()]
    last = [*turn.models.values()][-1:]
    roles = {
        "generator": turn.generator,
        "base": turn.base,
        "candidate": turn.candidate_exam.input("model"),
        "reward model": turn.candidate_exam.input("reward_model"),
        "evaluation set": turn.candidate_exam.input("evaluation_set"),
        "verdict": turn.verdict.fingerprint,
    }
    return Provenance(
        command=command_again(turn),
        models=[(role, fingerprint) for role, fingerprint in roles.items() if fingerprint],
        licences=[str(licence) for node in last for licence in node.manifest.result.get("licences", ())],
        code_versions=sorted({node.manifest.code_version for node in nodes if node.manifest.code_version}),
        devices=sorted({node.manifest.device for node in nodes if node.manifest.device}),
        artifacts=[made(node) for node in nodes],
        links=[(name, url) for name, url in turn.config.links.items() if urlsplit(url).scheme in ("http", "https")],
    )


def made(node: Node) -> Made:
    manifest = node.manifest
    return Made(
        label=manifest.label,
        stage=manifest.stage,
        kind=manifest.kind,
        fingerprint=manifest.fingerprint,
        rows=manifest.rows,
        bytes=manifest.bytes,
        seconds=manifest.wall_s,
        created=manifest.created,
    )
