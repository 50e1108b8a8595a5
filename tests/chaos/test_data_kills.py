"""kill -9 of a data stage's process between two shards, again and again: in the end the same bytes, nothing made twice.

Each stage is the driver of a job (tasks/job.py) in a process of its own, as Ray starts it, without Ray.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import tokenizers

from flows.steps import Step, make_step
from infra.artifacts import Artifact
from infra.manifest import MANIFEST
from infra.storage import Storage
from models.chat import CHATML_TEMPLATE
from models.checkpoint import save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.tokenizer import Tokenizer
from tasks.configs.base import Resources, StageConfig
from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.configs.import_model import ImportModelConfig
from tasks.configs.mix import DeduplicateConfig, MixConfig, SplitPromptsConfig
from tasks.configs.responses import Responder, ResponsesConfig
from tasks.configs.sources import SourceConfig
from tests.environment import bare_environment

ONE = Resources(cpus=1)
ROWS, PAGE = 1200, 20
KILLS_S = 60
UNSHARDED = {"evaluation set", "import"}


@dataclass
class Driver:
    """Runs steps one after another, in a process that goes past those that are made."""

    root: Path

    def __post_init__(self) -> None:
        self.store = Storage.open(self.root / "store")

    def start(self, steps: Sequence[Step]) -> subprocess.Popen:
        spec = {
            "store": self.store.uri,
            "workspace": str(self.root),
            "threads": 1,
            "steps": [step.as_json() for step in steps],
        }
        self.store.put("jobs/one/spec.json", json.dumps(spec).encode())
        command = [sys.executable, "-P", "-m", "tasks.job", f"{self.store.uri}#jobs/one/spec.json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=bare_environment())

    def finish(self, steps: Sequence[Step]) -> None:
        process = self.start(steps)
        told, _ = process.communicate(timeout=300)
        assert process.returncode == 0, told[-2000:]

    def shards(self, artifact: Artifact) -> dict[str, int]:
        """Each with the moment of its writing."""
        folder = self.root / "store" / artifact.key
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}

    def kill_at(self, steps: Sequence[Step], shards: int) -> bool:
        """Kill the last stage once it has this many shards; False where it was faster and is done."""
        step, process, end = steps[-1], self.start(steps), time.monotonic() + KILLS_S
        while time.monotonic() < end and process.poll() is None:
            if len(self.shards(step.artifact)) >= shards:
                process.kill()
                break
        process.communicate()
        return not self.store.exists(f"{step.artifact.key}/{MANIFEST}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: what they say makes no sense, and is as good as any other answer here."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["a"], trainer)
    end = backend.token_to_id("<|endoftext|>")
    assert end is not None
    tokenizer = Tokenizer(backend, CHATML_TEMPLATE, bos_id=None, eos_id=end, pad_id=end)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 8, "rotary_fraction": 0.5, "init_std": 0.1, "max_positions": 256}  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    save_model(init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=(end,), **shape), 0), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts and chats in a user's own words, some of them near-duplicates."""
    folder, rng = tmp_path_factory.mktemp("files"), random.Random(0)
    words = [line.split() for line in Path(__file__).read_text().splitlines() if line.split()]
    pool = sorted({word for line in words for word in line if word.isalpha()})
    texts = [" ".join(rng.choices(pool, k=12)) + "?" for _ in range(ROWS)]
    texts[100::100] = [text + " again" for text in texts[:-100:100]]
    prompts = [json.dumps({"prompt": text}) for text in texts]
    chats = [json.dumps({"prompt": text, "completion": text[::-1]}) for text in texts]
    (folder / "prompts.jsonl").write_text("\n".join(prompts))
    (folder / "chats.jsonl").write_text("\n".join(chats))
    return folder


def plan(driver: Driver, files: Path, model: Path) -> list[Step]:
    """The data stages in a row, each with many small shards."""

    def step(label: str, config: StageConfig, **inputs: Artifact | tuple[Artifact, ...]) -> Step:
        return make_step(label, config, driver.store.uri, inputs)

    small = {"shard_rows": PAGE, "resources": ONE}
    items = step("evaluation set", EvaluationSetConfig(resources=ONE))
    imported = step("import", ImportModelConfig.of(model).model_copy(update={"resources": ONE}))
    prompts = step("source prompts", SourceConfig(reader="prompts", path=str(files / "prompts.jsonl"), **small))
    chats = step("source chats", SourceConfig(reader="chats", path=str(files / "chats.jsonl"), **small))
    clean = step("clean prompts", DeduplicateConfig(**small), rows=prompts.artifact, evaluation_set=items.artifact)
    split = step("split prompts", SplitPromptsConfig(**small), rows=clean.artifact)
    responders = (
        Responder(label="greedy", max_tokens=8),
        Responder(label="warm", temperature=1.0, samples=2, open_samples=2, max_tokens=8),
    )
    answers = step(
        "responses",
        ResponsesConfig(responders=responders, max_per_family=200, shard_rows=10, resources=ONE),
        prompts=split.artifact,
        generator=imported.artifact,
    )
    mixed = step("mix", MixConfig(code_share=0.0, **small), sources=chats.artifact)
    return [items, imported, prompts, chats, clean, split, answers, mixed]


@pytest.fixture(scope="module")
def undisturbed(files: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    driver = Driver(tmp_path_factory.mktemp("undisturbed"))
    steps = plan(driver, files, model)
    driver.finish(steps)
    return {step.label: step.artifact.manifest().sha256() for step in steps}


ONCE = (6,)
OFTEN = (2, 5, 9, 14)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("places", [ONCE, pytest.param(OFTEN, marks=pytest.mark.slow)])
def test_a_data_stage_killed_between_its_shards_ends_as_if_it_had_not_been(
    places: tuple[int, ...], files: Path, model: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    driver = Driver(tmp_path)
    killed: set[str] = set()
    kept: dict[str, dict[str, int]] = {}
    steps = plan(driver, files, model)
    for number, step in enumerate(steps, start=1):
        for shards in () if step.label in UNSHARDED else places:
            if driver.kill_at(steps[:number], shards):
                killed.add(step.label)
            found = driver.shards(step.artifact)
            assert kept.get(step.label, {}).items() <= found.items(), f"{step.label}: a shard was written again"
            kept[step.label] = found
    driver.finish(steps)
    for step in steps:
        artifact = step.artifact
        still = driver.shards(artifact).items()
        assert kept.get(step.label, {}).items() <= still, f"{step.label}: a shard was written again"
        assert artifact.manifest().sha256() == undisturbed[step.label], step.label
        assert artifact.verify() == []
        ids = [row["id"] for row in artifact.iter_rows()] if artifact.parts() else []
        assert len(set(ids)) == len(ids) == (artifact.manifest().rows or 0), f"{step.label}: rows lost or doubled"
    assert killed == set(undisturbed) - UNSHARDED
