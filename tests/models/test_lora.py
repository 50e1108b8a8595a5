"""Low-rank additions against their formulas, written out in float64."""

import pytest
import torch
from torch import nn

from models.config import ModelConfig
from models.decoder import init_model
from models.lora import LoRALinear, add_lora, merge_lora

CONFIG = ModelConfig("llama", 40, 16, 24, 2, 2, 1, 8, tied_embeddings=True, init_std=0.2)


def some_layer(magnitudes: bool) -> LoRALinear:
    generator = torch.Generator().manual_seed(0)
    base = nn.Linear(5, 7, bias=False, dtype=torch.float64).requires_grad_(False)
    base.weight.copy_(torch.randn(7, 5, generator=generator, dtype=torch.float64))
    layer = LoRALinear(base, 2, 6.0, generator, magnitudes)
    with torch.no_grad():
        layer.up.copy_(torch.randn(7, 2, generator=generator, dtype=torch.float64))
        if layer.magnitude is not None:
            layer.magnitude.mul_(1.5)
    return layer


@pytest.mark.parametrize("magnitudes", [False, True], ids=["lora", "dora"])
def test_outputs_and_gradients_are_the_formulas(magnitudes: bool) -> None:
    layer = some_layer(magnitudes)
    inputs = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = layer.base.weight + 3.0 * layer.up @ layer.down
    if layer.magnitude is not None:
        weight = (layer.magnitude / weight.detach().square().sum(1).sqrt())[:, None] * weight
    expected = inputs @ weight.T
    found = layer(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    assert len(trained) == 2 + magnitudes
    gradients = (torch.autograd.grad(output.square().sum(), trained) for output in (found, expected))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(inputs @ layer.merged().weight.T, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("magnitudes", [False, True], ids=["lora", "dora"])
def test_a_model_starts_and_merges_as_itself(magnitudes: bool) -> None:
    model, tokens_BT = init_model(CONFIG, seed=1), torch.arange(12)[None]
    expected = model(tokens_BT).detach()
    add_lora(model, 4, 8.0, seed=0, magnitudes=magnitudes)
    torch.testing.assert_close(model(tokens_BT), expected, rtol=0, atol=1e-6)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rsplit(".", 1)[1] for name in trained} == {"up", "down"} | ({"magnitude"} if magnitudes else set())
    merge_lora(model)
    torch.testing.assert_close(model(tokens_BT), expected, rtol=0, atol=1e-6)
    assert [*model.state_dict()] == [*init_model(CONFIG, 1).state_dict()]
