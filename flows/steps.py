"""A step is one stage with its inputs, known down to its artifact's address before anything runs."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.artifacts import Artifact, fingerprint_of
from tasks.configs.base import StageConfig

Inputs = Mapping[str, Artifact | tuple[Artifact, ...]]


@dataclass(frozen=True)
class Step:
    """`label` names the step in one iteration ("rpo-2"); it is no part of the artifact's identity."""

    label: str
    config: StageConfig
    inputs: Inputs
    artifact: Artifact

    def as_json(self) -> dict[str, Any]:
        """What tasks/job.py reads."""
        kind = type(self.config)
        return {
            "label": self.label,
            "config": f"{kind.__module__}:{kind.__qualname__}",
            "settings": self.config.model_dump(mode="json"),
            "inputs": {
                name: [item.model_dump() for item in value] if isinstance(value, tuple) else value.model_dump()
                for name, value in self.inputs.items()
            },
            "artifact": self.artifact.model_dump(),
        }

    def parents(self) -> Iterator[tuple[str, Artifact]]:
        """Every input artifact with the name it goes by."""
        for name, value in self.inputs.items():
            yield from ((name, item) for item in (value if isinstance(value, tuple) else (value,)))


def make_step(label: str, config: StageConfig, store: str, inputs: Inputs) -> Step:
    """Fix the artifact's address: stage, version, recipe and the inputs' fingerprints."""
    digests = {
        name: [item.fingerprint for item in value] if isinstance(value, tuple) else value.fingerprint
        for name, value in inputs.items()
    }
    fingerprint = fingerprint_of(config.stage, config.version, config.recipe(), digests)
    artifact = Artifact(stage=config.stage, kind=config.kind, fingerprint=fingerprint, store=store)
    return Step(label, config, inputs, artifact)


def job_id(store: str, steps: Sequence[Step]) -> str:
    """Submission id (without the attempt) of a chain: the same store and steps give the same job."""
    text = "\n".join([store, *(f"{step.artifact.stage}/{step.artifact.fingerprint}" for step in steps)])
    return "ratchet-" + hashlib.sha256(text.encode()).hexdigest()[:20]
