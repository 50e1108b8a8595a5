"""Transformer Engine without its compiled half, for checks on the CPU: `with plain_torch() as te: …`.

Its Python wheel has, for ONNX export, a forward pass of every module in plain torch. Nothing of that is ours, which is
what makes it worth comparing with; but the package wants its compiled extension, CUDA, Triton and more when imported.
Here each of these is a module of names that stand for nothing: whoever calls a kernel gets an error, never a number.
"""

import enum
import os
import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # looks for Triton when it is imported, and must not find the stand-in

ENUMERATIONS = {  # those that the Python half compares its own with
    "DType": "kByte kInt32 kFloat32 kFloat16 kBFloat16 kFloat8E4M3 kFloat8E5M2 kFloat4E2M1",
    "NVTE_Fused_Attn_Backend": "NVTE_No_Backend NVTE_F16_arbitrary_seqlen NVTE_FP8",
    "FP8FwdTensors": [f"GEMM{n}_{kind}" for n in (1, 2, 3) for kind in ("INPUT", "WEIGHT", "OUTPUT")],
    "FP8BwdTensors": [f"GRAD_{kind}{n}" for n in (1, 2, 3) for kind in ("OUTPUT", "INPUT")],
}
ABSENT = (
    *("triton", "triton.language", "triton.language.core", "triton.language.standard"),
    *("onnx", "onnx.defs", "onnxscript", "onnxscript.opset18", "einops"),
)
PRODUCT = "transformer_engine.pytorch.onnx_extensions.torch_onnx_gemm_inf_op"
"""What `Product.apply` can be put in place of, where gradients are wanted."""


class Names(type):
    """A class whose every attribute is a number of its own."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = hash((cls.__name__, name)) % 10**9
        setattr(cls, name, value)
        return value


class Kernel(metaclass=Names):
    def __init__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError(f"{type(self).__name__} is a compiled kernel; there is none on the CPU")


class Extension(ModuleType):
    """`transformer_engine_torch`, the compiled half."""

    __all__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kernel = Names(name, (Kernel,), {})
        setattr(self, name, kernel)
        return kernel


class Absent(ModuleType):
    """A package that Transformer Engine names when it is imported and that nothing here uses; so is all that it holds.

    Decorators leave functions as they are.
    """

    __path__: list[str] = []
    __version__ = "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}") or Absent(f"{self.__name__}.{name}")

    def __call__(self, *arguments: Any, **_: Any) -> Any:
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else Absent(self.__name__)


def load() -> Any:
    """`transformer_engine.pytorch` on the stand-ins. Leaves torch as it is."""
    extension = Extension("transformer_engine_torch")
    for name, members in ENUMERATIONS.items():
        setattr(extension, name, enum.IntEnum(name, members, start=0))
    sys.modules["transformer_engine_torch"] = extension
    os.environ["NVTE_PROJECT_BUILDING"] = "1"  # or it loads cuDNN and the compiled core when it is imported
    os.environ["NVTE_TORCH_COMPILE"] = "0"
    common = import_module("transformer_engine.common")
    common.load_framework_extension = lambda framework: None
    stand_ins = {name: Absent(name) for name in ABSENT if name not in sys.modules}
    sys.modules.update(stand_ins)
    te = import_module("transformer_engine.pytorch")
    for name in stand_ins:
        del sys.modules[name]
    return te


@contextmanager
def plain_torch():
    """Modules can be built, and their forward pass is the exported one; `warm_up` them first."""
    te = load()
    export = import_module("transformer_engine.pytorch.export")
    with mock.patch.object(torch.cuda, "is_available", lambda: True), export.onnx_export(enabled=True):
        yield te


def warm_up(model: torch.nn.Module) -> torch.nn.Module:
    """Exported modules must have run once, which ours cannot; the mark is all that is asked for."""
    for module in model.modules():
        if type(module).__module__.startswith("transformer_engine"):
            module.forwarded_at_least_once = True
    return model


class Product(torch.autograd.Function):
    """The exported product, with the gradient that export leaves out."""

    @staticmethod
    def forward(ctx, weight, hidden, bias):
        assert bias is None
        ctx.save_for_backward(weight, hidden)
        return hidden @ weight.T

    @staticmethod
    def backward(ctx, grad):
        weight, hidden = ctx.saved_tensors
        return grad.T @ hidden, grad @ weight, None
