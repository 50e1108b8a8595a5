"""The `ratchet` command as its user calls it, on a workspace of the test's own, with tiny models of random weights."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from deployments.cli import main
from infra.artifacts import Artifact, fingerprint_of, input_fingerprints
from infra.output import Outcome, Output
from infra.storage import Storage
from models.checkpoint import save_model
from models.config import ModelConfig
from models.decoder import Decoder, init_model
from models.reward import RewardModel, save_reward_model
from models.tokenizer import Tokenizer

VARIABLES = (
    "RATCHET_WORKSPACE", "RATCHET_STORE", "RATCHET_PROJECT", "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RAY_ADDRESS",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_configured_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout, which must be one JSON document."""
        return json.loads(self.out)


Ratchet = Callable[..., Ended]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def ratchet(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Ratchet:
    """`ratchet("data", "ls")` runs the command line in this process, with --workspace at its end."""

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--workspace", str(workspace)])
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def store(workspace: Path) -> Storage:
    return Storage.open(workspace / "store")


Put = Callable[..., Artifact]


@pytest.fixture
def put(store: Storage, workspace: Path) -> Put:
    """`put("sft", "name", fill, kind="checkpoint", inputs={…})` makes an artifact that `fill(output)` writes."""

    def make(
        stage: str, name: str, fill: Callable[[Output], Any], kind: str = "dataset",
        inputs: Mapping[str, Any] | None = None, recipe: Mapping[str, Any] | None = None, **outcome: Any,
    ) -> Artifact:  # fmt: skip
        recipe, inputs = recipe or {"name": name}, inputs or {}
        fingerprint = fingerprint_of(stage, 1, recipe, input_fingerprints(inputs))
        output = Output(Artifact(stage=stage, kind=kind, fingerprint=fingerprint, store=store.uri), store,
                        lambda event: None, workspace)  # fmt: skip
        fill(output)
        return output.commit(Outcome(**outcome), recipe=recipe, inputs=inputs, version=1, label=name, device="cpu",
                             wall_s=1.0, code_version="test")  # fmt: skip

    return make


@pytest.fixture
def put_rows(put: Put) -> Put:
    def make(stage: str, name: str, rows: Sequence[Mapping[str, Any]], schema: Any, **more: Any) -> Artifact:
        return put(stage, name, lambda output: output.write_shard(0, rows, schema), **more)

    return make


def tiny_decoder(tokenizer: Tokenizer, seed: int) -> Decoder:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 8, "rotary_fraction": 0.5, "init_std": 0.1, "max_positions": 256}  # fmt: skip
    return init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=(tokenizer.eos_id or 0,), **shape), seed)


@pytest.fixture
def model_folder(tokenizer: Tokenizer, tmp_path: Path) -> Callable[[int], Path]:
    """A Hugging Face folder of random weights."""

    def make(seed: int = 0) -> Path:
        folder = tmp_path / f"model-{seed}"
        save_model(tiny_decoder(tokenizer, seed), tokenizer, folder)
        return folder

    return make


@pytest.fixture
def reward_folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A reward model of random weights, its head included."""
    model = RewardModel(tiny_decoder(tokenizer, 0))
    torch.manual_seed(0)
    torch.nn.init.normal_(model.head.weight)
    save_reward_model(model, tokenizer, tmp_path / "reward")
    return tmp_path / "reward"
