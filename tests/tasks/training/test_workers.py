"""Training stages in several processes that Ray Train starts, against the same stages in one."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import ray
import torch

from infra.artifacts import Artifact, fingerprint_of, input_fingerprints
from infra.errors import EmptyDataset, InputError
from models.checkpoint import load_model
from models.tokenizer import Tokenizer
from tasks import reference_logprobs, reward_model, sft
from tasks.configs.base import StageConfig
from tasks.configs.training import ReferenceLogprobsConfig, SFTConfig
from tasks.job import run_step
from tasks.rows import ATTRIBUTE, DIALOGUE, PREFERENCE
from tests.tasks.training.conftest import QUICK, Workshop
from tests.tasks.training.test_reference_logprobs import ROWS
from tests.tasks.training.test_reward_model import REGRESSION, some_rows

SHARDED = QUICK.model_copy(update={"cpus": 2, "workers": 2})
CONFIG = SFTConfig(epochs=2, global_batch_size=3, learning_rate=5e-3, resources=SHARDED)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    yield
    ray.shutdown()


@pytest.fixture
def inputs(workshop: Workshop, tokenizer: Tokenizer, dialogues: list[dict[str, Any]]) -> dict[str, Artifact]:
    base = workshop.put_model("base", tokenizer)
    return {"base": base, "dialogues": workshop.put_rows("dialogues", dialogues, DIALOGUE)}


def run(workshop: Workshop, config: StageConfig, inputs: dict[str, Artifact]) -> Artifact:
    """As a job does it."""
    fingerprint = fingerprint_of(config.stage, config.version, config.recipe(), input_fingerprints(inputs))
    artifact = Artifact(stage=config.stage, kind=config.kind, fingerprint=fingerprint, store=workshop.store.uri)
    step = {
        "label": "sft",
        "config": f"{type(config).__module__}:{type(config).__name__}",
        "settings": config.model_dump(mode="json"),
        "inputs": {name: given.model_dump(mode="json") for name, given in inputs.items()},
        "artifact": artifact.model_dump(mode="json"),
    }
    run_step(step, workshop.store, workshop.folder, workshop.events.append)
    return artifact


SPLIT = {"tensor_parallel": 2, "recompute": "full"}


@pytest.mark.parametrize(
    ("changes", "trainable"),
    [
        pytest.param({}, "all", id="fsdp"),
        pytest.param(SPLIT, "all", id="tensor", marks=pytest.mark.slow),
        pytest.param(SPLIT, "dora", id="tensor-dora", marks=pytest.mark.slow),
    ],
)
def test_two_processes_make_what_one_makes(
    workshop: Workshop, another_workshop: Workshop, inputs: dict[str, Artifact], changes: dict[str, Any], trainable: str
) -> None:
    config = CONFIG.model_copy(update={"trainable": trainable})
    made = run(workshop, config.model_copy(update={"resources": SHARDED.model_copy(update=changes)}), inputs)
    alone = another_workshop.run(sft.run, config.model_copy(update={"resources": QUICK}), **inputs)
    assert made.fingerprint == alone.fingerprint
    (ours, tokenizer), (theirs, _) = load_model(made.folder()), load_model(alone.folder())
    token_ids = torch.tensor([tokenizer.encode("Say red twice.")])
    torch.testing.assert_close(ours(token_ids), theirs(token_ids), rtol=0, atol=2e-4)
    found, expected = made.manifest(), alone.manifest()
    assert found.metrics["final_loss"] == pytest.approx(expected.metrics["final_loss"], rel=1e-4)
    assert found.counts == expected.counts and found.metrics["tokens"] == expected.metrics["tokens"]
    steps = [event["step"] for event in workshop.events if event["event"] == "metrics"]
    assert steps == [1, 2, 3, 4]  # told by the first process alone
    assert not workshop.store.list(f"attempts/{made.stage}/{made.fingerprint}")


@pytest.mark.slow
def test_two_processes_score_pairs_as_one_does(
    workshop: Workshop, another_workshop: Workshop, inputs: dict[str, Artifact]
) -> None:
    given = {"policy": inputs["base"], "pairs": workshop.put_rows("pairs", ROWS, PREFERENCE)}
    made = run(workshop, ReferenceLogprobsConfig(shard_rows=3, resources=SHARDED), given)
    alone = another_workshop.run(reference_logprobs.run, ReferenceLogprobsConfig(shard_rows=3), **given)
    assert made.manifest().counts == alone.manifest().counts == {"in": 5, "kept": 5, "dropped:not usable": 0}
    for found, expected in zip(made.iter_rows(), alone.iter_rows(), strict=True):
        assert found["id"] == expected["id"] and found["tokens"] == expected["tokens"]
        assert found["chosen_logprob"] == pytest.approx(expected["chosen_logprob"], rel=1e-5)
        assert found["rejected_logprob"] == pytest.approx(expected["rejected_logprob"], rel=1e-5)


@pytest.mark.slow
def test_two_processes_keep_the_best_reward_model_as_one_does(
    workshop: Workshop, another_workshop: Workshop, tokenizer: Tokenizer
) -> None:
    given = {
        "base": workshop.put_model("base", tokenizer),
        "attributes": workshop.put_rows("attributes", some_rows(), ATTRIBUTE),
    }
    config = REGRESSION.model_copy(update={"steps": 12, "evaluate_every": 2, "learning_rate": 0.05})
    made = run(workshop, config.model_copy(update={"resources": SHARDED}), given)
    alone = another_workshop.run(reward_model.run, config, **given)
    found, expected = made.manifest().metrics, alone.manifest().metrics
    assert found["best_step"] == expected["best_step"] < 12
    assert found["best_validation_loss"] == pytest.approx(expected["best_validation_loss"], rel=1e-3)


def test_what_the_processes_refuse_is_raised_as_it_is(workshop: Workshop, inputs: dict[str, Artifact]) -> None:
    with pytest.raises(EmptyDataset, match="no dialogues to train on"):
        run(workshop, CONFIG.model_copy(update={"max_tokens": 4}), inputs)
    uneven = CONFIG.model_copy(update={"resources": SHARDED.model_copy(update={"workers": 3, "tensor_parallel": 3})})
    with pytest.raises(InputError, match="3 training processes of 1 CPU each; the cluster has room for 2"):
        run(workshop, uneven, inputs)


@pytest.mark.slow
def test_processes_that_die_go_on_from_the_last_checkpoint(
    workshop: Workshop, another_workshop: Workshop, inputs: dict[str, Artifact]
) -> None:
    """One of the two is killed in mid-training; what comes out is what would have come out."""
    long = CONFIG.model_copy(update={"epochs": 30})
    killer = threading.Thread(target=kill_a_worker, args=(workshop,))
    killer.start()
    made = run(workshop, long, inputs)
    killer.join()
    lines = [event["text"] for event in workshop.events if event["event"] == "line"]
    assert any("died" in line and "attempt 1 of 3" in line for line in lines)
    assert any(line.startswith("resumed at step") for line in lines)
    whole = run(another_workshop, long, inputs)
    (ours, _), (theirs, _) = load_model(made.folder()), load_model(whole.folder())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def kill_a_worker(workshop: Workshop) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if sum(event["event"] == "metrics" for event in workshop.events) >= 6:
            workers = [
                p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())
            ]
            os.kill(workers[-1].pid, signal.SIGKILL)
            return
        time.sleep(0.02)
