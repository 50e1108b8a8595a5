"""Transformer Engine's backend as far as it goes without a GPU.

What needs no Transformer Engine (sizes, padding, names, errors) is tested here and now. Its own plain-torch forward
pass and its FP8 reference are in te/cases.py, which `test_modules_of_transformer_engine` runs in a Python of its own:
they need its wheel, and stand-ins that no other test should meet. What runs on a GPU alone is at the end.
"""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from models.attention import CausalAttention, PackedAttention
from models.batches import ExampleBatches
from models.checkpoint import load_model, save_model
from models.config import ModelConfig, parameter_shapes
from models.decoder import DecoderLayer, init_model
from models.forest import Forest
from models.forest_attention import ForestAttention, UnfoldedAttention
from models.objectives import NextToken
from models.optim import OptimizerSettings
from models.packing import Document
from models.planner import Precision
from models.te.arithmetic import transformer_engine
from models.te.convert import to_te
from models.te.layers import DocumentAttention, UnpaddedAttention, by_kernel
from models.te.names import give_plain_names, plain_names
from models.te.shapes import Scaling, check_shape, padding_tokens
from models.train import Trainer

NEMOTRON = ModelConfig("nemotron", 96, 48, 80, 2, 6, 2, 16, rotary_fraction=0.5)
LLAMA = ModelConfig("llama", 96, 48, 80, 2, 6, 2, 16, tied_embeddings=True)
WHEEL = "transformer_engine==2.20.2"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: the real kernels were not run")


@pytest.mark.parametrize(
    ("tokens", "precision", "padding"),
    [(1, "fp8", 15), (15, "fp8", 1), (16, "fp8", 0), (17, "fp8", 15), (17, "bf16", 0), (17, "fp32", 0)],
)
def test_fp8_rows_are_padded_to_multiples_of_16(tokens, precision, padding):
    assert padding_tokens(tokens, precision) == padding


def test_sizes_that_fp8_takes():
    check_shape(NEMOTRON, "fp8")
    check_shape(replace(NEMOTRON, hidden_size=40, intermediate_size=72), "bf16")  # bf16 has no such rule


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"hidden_size": 40}, "hidden_size is 40"),
        ({"intermediate_size": 72}, "intermediate_size is 72"),
        ({"head_dim": 4, "num_heads": 6}, r"num_heads \* head_dim is 24, .* is 40"),
    ],
)
def test_sizes_that_fp8_does_not_take_are_named_with_the_remedy(wrong, named):
    with pytest.raises(ValueError, match=rf"{named}; FP8 takes multiples of 16 .*precision=bf16"):
        check_shape(replace(NEMOTRON, **wrong), "fp8")


def test_layers_are_not_split_over_gpus():
    with pytest.raises(ValueError, match=r"tensor_parallel is 2; expected 1 with kernels=te.*kernels=torch"):
        check_shape(NEMOTRON, "bf16", tensor_parallel=2)


def test_where_transformer_engine_is_missing_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformer_engine", None)
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch", None)
    with pytest.raises(ValueError, match=r"kernels is te, but .*pip install --no-build-isolation 'ratchet\[te\]'"):
        to_te(init_model(NEMOTRON, seed=0))


def test_where_transformer_engine_is_broken_the_error_says_why(monkeypatch, tmp_path):
    (tmp_path / "transformer_engine").mkdir()
    (tmp_path / "transformer_engine" / "__init__.py").write_text("raise RuntimeError('cudnn shared object not found.')")
    for name in [name for name in sys.modules if name.split(".")[0] == "transformer_engine"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be loaded: cudnn shared object not found\.; reinstall"):
        transformer_engine()


class FusedShapes(nn.Module):
    """The parameters of a TELayer, without Transformer Engine."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shapes = parameter_shapes(config)
        for name, plain in plain_names(config).items():
            *path, leaf = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(leaf, nn.Parameter(torch.zeros(shapes[f"model.layers.0.{plain}"])))
        give_plain_names(self, config)


@pytest.mark.parametrize("config", [NEMOTRON, LLAMA], ids=lambda config: config.family)
def test_a_fused_layer_has_the_state_dict_of_the_plain_one(config):
    plain = init_model(config, seed=4).layers[1]
    fused = FusedShapes(config)
    fused.load_state_dict(plain.state_dict())
    assert list(fused.state_dict()) == list(plain.state_dict())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(fused.state_dict()[name], tensor), name
    again = DecoderLayer(config, 1)
    again.load_state_dict(fused.state_dict())
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())


def test_a_weight_that_is_missing_or_unknown_is_reported():
    state = init_model(LLAMA, seed=4).layers[0].state_dict()
    del state["self_attn.k_proj.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*qkv.k_weight"):
        FusedShapes(LLAMA).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*self_attn.q_norm.weight"):
        FusedShapes(LLAMA).load_state_dict(init_model(LLAMA, 4).layers[0].state_dict() | {"self_attn.q_norm.weight": 0})


def heads(tokens: int, rows: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(rows, tokens, count, 16, generator=generator) for count in (6, 2, 2)]


TREES = Forest((3, 3, 3, 2, 1, 1), ((0, 1), (0, 2), (3, 4), (3, 5)))


@pytest.mark.parametrize(
    ("attend", "rows"),
    [(CausalAttention(), 2), (PackedAttention([5, 4, 4]), 1), (ForestAttention(TREES), 1)],
    ids=["causal", "packed", "trees"],
)
def test_padding_is_seen_by_nobody_and_attends_to_nothing(attend, rows):
    parts = heads(13, rows)
    padded = [F.pad(part, (0, 0, 0, 0, 0, 3), value=7.0) for part in parts]
    attended = UnpaddedAttention(attend, 3)(0, *padded)
    assert torch.equal(attended[:, :13], attend(0, *parts))
    assert not attended[:, 13:].any()


class EachDocument(nn.Module):
    """What te.DotProductAttention computes for `thd`, document by document; takes and returns its shapes."""

    def forward(self, query_THd, key_TKd, value_TKd, *, cu_seqlens_q, cu_seqlens_kv, max_seqlen_q, max_seqlen_kv):
        assert torch.equal(cu_seqlens_q, cu_seqlens_kv) and cu_seqlens_q.dtype == torch.int32
        lengths = cu_seqlens_q.diff().tolist()
        assert max_seqlen_q == max_seqlen_kv == max(lengths)
        attended_1THd = PackedAttention(lengths)(0, query_THd[None], key_TKd[None], value_TKd[None])
        return attended_1THd[0].flatten(1)


def test_documents_go_to_the_kernel_with_their_bounds():
    ours = DocumentAttention(EachDocument(), [5, 4, 4], torch.device("cpu"))
    assert ours.bounds.tolist() == [0, 5, 9, 13]
    assert torch.equal(ours(0, *heads(13)), PackedAttention([5, 4, 4])(0, *heads(13)))
    with pytest.raises(ValueError, match=r"\(1, 12\) rows x tokens does not hold documents of 13 tokens together"):
        ours(0, *heads(12))


def test_trees_go_to_the_kernel_unfolded():
    attend = by_kernel(EachDocument(), ForestAttention(TREES), torch.device("cpu"))
    assert isinstance(attend, UnfoldedAttention)
    torch.testing.assert_close(attend(0, *heads(13)), ForestAttention(TREES)(0, *heads(13)), rtol=0, atol=1e-6)


@pytest.fixture(scope="session")
def wheel() -> Path:
    """Transformer Engine's Python half (1.3 MB), where no other test imports it."""
    folder = Path(__file__).parents[2] / ".cache" / "te-2.20.2"
    if not (folder / ".ready").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
        subprocess.run([*pip, WHEEL], check=True)
        (folder / ".ready").touch()
    return folder


def python(wheel: Path, *arguments: str) -> "subprocess.Popen[str]":
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(wheel)]), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *arguments]
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_modules_of_transformer_engine(wheel: Path):
    running = python(wheel, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/numerics/te/cases.py")
    said, _ = running.communicate()
    assert running.returncode == 0, said


@pytest.mark.slow
def test_modules_of_transformer_engine_under_fsdp(wheel: Path, tmp_path: Path):
    ranks = [python(wheel, "-m", "tests.numerics.te.sharded", rank, str(tmp_path / "meet")) for rank in "01"]
    said = [running.communicate(timeout=300)[0] for running in ranks]
    assert not any(running.returncode for running in ranks), "\n".join(said)


# From here on: the real kernels.

ON_GPU = [("bf16", "current", 0.01), ("fp8", "current", 0.03), ("fp8", "block", 0.03)]
"""Precision, scaling, and how far the loss may be from fp32's, as a share of it. Bounds set beforehand: see docs."""
WIDE = {
    "nemotron": ModelConfig("nemotron", 512, 256, 1024, 3, 8, 2, 64, rotary_fraction=0.5, init_std=0.05),
    "llama": ModelConfig("llama", 512, 256, 768, 3, 8, 2, 64, tied_embeddings=True, init_std=0.05),
}


def gpu_losses(config: ModelConfig, precision: Precision | None, scaling: Scaling = "current") -> list[float]:
    """Loss of each step of a few, on two documents of 300 and 211 tokens; precision None is plain torch in fp32."""
    model = init_model(config, seed=1).cuda()
    if precision is not None:
        to_te(model, precision, scaling)
    objective = NextToken(model)
    generator = torch.Generator().manual_seed(2)
    documents = [Document.of(torch.randint(512, (n,), generator=generator).tolist()) for n in (301, 212)]
    trainer = Trainer(model, objective, documents, ExampleBatches(2, 2, 3, steps=8), OptimizerSettings(1e-3), 1024)
    return [report.metrics["loss"] for report in trainer.run()]


@needs_gpu
@pytest.mark.parametrize("family", WIDE)
@pytest.mark.parametrize(("precision", "scaling", "share"), ON_GPU)
def test_training_on_a_gpu_follows_fp32(family, precision, scaling, share):
    exact = torch.tensor(gpu_losses(WIDE[family], None))
    found = torch.tensor(gpu_losses(WIDE[family], precision, scaling))
    assert exact[-1] < exact[0]
    torch.testing.assert_close(found, exact, rtol=share, atol=0)


@needs_gpu
@pytest.mark.parametrize("family", WIDE)
def test_documents_do_not_see_each_other_on_a_gpu(family):
    model = to_te(init_model(WIDE[family], seed=1), "bf16").cuda().eval()
    tokens = torch.randint(512, (1, 60), generator=torch.Generator().manual_seed(3)).cuda()
    with torch.no_grad():
        together = model(tokens, torch.tensor([[*range(33), *range(27)]], device="cuda"), PackedAttention([33, 27]))
        alone = [model(part, attend=PackedAttention([part.shape[1]])) for part in tokens.split([33, 27], dim=1)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), rtol=0, atol=0.02 * float(together.std()))


@needs_gpu
@pytest.mark.parametrize(("precision", "scaling", "share"), ON_GPU)
def test_recomputed_layers_have_the_same_gradients_on_a_gpu(precision, scaling, share):
    gradients = []
    for recompute in (False, True):
        model = to_te(init_model(WIDE["nemotron"], seed=1).cuda(), precision, scaling, recompute_mlp=recompute)
        if recompute:
            for layer in model.layers:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        model(torch.arange(64, device="cuda")[None]).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=share * float(gradient.std()) + 1e-12)


@needs_gpu
def test_a_folder_written_from_a_gpu_holds_the_weights(tokenizer, tmp_path: Path):
    config = replace(WIDE["nemotron"], eos_ids=(tokenizer.eos_id,))
    expected = init_model(config, seed=1)
    save_model(to_te(init_model(config, seed=1).cuda(), "bf16"), tokenizer, tmp_path)
    found, _ = load_model(tmp_path)
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in found.state_dict().items())
