"""Where a model's weights lie while it writes, and how precise they are."""

import torch

from models.decoder import Decoder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def placed(model: Decoder, on_gpu: bool, precision: str) -> Decoder:
    """The model on a GPU or where it is, in "fp32" or "bf16"."""
    return model.to(device="cuda" if on_gpu else None, dtype=DTYPES[precision])
