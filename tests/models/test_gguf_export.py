"""GGUF files that we write, read by transformers and by our own import."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.checkpoint import load_model
from models.config import ModelConfig
from models.decoder import init_model
from models.gguf import import_gguf
from models.gguf_export import export_gguf
from models.gguf_file import GGUFFile

TEXT = "<|im_start|>user\nHow many cafés (12 + 30)?<|im_end|>\n"


@pytest.fixture(scope="module")
def smollm(smollm_folder: Path):
    return load_model(smollm_folder)


@pytest.mark.parametrize(("precision", "tolerance"), [("F16", 0.06), pytest.param("Q8_0", 2.0, marks=pytest.mark.slow)])
def test_transformers_reads_the_file_as_the_same_model(smollm, tmp_path: Path, precision, tolerance: float):
    model, tokenizer = smollm
    export_gguf(model, tokenizer, tmp_path / "out.gguf", precision, licence="apache-2.0")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="out.gguf", dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(tmp_path, gguf_file="out.gguf")
    token_ids = words(TEXT, add_special_tokens=False)["input_ids"]
    assert token_ids == tokenizer.encode(TEXT)
    with torch.no_grad():
        difference = (theirs(torch.tensor([token_ids])).logits - model(torch.tensor([token_ids]))).abs().max()
    assert difference < tolerance


def test_a_file_comes_back_bit_for_bit_in_fp32(smollm, tmp_path: Path):
    model, tokenizer = smollm
    export_gguf(model, tokenizer, tmp_path / "out.gguf", "F32", name="mine", licence="apache-2.0")
    imported = import_gguf(tmp_path / "out.gguf", tmp_path / "again")
    again, words = load_model(tmp_path / "again")
    assert (imported.name, imported.licence) == ("mine", "apache-2.0")
    assert again.config == model.config and words.digest() == tokenizer.digest()
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


def test_a_model_that_the_format_does_not_cover_is_refused_before_anything_is_written(smollm, tmp_path: Path):
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1,
             "head_dim": 16, "rotary_fraction": 0.5}  # fmt: skip
    nemotron = init_model(ModelConfig("nemotron", smollm[1].vocab_size, **shape), 0)
    with pytest.raises(ValueError, match="nemotron model; expected llama"):
        export_gguf(nemotron, smollm[1], tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_the_largest_part_is_quantised(smollm, tmp_path: Path):
    export_gguf(*smollm, tmp_path / "out.gguf", "Q8_0")
    kinds = {entry.kind.name for name, entry in GGUFFile(tmp_path / "out.gguf").tensors.items() if "norm" not in name}
    assert kinds == {"Q8_0"}
