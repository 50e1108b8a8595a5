"""Small random models with the byte-level tokenizer of tests/models, and one thread: tiny matrices gain none."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from models.config import ModelConfig
from models.decoder import Decoder, init_model
from models.tokenizer import Tokenizer


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokenizer(make_tokenizer: Callable[..., Tokenizer]) -> Tokenizer:
    return make_tokenizer()


@pytest.fixture
def make_model(tokenizer: Tokenizer) -> Callable[..., Decoder]:
    """`make_model(family="nemotron", seed=0, **shape)`: weights large enough that every token changes the logits."""

    def make(family: Any = "nemotron", seed: int = 0, **shape: Any) -> Decoder:
        values: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 80, "num_layers": 2, "num_heads": 6,
                  "num_kv_heads": 2, "head_dim": 16, "init_std": 0.2, "max_positions": 2048} | shape  # fmt: skip
        rotated = 0.5 if family == "nemotron" else 1.0
        return init_model(ModelConfig(family, tokenizer.vocab_size, rotary_fraction=rotated, **values), seed).eval()

    return make
