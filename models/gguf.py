"""Import of GGUF files of the Llama architecture, quantised or not, as Hugging Face folders in fp32."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.checkpoint import save_model
from models.config import ModelConfig, RopeScaling, parameter_shapes
from models.decoder import Decoder, rotary_frequencies, scale_frequencies
from models.gguf_file import GGUFFile
from models.gguf_tokenizer import build_tokenizer

TOP_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROPE_FACTORS = "rope_freqs.weight"
"""One divisor per rotated pair: how GGUF spells Llama 3's stretched rotation."""


@dataclass(frozen=True)
class ImportedModel:
    """What the file says about itself."""

    name: str
    licence: str
    """An identifier such as "apache-2.0"; "" where the file names none."""
    config: ModelConfig


def import_gguf(path: str | Path, folder: str | Path) -> ImportedModel:
    """Write the model in a GGUF file as a Hugging Face folder.

    Raises FileNotFoundError without the file, ValueError for another architecture or a damaged file.
    """
    path, folder = Path(path), Path(folder)
    file = GGUFFile(path)
    try:
        config = read_config(file)
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}, which a Llama model needs") from error
    tokenizer = build_tokenizer(file.metadata)
    with torch.device("meta"):
        model = Decoder(config)
    model.load_state_dict(read_weights(file, config), assign=True)
    save_model(model, tokenizer, folder)
    name, licence = file.metadata.get("general.name", path.stem), file.metadata.get("general.license", "")
    return ImportedModel(name, licence, config)


def read_config(file: GGUFFile) -> ModelConfig:
    """The decoder's shape from the file's metadata. Raises ValueError where the decoder does not cover it."""
    metadata, path = file.metadata, file.path
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{path}: architecture is {architecture!r}; only 'llama' can be imported")
    values = {key.removeprefix("llama."): value for key, value in metadata.items() if key.startswith("llama.")}
    if values.get("expert_count"):
        raise ValueError(f"{path}: a mixture of {values['expert_count']} experts; only dense models can be imported")
    num_heads, hidden_size = values["attention.head_count"], values["embedding_length"]
    head_dim = values.get("attention.key_length", hidden_size // num_heads)
    if values.get("rope.dimension_count", head_dim) != head_dim:
        raise ValueError(f"{path}: rotates {values['rope.dimension_count']} of {head_dim} dimensions; expected all")
    eos = metadata.get("tokenizer.ggml.eos_token_id")
    plain = ModelConfig(
        family="llama",
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        hidden_size=hidden_size,
        intermediate_size=values["feed_forward_length"],
        num_layers=values["block_count"],
        num_heads=num_heads,
        num_kv_heads=values.get("attention.head_count_kv", num_heads),
        head_dim=head_dim,
        rope_theta=float(values.get("rope.freq_base", 10000.0)),
        # Stored as fp32: 9.999999747378752e-06 is 1e-05.
        norm_eps=float(f"{values['attention.layer_norm_rms_epsilon']:.7g}"),
        tied_embeddings="output.weight" not in file.tensors,
        max_positions=values["context_length"],
        bos_id=metadata.get("tokenizer.ggml.bos_token_id"),
        eos_ids=() if eos is None else (eos,),
        pad_id=metadata.get("tokenizer.ggml.padding_token_id"),
    )
    scaling = _read_scaling(file, plain, values)
    return plain if scaling is None else ModelConfig(**{**plain.__dict__, "rope_scaling": scaling})


def read_weights(file: GGUFFile, config: ModelConfig) -> dict[str, Tensor]:
    """Every tensor in fp32 under its Hugging Face name. Raises ValueError for one that the decoder does not have."""
    weights = {}
    for name in file.tensors.keys() - {_ROPE_FACTORS}:
        hf_name, values = _hf_name(name, file.path), file.values(name)
        if ".attn_q." in name or ".attn_k." in name:
            values = _half_rotation(values, config.head_dim)
        weights[hf_name] = torch.from_numpy(values)
    expected = parameter_shapes(config)
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    if wrong:
        name = min(wrong)
        raise ValueError(
            f"{file.path}: {len(wrong)} tensors do not fit its metadata; {name} is {found.get(name, 'missing')}, "
            f"expected {expected.get(name, 'none')}"
        )
    return weights


def _hf_name(name: str, path: Path) -> str:
    parts = name.split(".")
    if parts[0] == "blk" and parts[2] in LAYER_NAMES and parts[3:] == ["weight"]:
        return f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.weight"
    if parts[0] in TOP_NAMES and parts[1:] == ["weight"]:
        return f"{TOP_NAMES[parts[0]]}.weight"
    raise ValueError(f"{path}: tensor {name!r} has no place in the Llama decoder")


def _half_rotation(values: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of a query or key matrix from GGUF's order (pairs side by side) to ours (i beside i + head_dim / 2)."""
    rows, columns = values.shape
    heads = values.reshape(rows // head_dim, head_dim // 2, 2, columns)
    return heads.swapaxes(1, 2).reshape(rows, columns)


def _read_scaling(file: GGUFFile, plain: ModelConfig, values: Mapping[str, Any]) -> RopeScaling | None:
    kind = values.get("rope.scaling.type", "none")
    if kind == "linear":
        return RopeScaling("linear", float(values["rope.scaling.factor"]))
    if kind not in ("none", ""):
        raise ValueError(f"{file.path}: rope scaling {kind!r} is not supported; expected 'none' or 'linear'")
    if _ROPE_FACTORS not in file.tensors:
        return None
    stored = torch.from_numpy(file.values(_ROPE_FACTORS))
    scaling = RopeScaling("llama3", factor=float(stored.max()))
    frequencies = rotary_frequencies(plain, torch.device("cpu"))
    expected = frequencies / scale_frequencies(frequencies, scaling)
    if stored.shape != expected.shape or not torch.allclose(stored, expected, rtol=1e-3):
        raise ValueError(f"{file.path}: {_ROPE_FACTORS} is not Llama 3's rotation; found {stored[:8].tolist()}…")
    return scaling
