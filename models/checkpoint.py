"""Models as Hugging Face folders: transformers and vLLM open what is written here, and what they write opens here.

A folder holds config.json, generation_config.json (with every stop id), the weights as safetensors (in shards over
4 GB, with an index), tokenizer.json and tokenizer_config.json (with the chat template). Equal weights give equal bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.chat import stop_ids
from models.config import ModelConfig
from models.decoder import Decoder
from models.folders import (
    CONFIG_FILE,
    GENERATION_FILE,
    INDEX_FILE,
    WEIGHTS_FILE,
    check_folder,
    check_tokenizer,
    check_weights,
    is_redundant,
    load_config,
    weight_files,
)
from models.tokenizer import Tokenizer

__all__ = ["check_folder", "load_config", "load_model", "load_weights", "save_model", "write_weights"]

SHARD_BYTES = 4_000_000_000


def load_model(folder: str | Path) -> tuple[Decoder, Tokenizer]:
    """The model in eval mode, fp32 on the CPU, and its tokenizer.

    Raises FileNotFoundError or ValueError, as `check_folder` does, before any weight is read.
    """
    model, tokenizer = open_empty(folder)
    return load_weights(Path(folder), model.config).eval(), tokenizer


def open_empty(folder: str | Path) -> tuple[Decoder, Tokenizer]:
    """As `load_model`, with the weights still on torch's meta device: for a model that several processes will share."""
    folder = Path(folder)
    config = load_config(folder)
    check_weights(folder, config)
    tokenizer = Tokenizer.load(folder)
    check_tokenizer(tokenizer, config, folder)
    with torch.device("meta"):
        return Decoder(config).eval(), tokenizer


def load_weights(folder: Path, config: ModelConfig) -> Decoder:
    """A decoder with the folder's weights as fp32; the folder is taken to be checked."""
    with torch.device("meta"):
        model = Decoder(config)
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        weights |= {name: tensor.float() for name, tensor in load_file(path).items() if not is_redundant(name, config)}
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_()


def save_model(model: Decoder, tokenizer: Tokenizer, folder: str | Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write a Hugging Face folder, in the precision of the model's weights; the weights come last.

    Raises ValueError where the tokenizer has tokens that the model has no embedding for.
    """
    folder = Path(folder)
    check_tokenizer(tokenizer, model.config, folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    _write_json(folder / CONFIG_FILE, model.config.to_hf() | {"dtype": dtype, "torch_dtype": dtype})
    ids = {"bos_token_id": model.config.bos_id, "pad_token_id": model.config.pad_id}
    stops = {"eos_token_id": list(stop_ids(tokenizer, model.config))}
    _write_json(folder / GENERATION_FILE, {name: value for name, value in (ids | stops).items() if value is not None})
    tokenizer.save(folder)
    write_weights(weights, folder, shard_bytes)


def write_weights(weights: Mapping[str, Tensor], folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors as one safetensors file, or as shards of at most `shard_bytes` with an index."""
    shards = _shards(weights, shard_bytes)
    names = [WEIGHTS_FILE]
    if len(shards) > 1:
        names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    for stale in {*folder.glob("model*.safetensors"), folder / INDEX_FILE} - {folder / name for name in names}:
        stale.unlink(missing_ok=True)
    for name, shard in zip(names, shards, strict=True):
        partial = folder / f"{name}.partial"
        save_file({key: weights[key] for key in shard}, partial, metadata={"format": "pt"})
        partial.chmod(folder.stat().st_mode & 0o666)  # safetensors writes files that only their owner can read
        partial.replace(folder / name)
    if len(shards) > 1:
        total = sum(tensor.nbytes for tensor in weights.values())
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        _write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(weights: Mapping[str, Tensor], shard_bytes: int) -> list[list[str]]:
    """Names in order, cut where the next tensor would no longer fit; a tensor larger than a shard gets its own."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in weights.items():
        if shards[-1] and filled + tensor.nbytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += tensor.nbytes
    return shards


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
