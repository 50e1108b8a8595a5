"""In which precision Transformer Engine's modules compute: weights stay as they are, products are in bf16 or FP8.

FP8 takes each scale from the tensor at hand (current scaling, or one scale a block). Delayed scaling, which keeps a
history of maxima, is left out on purpose: its history would be one more thing to save, and is saved as a pickle.
"""

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from models.planner import Precision
from models.te.shapes import Scaling

INSTALL = "pip install --no-build-isolation 'ratchet[te]' (docs/transformer_engine.md), or set kernels=torch"
RECIPES: dict[Scaling, str] = {"current": "Float8CurrentScaling", "block": "Float8BlockScaling"}


def transformer_engine() -> Any:
    """The module `transformer_engine.pytorch`. Raises ValueError, with the remedy, where it cannot be loaded."""
    try:
        return importlib.import_module("transformer_engine.pytorch")
    except ModuleNotFoundError as error:
        raise ValueError(f"kernels is te, but {error}; expected Transformer Engine: {INSTALL}") from error
    except (ImportError, AssertionError, RuntimeError, OSError) as error:
        # Its three packages must fit each other, CUDA and cuDNN; each misfit has an error of its own.
        raise ValueError(f"Transformer Engine is there but cannot be loaded: {error}; reinstall: {INSTALL}") from error


class Arithmetic:
    """`with arithmetic.on("cuda"): …` around the forward pass of Transformer Engine's modules.

    fp32 is for checks only: nothing is cast.
    """

    def __init__(self, precision: Precision, scaling: Scaling) -> None:
        """Raises ValueError where Transformer Engine is missing, or this machine has no such FP8."""
        te = transformer_engine()
        self.precision: Precision = precision
        self._autocast = te.autocast
        self._recipe: Any = None
        if precision == "fp8":
            probe = te.is_fp8_available if scaling == "current" else te.is_fp8_block_scaling_available
            available, reason = probe(return_reason=True)
            if not available:
                raise ValueError(f"precision is fp8 with {scaling} scaling, but: {reason} (set precision=bf16)")
            self._recipe = getattr(importlib.import_module("transformer_engine.common.recipe"), RECIPES[scaling])()

    @contextmanager
    def on(self, device_type: str) -> Iterator[None]:
        with ExitStack() as stack:
            if self.precision != "fp32":
                stack.enter_context(torch.autocast(device_type, torch.bfloat16))
            if self.precision == "fp8":
                stack.enter_context(self._autocast(enabled=True, recipe=self._recipe))
            yield
