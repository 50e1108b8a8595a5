"""Our decoder on Transformer Engine's modules, in its plain-torch forward pass; run by test_te.py, with its wheel."""

from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.attention import PackedAttention
from models.checkpoint import save_model
from models.config import ModelConfig
from models.decoder import Decoder, DecoderLayer, init_model
from models.forest import Forest
from models.forest_attention import ForestAttention
from models.lora import add_lora
from models.optim import OptimizerSettings, make_optimizer
from models.te.arithmetic import RECIPES, Arithmetic
from models.te.convert import from_te, to_te
from models.te.layers import TELayer
from models.te.shapes import FP8_MULTIPLE, check_shape
from tests.numerics.te.on_cpu import PRODUCT, Product, plain_torch, warm_up

CONFIGS = {
    "nemotron": ModelConfig("nemotron", 96, 48, 80, 3, 6, 2, 16, rotary_fraction=0.5),
    "nemotron, all heads": ModelConfig("nemotron", 96, 48, 80, 2, 3, 3, 16, rotary_fraction=0.25, norm_eps=1e-3),
    "llama": ModelConfig("llama", 96, 48, 80, 3, 6, 2, 16, tied_embeddings=True),
    "llama, wide heads": ModelConfig("llama", 96, 48, 80, 2, 4, 1, 32),
}
TOKENS_BT = torch.randint(0, 96, (1, 37), generator=torch.Generator().manual_seed(1))
ATTENTION = {
    "causal": None,
    "packed": PackedAttention([20, 9, 8]),
    "trees": ForestAttention(Forest((6, 6, 13, 3, 5, 4), ((0, 1), (0, 2), (3, 4), (3, 5)))),
}


@pytest.fixture(scope="module")
def te():
    with plain_torch() as te:
        yield te


def some_model(config: ModelConfig) -> Decoder:
    model = init_model(config, seed=2)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases away from their neutral start too
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(params=CONFIGS.values(), ids=[name.replace(", ", "-").replace(" ", "_") for name in CONFIGS])
def config(request) -> ModelConfig:
    return request.param


@pytest.mark.parametrize("attention", ATTENTION)
@torch.no_grad()
def test_logits_are_those_of_plain_torch(te, config, attention):
    expected = some_model(config)(TOKENS_BT, attend=ATTENTION[attention])
    fused = warm_up(to_te(some_model(config), "fp32"))
    assert all(isinstance(layer, TELayer) for layer in fused.layers)
    found = fused(TOKENS_BT, attend=ATTENTION[attention])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)  # measured: 0.0
    assert expected.std() > 0.5, "logits too flat to tell models apart"


def loss_of(model: Decoder) -> torch.Tensor:
    return F.cross_entropy(model(TOKENS_BT)[0, :-1], TOKENS_BT[0, 1:])


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_belong_to_the_same_weights(te, config, recompute, monkeypatch):
    monkeypatch.setattr(PRODUCT, Product.apply)
    # Of Nemotron's MLP, recomputation is the compiled module's own: the exported one just does not do it.
    plain, fused = some_model(config), warm_up(to_te(some_model(config), "fp32", recompute_mlp=recompute))
    loss_of(plain).backward()
    loss_of(fused).backward()
    expected = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in fused.state_dict(keep_vars=True).items():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=1e-5)  # measured: under 3e-7


def test_weights_go_there_and_back_unchanged(te, config):
    plain = some_model(config)
    expected = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    fused = to_te(plain, "fp32")
    assert list(fused.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in fused.state_dict().items())
    named = fused.state_dict(keep_vars=True)
    assert {id(parameter) for parameter in fused.parameters()} == {id(parameter) for parameter in named.values()}
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in fused.parameters())
    back = from_te(fused)
    assert all(isinstance(layer, DecoderLayer) for layer in back.layers)
    assert list(back.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in back.state_dict().items())
    assert torch.equal(back(TOKENS_BT), some_model(config)(TOKENS_BT))


def test_a_model_without_weights_is_converted_and_then_filled(te, config):
    with torch.device("meta"):
        empty = Decoder(config)
    fused = warm_up(to_te(empty, "fp32").to_empty(device="cpu"))
    fused.load_state_dict(some_model(config).state_dict())
    assert torch.equal(fused(TOKENS_BT), some_model(config)(TOKENS_BT))


@pytest.mark.parametrize("family", ["nemotron", "llama"])
def test_both_write_the_same_folder(te, family, tokenizer, tmp_path):
    config = replace(CONFIGS[family], vocab_size=tokenizer.vocab_size, eos_ids=(tokenizer.eos_id,))
    save_model(some_model(config), tokenizer, tmp_path / "plain")
    save_model(to_te(some_model(config), "fp32"), tokenizer, tmp_path / "te")
    for path in (tmp_path / "plain").iterdir():
        assert (tmp_path / "te" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_padded_row_gives_what_an_unpadded_one_gives(te, config):
    fused = warm_up(to_te(some_model(config), "fp32"))
    expected = fused(TOKENS_BT, attend=ATTENTION["packed"])
    fused.model.precision = "fp8"  # pads; the layers go on in fp32
    found = fused(TOKENS_BT, attend=ATTENTION["packed"])
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # measured: 0.0


def test_layers_are_converted_once_and_without_lora(te):
    with pytest.raises(ValueError, match=r"layers are \['TELayer'\]; expected plain DecoderLayers"):
        to_te(to_te(some_model(CONFIGS["llama"]), "fp32"), "fp32")
    adapted = some_model(CONFIGS["llama"])
    add_lora(adapted, rank=2, alpha=4.0, seed=0)
    with pytest.raises(ValueError, match=r"LoRA.*trainable=all"):
        to_te(adapted, "fp32")


def test_real_precisions_need_a_gpu(te, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="kernels run on NVIDIA GPUs, and torch sees none"):
        to_te(some_model(CONFIGS["llama"]), "bf16")


def test_fp8_that_the_gpu_lacks_is_an_error_with_the_reason(te, monkeypatch):
    monkeypatch.setattr(te, "is_fp8_block_scaling_available", lambda return_reason: (False, "CUDA 12.9 is required."))
    with pytest.raises(ValueError, match=r"fp8 with block scaling, but: CUDA 12.9 is required. \(set precision=bf16\)"):
        Arithmetic("fp8", "block")


@pytest.mark.parametrize("scaling", RECIPES)
def test_fp8_is_entered_with_its_recipe_and_bf16_beside_it(te, monkeypatch, scaling):
    entered = []

    @contextmanager
    def autocast(enabled, recipe):
        entered.append((enabled, type(recipe).__name__, torch.get_autocast_dtype("cpu")))
        yield

    monkeypatch.setattr(te, "autocast", autocast)
    for probe in ("is_fp8_available", "is_fp8_block_scaling_available"):
        monkeypatch.setattr(te, probe, lambda return_reason: (True, ""))
    with Arithmetic("bf16", scaling).on("cpu"):
        assert torch.is_autocast_enabled("cpu") and not entered
    with Arithmetic("fp8", scaling).on("cpu"):
        assert entered == [(True, RECIPES[scaling], torch.bfloat16)]
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", RECIPES.values())
def test_scalings_keep_no_state_and_are_padded_as_we_pad(te, name):
    recipe = getattr(import_module("transformer_engine.common.recipe"), name)()
    assert not recipe.delayed()
    assert (
        import_module("transformer_engine.pytorch.quantization").get_align_size_for_quantization(recipe) == FP8_MULTIPLE
    )


@pytest.mark.parametrize(
    "change", [{}, {"hidden_size": 40}, {"intermediate_size": 72}, {"head_dim": 4, "num_heads": 6}]
)
def test_sizes_are_refused_as_the_modules_refuse_them(te, change):
    config = replace(CONFIGS["nemotron"], **change)
    their_check = import_module("transformer_engine.pytorch.utils").assert_dim_for_fp8_exec
    weights = [weight for weight in init_model(config, 0).layers[0].parameters() if weight.dim() == 2]
    refused = []
    for check in (lambda: check_shape(config, "fp8"), lambda: [their_check(weight, weight.T) for weight in weights]):
        try:
            check()
        except ValueError:
            refused.append(True)
        else:
            refused.append(False)
    assert refused == [bool(change)] * 2


class EmulatedFP8(torch.autograd.Function):
    """A product of FP8 numbers summed in fp32, quantised by Transformer Engine's reference of current scaling."""

    @staticmethod
    def forward(ctx, hidden, weight):
        hidden, weight = (quantise(tensor, torch.float8_e4m3fn) for tensor in (hidden, weight))
        ctx.save_for_backward(hidden, weight)
        return hidden @ weight.T

    @staticmethod
    def backward(ctx, grad):
        hidden, weight = ctx.saved_tensors
        grad = quantise(grad, torch.float8_e5m2)
        return grad @ weight, grad.flatten(0, -2).T @ hidden.flatten(0, -2)


def quantise(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    reference = import_module("transformer_engine.pytorch.custom_recipes.reference_current_scaling")
    quantiser = reference.CurrentScalingQuantizerRef(dtype, rowwise=True, columnwise=False)
    stored = quantiser.quantize(tensor.contiguous())
    assert stored.data.dtype == dtype
    return quantiser.dequantize(stored.data, stored.scale).view_as(tensor)


class EmulatedLinear(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return EmulatedFP8.apply(hidden, self.weight)


def losses(config: ModelConfig, *, fp8: bool, steps: int = 60) -> torch.Tensor:
    """Loss of each step of a tiny model on counting sequences, which it learns to within a tenth of its first loss."""
    model = init_model(config, seed=6)
    if fp8:
        for parent in [*model.layers.modules()]:
            for name, child in [*parent.named_children()]:
                if isinstance(child, nn.Linear):
                    setattr(parent, name, EmulatedLinear(child.weight))
    optimizer = make_optimizer(model.parameters(), OptimizerSettings(3e-3))
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    generator = torch.Generator().manual_seed(8)
    found = []
    for _ in range(steps):
        starts, strides = (torch.randint(1, 8, (16, 1), generator=generator) for _ in range(2))
        tokens_BT = (starts + strides * torch.arange(16)) % config.vocab_size
        logits_BTV = model(tokens_BT)
        loss = F.cross_entropy(logits_BTV[:, 1:-1].flatten(0, 1), tokens_BT[:, 2:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)


def test_training_in_emulated_fp8_keeps_the_loss(te):
    config = replace(CONFIGS["nemotron"], hidden_size=64, intermediate_size=128)
    exact, emulated = losses(config, fp8=False), losses(config, fp8=True)
    assert exact[-10:].mean() < 0.5 * exact[0], exact
    assert not torch.equal(exact[0], emulated[0]), "nothing was quantised"
    torch.testing.assert_close(emulated[0], exact[0], rtol=0.002, atol=0)  # measured: 0.0002
    torch.testing.assert_close(emulated[-10:].mean(), exact[-10:].mean(), rtol=0.1, atol=0)  # measured: 0.010
