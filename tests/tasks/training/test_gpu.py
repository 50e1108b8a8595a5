"""Training on one GPU against the processor: attention in one kernel, bf16 arithmetic over fp32 weights.

Tolerances: 2e-3 for attention in fp32 (TF32 products), 2 % of the loss for bf16.
"""

from typing import Any

import pytest
import torch

from infra.artifacts import Artifact
from models.flex_attention import FlexAttention
from models.forest import Forest
from models.tokenizer import Tokenizer
from tasks import sft
from tasks.configs.base import Resources
from tasks.configs.training import SFTConfig
from tasks.rows import DIALOGUE
from tests.models.test_forest_attention import FORESTS, alone, operands
from tests.tasks.training.conftest import Workshop

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize("forest", FORESTS.values(), ids=[name.replace(" ", "_") for name in FORESTS])
def test_one_kernel_attends_as_the_processor_does(forest: Forest) -> None:
    row, device = operands(forest), torch.device("cuda")
    found = FlexAttention(forest, device)(0, *(tensor.to(device) for tensor in row))
    torch.testing.assert_close(found.cpu(), alone(forest, row), rtol=0, atol=2e-3)


@pytest.mark.parametrize("changes", [{}, {"recompute": "full"}, {"offload": True}, {"trainable": "dora"}])
def test_a_stage_trains_as_on_a_processor(
    workshop: Workshop, tokenizer: Tokenizer, dialogues: list[dict[str, Any]], changes: dict[str, Any]
) -> None:
    inputs: dict[str, Artifact] = {
        "base": workshop.put_model("base", tokenizer),
        "dialogues": workshop.put_rows("dialogues", dialogues, DIALOGUE),
    }
    adapted = {name: value for name, value in changes.items() if name == "trainable"}
    placed = {name: value for name, value in changes.items() if name != "trainable"}
    config = SFTConfig(epochs=2, global_batch_size=3, learning_rate=5e-3, **adapted)
    on_gpu = config.model_copy(update={"resources": Resources(gpus=1, **placed), "salt": "gpu"})
    made, expected = workshop.run(sft.run, on_gpu, **inputs), workshop.run(sft.run, config, **inputs)
    found, wanted = made.manifest().metrics, expected.manifest().metrics
    assert found["mean_loss"] == pytest.approx(wanted["mean_loss"], rel=0.02)
    assert found["final_loss"] == pytest.approx(wanted["final_loss"], rel=0.02)
