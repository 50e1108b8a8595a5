"""A model from outside: identified by its content, read back, refused where it is not whole."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from infra.artifacts import Artifact
from infra.errors import InputError
from models.checkpoint import load_model, save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.tokenizer import Tokenizer
from tasks import import_model
from tasks.configs.import_model import ImportModelConfig, check_source, content_digest


@pytest.fixture
def source(small_tokenizer: Tokenizer, tmp_path: Path) -> Path:
    shape = ModelConfig("llama", small_tokenizer.vocab_size, 16, 32, 2, 2, 1, 8, eos_ids=(small_tokenizer.eos_id or 0,))
    save_model(init_model(shape, seed=0), small_tokenizer, tmp_path / "source")
    return tmp_path / "source"


def test_a_folder_becomes_a_checkpoint_with_the_same_weights(run_stage: Callable[..., Artifact], source: Path) -> None:
    made = run_stage(import_model.run, ImportModelConfig.of(source, licence="MIT"))
    (ours, tokenizer), (theirs, its_tokenizer) = load_model(made.folder()), load_model(source)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert tokenizer.digest() == its_tokenizer.digest()
    assert made.manifest().result == {
        "family": "llama", "format": "hf", "layers": 2, "hidden_size": 16, "vocab_size": tokenizer.vocab_size,
        "licence": "MIT", "name": "source", "tokenizer": tokenizer.digest(),
    }  # fmt: skip
    assert made.manifest().metrics == {"parameters": ours.config.num_parameters}


def test_the_same_content_is_the_same_model_wherever_it_lies(
    run_stage: Callable[..., Artifact], source: Path, tmp_path: Path
) -> None:
    shutil.copytree(source, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("changes nothing")
    first, second = ImportModelConfig.of(source), ImportModelConfig.of(tmp_path / "copy")
    assert first.recipe() == second.recipe() and first.source != second.source
    assert run_stage(import_model.run, first) == run_stage(import_model.run, second)
    assert ImportModelConfig.of(source, licence="MIT").recipe() != first.recipe()


def test_a_source_that_changed_since_the_plan_is_refused(run_stage: Callable[..., Artifact], source: Path) -> None:
    config = ImportModelConfig.of(source)
    settings = json.loads((source / "generation_config.json").read_text()) | {"eos_token_id": 5}
    (source / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=rf"expected hf with {config.digest}.*changed since the plan"):
        run_stage(import_model.run, config)


def test_a_model_without_a_chat_template_is_refused(
    run_stage: Callable[..., Artifact], source: Path, small_tokenizer: Tokenizer
) -> None:
    plain = Tokenizer(small_tokenizer.backend, "", None, small_tokenizer.eos_id, small_tokenizer.pad_id)
    plain.save(source)
    with pytest.raises(InputError, match="has no chat template"):
        run_stage(import_model.run, ImportModelConfig.of(source))


def test_sources_that_are_no_whole_model_are_named_before_any_work(source: Path, tmp_path: Path) -> None:
    assert check_source(source) == "hf" and len(content_digest(source)) == 64
    with pytest.raises(InputError, match="no such file or folder"):
        check_source(tmp_path / "nowhere")
    (tmp_path / "weights.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="is no GGUF file"):
        ImportModelConfig.of(tmp_path / "weights.gguf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no model files"):
        ImportModelConfig.of(tmp_path / "empty")
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged or cut short"):
        ImportModelConfig.of(source)
