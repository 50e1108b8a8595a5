"""A decoder that reads one weight at a time gives what the whole one gives."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoint import open_streamed, save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.streamed import streamed

NEMOTRON = ModelConfig("nemotron", 266, 32, 64, 2, 4, 2, 16, rotary_fraction=0.5, init_std=0.2)
LLAMA = replace(NEMOTRON, family="llama", rotary_fraction=1.0, tied_embeddings=True)
TOKENS_BT = torch.arange(24).view(2, 12)


@pytest.mark.parametrize("config", [NEMOTRON, LLAMA], ids=["untied", "tied"])
def test_logits_are_the_whole_models_with_one_weight_in_memory(config: ModelConfig) -> None:
    model = init_model(config, seed=0)
    weights, order = model.state_dict(), []

    def read(name: str) -> Tensor:
        held = [other for other, weight in reader.named_parameters() if not weight.is_meta]
        assert held == (["model.embed_tokens.weight"] if config.tied_embeddings and order else [])
        order.append(name)
        return weights[name]

    reader = streamed(config, read)
    with torch.no_grad():
        assert torch.equal(reader(TOKENS_BT), model(TOKENS_BT))
    assert sorted(order) == sorted(weights)


@pytest.mark.parametrize("shard_bytes", [20_000, 4_000_000_000])
def test_a_folder_is_read_one_weight_at_a_time(tmp_path: Path, make_tokenizer, shard_bytes: int) -> None:
    model = init_model(NEMOTRON, seed=0)
    save_model(model, make_tokenizer(), tmp_path, shard_bytes=shard_bytes)
    reader, _ = open_streamed(tmp_path)
    with torch.no_grad():
        assert torch.equal(reader(TOKENS_BT), model(TOKENS_BT))
    assert all(weight.is_meta for weight in reader.parameters())
