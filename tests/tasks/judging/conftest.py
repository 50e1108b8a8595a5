"""Rows and models for judging, mixes and the gate: made by hand, put into a real store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.artifacts import Artifact, fingerprint_of
from infra.output import Outcome, Output
from infra.storage import Storage
from models.checkpoint import save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.reward import RewardModel, save_reward_model
from models.tokenizer import Tokenizer
from tasks.evaluate import ANSWER
from tasks.judges.ground_truth import verifier
from tasks.rows import ATTRIBUTES, DIALOGUE, ITEM, RESPONSE, make_row

Row = dict[str, Any]
PROVENANCE = {"source": "test", "synthetic": True, "generator": "0" * 32, "licence": "CC0-1.0"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Put = Callable[..., Artifact]


@pytest.fixture
def put(store: Storage, tmp_path: Path) -> Put:
    """`put(name, fill)` makes an artifact that `fill(output)` writes; `put_rows` puts rows of a schema."""

    def make(name: str, fill: Callable[[Output], Any], kind: str = "dataset", **inputs: Artifact) -> Artifact:
        fingerprint = fingerprint_of("given", 1, {"name": name}, {})
        artifact = Artifact(stage="given", kind=kind, fingerprint=fingerprint, store=store.uri)
        output = Output(artifact, store, lambda event: None, tmp_path)
        fill(output)
        return output.commit(
            Outcome(result={"licences": ["CC0-1.0"]}), recipe={}, inputs=inputs, version=1, label=name, device="",
            wall_s=0.0, code_version="",
        )  # fmt: skip

    return make


@pytest.fixture
def put_rows(put: Put) -> Put:
    def make(name: str, rows: Sequence[Mapping[str, Any]], schema: Any, **inputs: Artifact) -> Artifact:
        return put(name, lambda output: output.write_shard(0, rows, schema), **inputs)

    return make


def _conversation(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def response() -> Callable[..., Row]:
    """A RESPONSE row; `reward` and `passed` are what matters in most tests."""

    def make(prompt: str, text: str, **values: Any) -> Row:
        row = {
            "prompt_id": prompt, "prompt": _conversation(prompt), "family": "open", "topic": "tea", "response": text,
            "responder": "greedy", "sample": 0, "aid": "", "finish_reason": "stop", **PROVENANCE, **values,
        }  # fmt: skip
        if "reward" in values:
            row |= dict.fromkeys(ATTRIBUTES, 2.0)
        return make_row(RESPONSE, row, [prompt, text, row["responder"], row["sample"]])

    return make


@pytest.fixture
def dialogue() -> Callable[..., Row]:
    def make(question: str, answer: str, **values: Any) -> Row:
        messages = [*_conversation(question), {"role": "assistant", "content": answer}]
        row = {"prompt_id": question, "family": "open", "messages": messages, **PROVENANCE, **values}
        return make_row(DIALOGUE, row, messages)

    return make


@pytest.fixture
def item() -> Callable[..., Row]:
    """An ITEM row; `contains` is the word that a right answer holds, None for an open item."""

    def make(question: str, contains: str | None = None, half: str = "gate", family: str = "", key: str = "") -> Row:
        check = None if contains is None else verifier("contains", {"any": [contains]})
        values = {
            "family": family or ("open" if contains is None else "ordinary"), "key": key or f"test/{question}",
            "half": half, "messages": _conversation(question), "verifier": check, **PROVENANCE, "synthetic": False,
        }  # fmt: skip
        return make_row(ITEM, values, [half, question])

    return make


@pytest.fixture
def answer() -> Callable[..., Row]:
    """An ANSWER row of an examination."""

    def make(number: int, passed: bool | None, text: str = "", **values: Any) -> Row:
        row = {
            "item_id": f"{number:032x}", "family": "instruction", "key": f"kind{number % 10}/{number}", "half": "gate",
            "messages": _conversation(f"question {number}"), "answer": text or f"answer {passed}",
            "finish_reason": "stop", "passed": passed, **PROVENANCE, **values,
        }  # fmt: skip
        return make_row(ANSWER, row, [number, passed, text])

    return make


def _decoder(tokenizer: Tokenizer, seed: int) -> Any:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 8, "rotary_fraction": 0.5, "init_std": 0.1, "max_positions": 1024}  # fmt: skip
    return init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=(tokenizer.eos_id or 0,), **shape), seed)


@pytest.fixture
def tiny_model(put: Put, tokenizer: Tokenizer, tmp_path: Path) -> Callable[[int], Artifact]:
    """A checkpoint of random weights."""

    def make(seed: int = 0) -> Artifact:
        folder = tmp_path / f"model-{seed}"
        save_model(_decoder(tokenizer, seed), tokenizer, folder)
        return put(f"model {seed}", lambda output: output.write_folder(folder), kind="checkpoint")

    return make


@pytest.fixture
def tiny_reward_model(put: Put, tokenizer: Tokenizer, tmp_path: Path) -> Callable[[int], Artifact]:
    """A reward model of random weights, its head included."""

    def make(seed: int = 0) -> Artifact:
        model = RewardModel(_decoder(tokenizer, seed))
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.head.weight)
        folder = tmp_path / f"reward-{seed}"
        save_reward_model(model, tokenizer, folder)
        return put(f"reward model {seed}", lambda output: output.write_folder(folder), kind="checkpoint")

    return make
