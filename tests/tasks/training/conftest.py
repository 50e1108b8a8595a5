"""Artifacts that training stages take, made through the real Output; a tiny model with a byte-level tokenizer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.artifacts import Artifact, fingerprint_of, input_fingerprints
from infra.output import Outcome, Output
from infra.storage import Storage
from models.checkpoint import save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.tokenizer import Tokenizer
from tasks.configs.base import Resources, StageConfig
from tasks.rows import DIALOGUE, make_row

QUICK = Resources(microbatch_tokens=256, checkpoint_every_s=1e-6)


class Workshop:
    """Makes artifacts in a store and runs stages on them, as a job does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Storage.open(folder / "store")
        self.events: list[dict[str, Any]] = []

    def output(self, stage: str, kind: str, fingerprint: str) -> Output:
        artifact = Artifact(stage=stage, kind=kind, fingerprint=fingerprint, store=self.store.uri)
        return Output(artifact, self.store, self.events.append, self.folder)

    def put(self, name: str, fill: Callable[[Output], Any], kind: str = "dataset", **result: Any) -> Artifact:
        """An artifact that `fill` writes; `name` is its address."""
        output = self.output("given", kind, fingerprint_of("given", 1, {"name": name}, {}))
        fill(output)
        return output.commit(Outcome(result=result), recipe={}, inputs={}, version=1, label=name, device="", wall_s=0.0,
                             code_version="")  # fmt: skip

    def put_rows(self, name: str, rows: Sequence[Mapping[str, Any]], schema: Any) -> Artifact:
        return self.put(name, lambda output: output.write_shard(0, rows, schema))

    def put_model(self, name: str, tokenizer: Tokenizer, seed: int = 0, **shape: Any) -> Artifact:
        values = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
                  "head_dim": 8, "rotary_fraction": 0.5, "init_std": 0.1, "max_positions": 512} | shape  # fmt: skip
        end = (tokenizer.eos_id,) if tokenizer.eos_id is not None else ()
        model = init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=end, **values), seed)
        folder = self.folder / f"model-{name}"
        save_model(model, tokenizer, folder)
        return self.put(name, lambda output: output.write_folder(folder), kind="checkpoint", licences=["Apache-2.0"])

    def address(self, config: StageConfig, inputs: Mapping[str, Any]) -> Output:
        fingerprint = fingerprint_of(config.stage, config.version, config.recipe(), input_fingerprints(inputs))
        return self.output(config.stage, config.kind, fingerprint)

    def run(self, stage: Callable[..., Outcome], config: StageConfig, **inputs: Any) -> Artifact:
        output = self.address(config, inputs)
        outcome = stage(config, output, **inputs)
        return output.commit(outcome, recipe=config.recipe(), inputs=inputs, version=config.version,
                             label=config.stage, device="", wall_s=0.0, code_version="")  # fmt: skip

    def interrupt(self, stage: Callable[..., Outcome], config: StageConfig, at_step: int, **inputs: Any) -> int:
        """Run a stage until it tells the curve's point of a step, and stop it there; the step it can resume from."""

        def stop(event: dict[str, Any]) -> None:
            if event["event"] == "metrics" and event["step"] >= at_step:
                raise KeyboardInterrupt

        output = self.address(config, inputs)
        output.events = stop
        with suppress(KeyboardInterrupt):
            stage(config, output, **inputs)
            raise AssertionError(f"the stage ended before step {at_step}")
        found = self.address(config, inputs).last_checkpoint()
        assert found is not None, "the stage was stopped before its first checkpoint"
        return found[0]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def another_workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "another")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices: a second thread only costs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def dialogue(question: str, answer: str, licence: str = "CC0-1.0") -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    values = {"messages": messages, "family": "test", "source": "test", "synthetic": False, "generator": "",
              "licence": licence}  # fmt: skip
    return make_row(DIALOGUE, values, messages)


@pytest.fixture(scope="session")
def dialogues() -> list[dict[str, Any]]:
    return [
        dialogue(f"Say {word} twice.", f"{word} {word}") for word in ["red", "blue", "green", "pink", "gold", "grey"]
    ]
