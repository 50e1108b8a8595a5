"""A model is kept only where what was written computes what was trained."""

from typing import Any

import pytest
import torch
from torch import Tensor

from infra.errors import StageFailed
from models.config import ModelConfig
from models.decoder import Decoder, init_model
from models.parallel.workers import Workers
from models.tokenizer import Tokenizer
from tasks.training import write_model
from tests.tasks.training.conftest import Workshop

PROBE = range(5, 30)


class Changing(Decoder):
    """A model whose weights change once they have been read."""

    change = 0.0

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        weights = {name: weight.clone() for name, weight in super().state_dict(*args, **kwargs).items()}
        with torch.no_grad():
            self.layers[1].get_parameter("mlp.up_proj.weight")[3, 5] += self.change
        return weights


def write(workshop: Workshop, tokenizer: Tokenizer, change: float) -> None:
    config = ModelConfig("nemotron", tokenizer.vocab_size, 16, 24, 2, 2, 1, 8, init_std=0.2)
    model = Changing(config)
    model.load_state_dict(init_model(config, seed=0).state_dict())
    model.change = change
    workshop.put("kept", lambda output: write_model(model, tokenizer, output, PROBE, Workers()), kind="checkpoint")


def test_what_was_trained_is_kept(workshop: Workshop, tokenizer: Tokenizer) -> None:
    write(workshop, tokenizer, 0.0)


def test_other_weights_than_those_trained_are_not_kept(workshop: Workshop, tokenizer: Tokenizer) -> None:
    with pytest.raises(StageFailed, match="the written model's logits differ from the trained one's by"):
        write(workshop, tokenizer, 0.05)


def test_weights_that_are_not_finite_are_not_kept(workshop: Workshop, tokenizer: Tokenizer) -> None:
    with pytest.raises(StageFailed, match="by nan"):
        write(workshop, tokenizer, float("nan"))
