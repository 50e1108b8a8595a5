"""Model folders: what is written opens again, twice the same, and what cannot work is refused before it is loaded."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.chat import CHATML_TEMPLATE
from models.checkpoint import check_folder, load_config, load_model, save_model
from models.config import ModelConfig
from models.decoder import Decoder, init_model

CONFIG = ModelConfig("nemotron", 266, 32, 64, 2, 4, 2, 16, rotary_fraction=0.5, bos_id=1, eos_ids=(0,), pad_id=0)


@pytest.fixture
def model() -> Decoder:
    return init_model(CONFIG, seed=0)


@pytest.fixture
def folder(model: Decoder, make_tokenizer, tmp_path: Path) -> Path:
    save_model(model, make_tokenizer(eos="<|endoftext|>"), tmp_path / "model")
    return tmp_path / "model"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_model_comes_back_in_eval_mode_and_fp32(folder: Path, model: Decoder):
    again, tokenizer = load_model(folder)
    assert not again.training
    assert all(p.dtype == torch.float32 and p.requires_grad for p in again.parameters())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert tokenizer.chat_template == CHATML_TEMPLATE
    assert again.config.eos_ids == (0, 2), "the template's end of turn must stop generation"


def test_saving_twice_gives_the_same_bytes(folder: Path, tmp_path: Path):
    save_model(*load_model(folder), tmp_path / "b")
    save_model(*load_model(tmp_path / "b"), tmp_path / "c")
    names = [path.name for path in sorted((tmp_path / "b").iterdir())]
    assert names == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert all((tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes() for name in names)
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "c" / "model.safetensors").read_bytes()


def test_transformers_opens_the_folder_and_stops_where_we_do(folder: Path, model: Decoder):
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert theirs.generation_config.eos_token_id == [0, 2]
    messages = [{"role": "user", "content": "hello"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(theirs(prompt).logits, model(prompt), rtol=0, atol=1e-5)


def test_large_models_are_cut_into_shards(folder: Path, model: Decoder, make_tokenizer, tmp_path: Path):
    tokenizer = make_tokenizer()
    save_model(model, tokenizer, folder, shard_bytes=40_000)
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors" and len(shards) > 2
    assert all((folder / name).stat().st_size < 42_000 for name in shards)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * CONFIG.num_parameters
    again, _ = load_model(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    row = torch.arange(20)[None]
    assert torch.equal(again(row), model(row))
    torch.testing.assert_close(theirs(row).logits, model(row), rtol=0, atol=1e-5)
    save_model(model, tokenizer, folder)
    assert [path.name for path in folder.glob("model*.safetensors*")] == ["model.safetensors"], "old shards stayed"


def test_half_precision_weights_are_kept_on_disk_and_widened_on_loading(model: Decoder, make_tokenizer, tmp_path: Path):
    save_model(model.bfloat16(), make_tokenizer(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    again, _ = load_model(tmp_path)
    assert torch.equal(again.unembedding_VD, model.unembedding_VD.float())


def test_redundant_tensors_of_older_exports_are_ignored(folder: Path):
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, path)
    load_model(folder)


def test_the_stop_ids_of_generation_config_are_read(folder: Path):
    edit(folder / "generation_config.json", eos_token_id=[0, 2, 4])
    assert load_config(folder).eos_ids == (0, 2, 4)


def without(name: str):
    return lambda folder: (folder / name).unlink()


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def drop_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "layers.1.mlp" not in name}, path)


def add_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"model.layers.0.self_attn.q_proj.bias": torch.ones(64)}, path)


def quantise_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"lm_head.weight": torch.zeros(266, 32, dtype=torch.int8)}, path)


def name_a_missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "model-9.safetensors"}}')


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def grow_the_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    added = dict(tokenizer["added_tokens"][0], id=266, content="<new>")
    path.write_text(json.dumps(tokenizer | {"added_tokens": [*tokenizer["added_tokens"], added]}))


BROKEN = {
    "no config": (without("config.json"), FileNotFoundError, r"holds no config\.json"),
    "no weights": (without("model.safetensors"), FileNotFoundError, "has no weights"),
    "only pickled weights": (pickle_only, FileNotFoundError, r"found \['pytorch_model.bin'\]"),
    "missing shard": (name_a_missing_shard, FileNotFoundError, "model-9.safetensors"),
    "cut short": (cut_short, ValueError, "header promises"),
    "weight missing": (drop_a_weight, ValueError, "2 of 24 weights are missing"),
    "weight too many": (add_a_weight, ValueError, "q_proj.bias"),
    "quantised": (quantise_a_weight, ValueError, "lm_head.weight is I8"),
    "another shape": (lambda f: edit(f / "config.json", hidden_size=48), ValueError, "do not fit config.json"),
    "another architecture": (
        lambda f: edit(f / "config.json", model_type="gpt2", architectures=["GPT2LMHeadModel"]),
        ValueError,
        "unknown architecture: model_type 'gpt2'",
    ),
    "a key missing": (lambda f: (f / "config.json").write_text('{"model_type": "llama"}'), ValueError, "lacks"),
    "config not JSON": (lambda f: (f / "config.json").write_text("{"), ValueError, "is not JSON"),
    "no tokenizer": (without("tokenizer.json"), FileNotFoundError, r"no tokenizer\.json"),
    "larger tokenizer": (grow_the_tokenizer, ValueError, "the last 1 tokens have no embedding"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_refused(name: str, folder: Path):
    breaking, error, message = BROKEN[name]
    breaking(folder)
    for check in (check_folder, load_model):
        with pytest.raises(error, match=message):
            check(folder)


def test_a_folder_that_is_none_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_folder(tmp_path / "nowhere")


def test_a_much_smaller_foreign_tokenizer_is_refused(make_tokenizer, tmp_path: Path):
    large = init_model(ModelConfig("llama", 4000, 8, 8, 1, 1, 1, 8), seed=0)
    with pytest.raises(ValueError, match="3734 rows are no token"):
        save_model(large, make_tokenizer(), tmp_path)


def test_a_header_of_nonsense_is_no_safetensors_file(folder: Path):
    for content in (b"", b"abc", struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"[]" + b"x" * 30):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="not a safetensors file"):
            check_folder(folder)


def test_checking_a_folder_needs_no_torch(folder: Path):
    code = "import sys; from models.folders import check_folder; check_folder(sys.argv[1]); assert 'torch' not in sys."
    code += "modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
