"""Stages without Ray: an Output on a local store, run and committed as a job does it.

`teach` trains a small model to give known answers, so that a test can say what a real generator says.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

from infra.artifacts import Artifact, fingerprint_of, input_fingerprints
from infra.output import Outcome, Output
from infra.storage import Storage
from models.chat import CHATML_TEMPLATE, encode_prompt
from models.checkpoint import save_model
from models.config import ModelConfig
from models.decoder import Decoder, PackedAttention, init_model
from models.reward import RewardModel, save_reward_model
from models.tokenizer import Tokenizer
from tasks.configs.base import StageConfig
from tasks.configs.dialogues import PERSONAS_FILE

RunStage = Callable[..., Artifact]
Lesson = tuple[Sequence[Any], str]
"""A prompt (messages, or token ids) and the answer to it."""
TEACHING_STEPS = 400
LEARNT = 0.01
"""Mean loss per token at which a lesson is known by heart."""


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path / "store")


def stage_runner(store: Storage, workspace: Path) -> RunStage:
    """`run(module.run, config, **inputs)` makes the stage's artifact in this store."""

    def run(stage: Callable[..., Any], config: StageConfig, **inputs: Any) -> Artifact:
        fingerprint = fingerprint_of(config.stage, config.version, config.recipe(), input_fingerprints(inputs))
        artifact = Artifact(stage=config.stage, kind=config.kind, fingerprint=fingerprint, store=store.uri)
        output = Output(artifact, store, lambda event: None, workspace)
        outcome = stage(config, output, **inputs)
        return output.commit(
            outcome, recipe=config.recipe(), inputs=inputs, version=config.version, label=config.stage, device="test",
            wall_s=0.0, code_version="test",
        )  # fmt: skip

    return run


def giver(store: Storage, workspace: Path) -> Callable[..., Artifact]:
    """`give(name, fill, kind="dataset", **result)` makes an artifact that `fill(output)` writes."""

    def make(name: str, fill: Callable[[Output], Any], kind: str = "dataset", **result: Any) -> Artifact:
        fingerprint = fingerprint_of("given", 1, {"name": name}, {})
        output = Output(Artifact(stage="given", kind=kind, fingerprint=fingerprint, store=store.uri), store,
                        lambda event: None, workspace)  # fmt: skip
        fill(output)
        return output.commit(Outcome(result=result), recipe={}, inputs={}, version=1, label=name, device="", wall_s=0.0,
                             code_version="")  # fmt: skip

    return make


@pytest.fixture
def run_stage(store: Storage, tmp_path: Path) -> RunStage:
    """A `stage_runner` in the test's store."""
    return stage_runner(store, tmp_path)


@pytest.fixture
def interrupt(store: Storage, tmp_path: Path) -> Callable[..., None]:
    """`interrupt(module.run, config, shards, **inputs)` stops the stage once that many of its shards are written."""

    def run(stage: Callable[..., Any], config: StageConfig, shards: int, **inputs: Any) -> None:
        fingerprint = fingerprint_of(config.stage, config.version, config.recipe(), input_fingerprints(inputs))
        artifact = Artifact(stage=config.stage, kind=config.kind, fingerprint=fingerprint, store=store.uri)

        def stop(event: Mapping[str, Any]) -> None:
            if len([key for key in store.list(artifact.key) if key.endswith(".parquet")]) >= shards:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            stage(config, Output(artifact, store, stop, tmp_path), **inputs)
            raise AssertionError(f"the stage ended before it was stopped after {shards} shards")

    return run


@pytest.fixture
def give(store: Storage, tmp_path: Path) -> Callable[..., Artifact]:
    """A `giver` in the test's store."""
    return giver(store, tmp_path)


@pytest.fixture(scope="session")
def smollm(smollm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """SmolLM2 as a checkpoint, written once: it is half a gigabyte, and the process's engine is found by its folder."""
    root = tmp_path_factory.mktemp("smollm")
    give = giver(Storage.open(root / "store"), root)
    return give("smollm", lambda output: output.write_folder(smollm_folder), kind="checkpoint", licence="Apache-2.0")


@pytest.fixture
def give_rows(give: Callable[..., Artifact]) -> Callable[..., Artifact]:
    def make(name: str, rows: Sequence[Mapping[str, Any]], schema: Any) -> Artifact:
        return give(name, lambda output: output.write_shard(0, rows, schema))

    return make


@pytest.fixture(scope="session")
def small_tokenizer() -> Tokenizer:
    """Bytes with a few hundred merges, so that lessons are short, and ChatML's special tokens."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    specials = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials, show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    backend.train_from_iterator([PERSONAS_FILE.read_text(encoding="utf-8")], trainer)
    end = backend.token_to_id("<|endoftext|>")
    return Tokenizer(backend, CHATML_TEMPLATE, bos_id=None, eos_id=end, pad_id=end)


def small_model(tokenizer: Tokenizer, seed: int, max_positions: int = 512) -> Decoder:
    shape = {"hidden_size": 96, "intermediate_size": 192, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 16, "rotary_fraction": 0.5, "init_std": 0.08, "max_positions": max_positions}  # fmt: skip
    return init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=(tokenizer.eos_id or 0,), **shape), seed)


def learn(model: Decoder, tokenizer: Tokenizer, lessons: Sequence[Lesson]) -> None:
    """Train until every answer is known by heart."""
    documents, places = [], []
    for prompt, answer in lessons:
        asked = list(prompt) if isinstance(prompt[0], int) else encode_prompt(tokenizer, prompt)
        told = [*tokenizer.encode(answer), tokenizer.token_id("<|im_end|>") or 0]
        start = sum(map(len, documents)) + len(asked)
        places += range(start, start + len(told))
        documents.append(asked + told)
    attend, places_N = PackedAttention([len(document) for document in documents]), torch.tensor(places)
    positions_1T = torch.cat([torch.arange(len(document)) for document in documents])[None]
    token_ids_1T = torch.tensor([[token for document in documents for token in document]])
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(TEACHING_STEPS):
        hidden_TD = model.hidden(token_ids_1T, positions_1T, attend)[0]
        loss = torch.nn.functional.cross_entropy(model.unembed(hidden_TD[places_N - 1]), token_ids_1T[0, places_N])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss.item() < LEARNT:
            return
    raise AssertionError(f"{len(lessons)} lessons were not learnt in {TEACHING_STEPS} steps")


@pytest.fixture(scope="session")
def taught_folder(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Tokenizer) -> Callable[..., Path]:
    """`taught_folder(lessons, seed=0)`: a model folder; equal lessons are learnt once a session."""
    known: dict[str, Path] = {}

    def make(lessons: Sequence[Lesson], seed: int = 0) -> Path:
        key = json.dumps([lessons, seed])
        if key not in known:
            model, folder = small_model(small_tokenizer, seed), tmp_path_factory.mktemp("taught")
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            learn(model, small_tokenizer, lessons)
            torch.set_num_threads(threads)
            save_model(model, small_tokenizer, folder)
            known[key] = folder
        return known[key]

    return make


@pytest.fixture
def teach(give: Callable[..., Artifact], taught_folder: Callable[..., Path]) -> Callable[..., Artifact]:
    """`teach(name, lessons, licence="Apache-2.0")`: a checkpoint that answers these prompts with these answers."""

    def make(name: str, lessons: Sequence[Lesson], seed: int = 0, licence: str = "Apache-2.0") -> Artifact:
        folder = taught_folder(lessons, seed)
        return give(name, lambda output: output.write_folder(folder), kind="checkpoint", licence=licence)

    return make


@pytest.fixture
def a_reward_model(give: Callable[..., Artifact], small_tokenizer: Tokenizer, tmp_path: Path) -> Artifact:
    """Random weights, its head included."""
    model = RewardModel(small_model(small_tokenizer, seed=1))
    torch.manual_seed(0)
    torch.nn.init.normal_(model.head.weight)
    save_reward_model(model, small_tokenizer, tmp_path / "reward")
    return give("reward model", lambda output: output.write_folder(tmp_path / "reward"), kind="checkpoint")
