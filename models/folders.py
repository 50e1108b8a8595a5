"""What a Hugging Face model folder must hold, checked from its small files and headers alone; imports no torch."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.config import ModelConfig, parameter_shapes
from models.tokenizer import TOKENIZER_FILE, Tokenizer, read_json_object

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

FLOAT_TYPES = ("BF16", "F16", "F32", "F64")

# An embedding may have more rows than the tokenizer has tokens (padding), but not many: then they are strangers.
PADDING_ROWS = 1024
PADDING_SHARE = 0.1


def load_config(folder: str | Path) -> ModelConfig:
    """The model's shape, with the stop tokens of generation_config.json beside those of config.json.

    Raises FileNotFoundError without a config.json, ValueError for an architecture that the decoder does not cover.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        found = sorted(entry.name for entry in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"{folder} is not a model folder: it holds no {CONFIG_FILE} (found: {found})")
    hf = read_json_object(path)
    if hf.get("quantization_config"):
        raise ValueError(f"{path}: the weights are quantised ({hf['quantization_config']}); expected plain floats")
    try:
        config = ModelConfig.from_hf(hf)
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}; expected the config of a {hf.get('model_type')} model") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    eos = read_json_object(folder / GENERATION_FILE).get("eos_token_id")
    more = eos if isinstance(eos, list) else [] if eos is None else [eos]
    return replace(config, eos_ids=tuple(dict.fromkeys([*config.eos_ids, *more])))


def check_folder(folder: str | Path) -> ModelConfig:
    """Find out in well under a second whether a model can be loaded, without loading it.

    Raises FileNotFoundError for a missing file and ValueError for weights, an architecture or a tokenizer that do not
    belong together.
    """
    folder = Path(folder)
    config = load_config(folder)
    check_weights(folder, config)
    check_tokenizer(Tokenizer.load(folder), config, folder)
    return config


def check_tokenizer(tokenizer: Tokenizer, config: ModelConfig, folder: Path) -> None:
    """Raises ValueError where the tokenizer cannot be the model's own."""
    rows, tokens = config.vocab_size, tokenizer.vocab_size
    where = f"{folder / TOKENIZER_FILE} has {tokens} tokens, the model's embedding {rows} rows"
    remedy = "the tokenizer belongs to another model; put the model's own beside its weights"
    if tokens > rows:
        raise ValueError(f"{where}: the last {tokens - rows} tokens have no embedding ({remedy})")
    if rows - tokens > max(PADDING_ROWS, PADDING_SHARE * rows):
        raise ValueError(f"{where}: {rows - tokens} rows are no token, too many for padding ({remedy})")


def check_weights(folder: Path, config: ModelConfig) -> None:
    """Raises FileNotFoundError for missing weight files, ValueError for tensors that do not fit the config."""
    found: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        found |= read_shapes(path)
    expected = parameter_shapes(config)
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(f"{folder}: {len(missing)} of {len(expected)} weights are missing, the first {missing[:3]}")
    wrong = [name for name, shape in expected.items() if found[name] != shape]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{folder}: {len(wrong)} weights do not fit {CONFIG_FILE}; {name} is {found[name]}, expected "
            f"{expected[name]} (the weights belong to another model)"
        )
    unknown = [name for name in found if name not in expected and not is_redundant(name, config)]
    if unknown:
        raise ValueError(f"{folder}: {len(unknown)} weights that the {config.family} decoder lacks: {unknown[:3]}")


def is_redundant(name: str, config: ModelConfig) -> bool:
    """Tensors that some exports carry and the decoder derives: rotary tables, the copy of a tied embedding."""
    return name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and config.tied_embeddings)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, in the index's order. Raises FileNotFoundError where one is missing."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if not (folder / INDEX_FILE).is_file():
        found = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".gguf"))
        hint = f"; found {found}: convert them, or import a GGUF file" if found else ""
        raise FileNotFoundError(f"{folder} has no weights: expected {WEIGHTS_FILE} or {INDEX_FILE}{hint}")
    weight_map: dict[str, str] = read_json_object(folder / INDEX_FILE).get("weight_map", {})
    paths = [folder / name for name in dict.fromkeys(weight_map.values())]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise FileNotFoundError(f"{folder}: {INDEX_FILE} names {len(paths)} files, missing are {missing or 'all'}")
    return paths


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a safetensors file, from its header.

    Raises ValueError for a file that is cut short, is not safetensors, or holds anything but floats.
    """
    header = _read_header(path)
    header.pop("__metadata__", None)
    quantised = {name: entry["dtype"] for name, entry in header.items() if entry["dtype"] not in FLOAT_TYPES}
    if quantised:
        name, dtype = next(iter(quantised.items()))
        raise ValueError(f"{path}: {name} is {dtype}; expected one of {FLOAT_TYPES} (not quantised)")
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def _read_header(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < size else {}
        expected = 8 + length + max(entry["data_offsets"][1] for entry in header.values() if "data_offsets" in entry)
    except (struct.error, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} ({size} bytes) is not a safetensors file, or is damaged: {error}") from error
    if size != expected:
        raise ValueError(f"{path} has {size} bytes, its header promises {expected}: the file is damaged or cut short")
    return header
