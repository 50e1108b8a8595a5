"""Stages without Ray: an Output on a local store, run and committed as a job does it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Artifact, fingerprint_of, input_fingerprints
from infra.output import Output
from infra.storage import Storage
from tasks.configs.base import StageConfig

RunStage = Callable[..., Artifact]


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path / "store")


@pytest.fixture
def run_stage(store: Storage, tmp_path: Path) -> RunStage:
    """`run_stage(module.run, config, **inputs)` makes the stage's artifact in the test's store."""

    def run(stage: Callable[..., Any], config: StageConfig, **inputs: Any) -> Artifact:
        fingerprint = fingerprint_of(config.stage, config.version, config.recipe(), input_fingerprints(inputs))
        artifact = Artifact(stage=config.stage, kind=config.kind, fingerprint=fingerprint, store=store.uri)
        output = Output(artifact, store, lambda event: None, tmp_path)
        outcome = stage(config, output, **inputs)
        return output.commit(
            outcome, recipe=config.recipe(), inputs=inputs, version=config.version, label=config.stage, device="test",
            wall_s=0.0, code_version="test",
        )  # fmt: skip

    return run
