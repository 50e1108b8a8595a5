"""Models as Hugging Face folders: transformers and vLLM open what is written here, and what they write opens here.

A folder holds config.json, generation_config.json (with every stop id), the weights as safetensors (in shards over
4 GB, with an index), tokenizer.json and tokenizer_config.json (with the chat template). Equal weights give equal bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
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
    read_shapes,
    weight_files,
)
from models.parallel.gather import whole
from models.parallel.workers import Workers
from models.streamed import streamed
from models.tokenizer import Tokenizer

__all__ = ["check_folder", "load_config", "load_model", "load_weights", "save_model", "write_weights"]

SHARD_BYTES = 4_000_000_000
THIS_PROCESS = Workers()
"""No other holds a part of the weights."""


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


def open_streamed(folder: str | Path) -> tuple[Decoder, Tokenizer]:
    """As `load_model`, with one weight in memory at a time: each is read when a forward pass comes to it."""
    model, tokenizer = open_empty(folder)
    files = {name: path for path in weight_files(Path(folder)) for name in read_shapes(path)}

    def read(name: str) -> Tensor:
        with safe_open(files[name], "pt") as file:
            return file.get_tensor(name)

    return streamed(model.config, read), tokenizer


def load_weights(folder: Path, config: ModelConfig) -> Decoder:
    """A decoder with the folder's weights as fp32; the folder is taken to be checked."""
    with torch.device("meta"):
        model = Decoder(config)
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        weights |= {name: tensor.float() for name, tensor in load_file(path).items() if not is_redundant(name, config)}
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_()


def save_model(
    model: Decoder,
    tokenizer: Tokenizer,
    folder: str | Path,
    shard_bytes: int = SHARD_BYTES,
    workers: Workers = THIS_PROCESS,
) -> None:
    """Write a Hugging Face folder, in the precision of the model's weights; the weights come last.

    All processes that share the model call it, and the first one writes. Raises ValueError where the tokenizer has
    tokens that the model has no embedding for.
    """
    folder = Path(folder)
    check_tokenizer(tokenizer, model.config, folder)
    weights = model.state_dict()
    if workers.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        _write_description(model.config, tokenizer, next(iter(weights.values())).dtype, folder)
    write_weights(weights, folder, shard_bytes, workers)


def _write_description(config: ModelConfig, tokenizer: Tokenizer, precision: torch.dtype, folder: Path) -> None:
    """All but the weights."""
    dtype = str(precision).removeprefix("torch.")
    _write_json(folder / CONFIG_FILE, config.to_hf() | {"dtype": dtype, "torch_dtype": dtype})
    ids = {"bos_token_id": config.bos_id, "pad_token_id": config.pad_id}
    stops = {"eos_token_id": list(stop_ids(tokenizer, config))}
    _write_json(folder / GENERATION_FILE, {name: value for name, value in (ids | stops).items() if value is not None})
    tokenizer.save(folder)


def write_weights(
    weights: Mapping[str, Tensor], folder: Path, shard_bytes: int = SHARD_BYTES, workers: Workers = THIS_PROCESS
) -> None:
    """Write tensors as one safetensors file, or as shards of at most `shard_bytes` with an index.

    Split tensors are gathered one by one: the first process holds one shard, and the others one tensor.
    """
    shards = _shards(weights, shard_bytes)
    names = [WEIGHTS_FILE]
    if len(shards) > 1:
        names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    if workers.rank == 0:
        for stale in {*folder.glob("model*.safetensors"), folder / INDEX_FILE} - {folder / name for name in names}:
            stale.unlink(missing_ok=True)
    for name, shard in zip(names, shards, strict=True):
        _write_shard({key: weights[key] for key in shard}, folder / name, workers)
    if len(shards) > 1 and workers.rank == 0:
        total = sum(tensor.nbytes for tensor in weights.values())
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        _write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_shard(weights: Mapping[str, Tensor], path: Path, workers: Workers) -> None:
    together = {name: whole(weight, workers) for name, weight in weights.items()}
    if workers.rank == 0:
        partial = path.with_name(f"{path.name}.partial")
        save_file(together, partial, metadata={"format": "pt"})
        partial.chmod(path.parent.stat().st_mode & 0o666)  # safetensors writes files that only their owner can read
        partial.replace(path)


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
