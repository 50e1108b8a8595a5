"""Export of Llama models as GGUF files, for programs of the llama.cpp family; models/gguf.py reads them back."""

import json
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from torch import Tensor

from models.config import ModelConfig
from models.decoder import Decoder
from models.gguf import LAYER_NAMES, TOP_NAMES
from models.gguf_tokenizer import CONTROL, USER_DEFINED, WORD_RULES
from models.tokenizer import Tokenizer

Precision = Literal["F32", "F16", "Q8_0"]
NORMAL = 1
"""Value of `tokenizer.ggml.token_type` for tokens that text is made of."""


def export_gguf(
    model: Decoder,
    tokenizer: Tokenizer,
    path: str | Path,
    precision: Precision = "F16",
    name: str = "",
    licence: str = "",
) -> None:
    """Write one file with weights, tokenizer and chat template; norms stay in fp32.

    Raises ValueError for a model or a tokenizer that GGUF's readers have no word for, before anything is written.
    """
    words = check_gguf(model.config, tokenizer)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name or Path(path).stem)
    if licence:
        writer.add_license(licence)
    _add_shape(writer, model.config)
    _add_tokenizer(writer, model.config, tokenizer, words)
    kind = gguf.GGMLQuantizationType[precision]
    for hf_name, weight in model.state_dict().items():
        _add_weight(writer, hf_name, weight, model.config, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_gguf(config: ModelConfig, tokenizer: Tokenizer) -> str:
    """GGUF's name of how the tokenizer cuts text into words. Raises ValueError where the format covers it not."""
    if config.family != "llama":
        raise ValueError(f"a {config.family} model; expected llama: GGUF's readers know no LayerNorm1P")
    if config.rope_scaling is not None:
        raise ValueError(f"rope scaling {config.rope_scaling.kind!r}; expected none")
    parts = json.loads(tokenizer.backend.to_str())
    if parts["model"]["type"] != "BPE" or parts["model"].get("byte_fallback"):
        raise ValueError(f"a tokenizer of type {parts['model']['type']}; expected byte-level BPE")
    for words, rule in WORD_RULES.items():
        if json.loads(rule.__getstate__()) == parts["pre_tokenizer"]:
            return words
    raise ValueError(f"the tokenizer cuts text by {parts['pre_tokenizer']}; known are {', '.join(WORD_RULES)}")


def _add_shape(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: gguf.GGUFWriter, config: ModelConfig, tokenizer: Tokenizer, words: str) -> None:
    added = tokenizer.backend.get_added_tokens_decoder()
    # The embedding may have more rows than there are tokens.
    tokens = [tokenizer.token(token_id) or f"<unused-{token_id}>" for token_id in range(config.vocab_size)]
    kinds = {token_id: CONTROL if token.special else USER_DEFINED for token_id, token in added.items()}
    merges = json.loads(tokenizer.backend.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words)
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token_id, NORMAL) for token_id in range(config.vocab_size)])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for add, token_id in (
        (writer.add_bos_token_id, tokenizer.bos_id),
        (writer.add_eos_token_id, config.eos_ids[0] if config.eos_ids else tokenizer.eos_id),
        (writer.add_pad_token_id, tokenizer.pad_id),
    ):
        if token_id is not None:
            add(token_id)
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _add_weight(
    writer: gguf.GGUFWriter, hf_name: str, weight: Tensor, config: ModelConfig, kind: gguf.GGMLQuantizationType
) -> None:
    if hf_name == "lm_head.weight" and config.tied_embeddings:
        return
    values = weight.detach().float().cpu().numpy()
    if "q_proj" in hf_name or "k_proj" in hf_name:
        values = _paired_rotation(values, config.head_dim)
    if values.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(_gguf_name(hf_name), values.astype(np.float32))
    else:
        writer.add_tensor(_gguf_name(hf_name), gguf.quantize(values, kind), raw_dtype=kind)


def _gguf_name(hf_name: str) -> str:
    stem = hf_name.removesuffix(".weight")
    for theirs, ours in TOP_NAMES.items():
        if stem == ours:
            return f"{theirs}.weight"
    _, _, layer, part = stem.split(".", 3)
    theirs = next(theirs for theirs, ours in LAYER_NAMES.items() if ours == part)
    return f"blk.{layer}.{theirs}.weight"


def _paired_rotation(values: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of a query or key matrix from our order (i beside i + head_dim / 2) to GGUF's (pairs side by side)."""
    rows, columns = values.shape
    heads = values.reshape(rows // head_dim, 2, head_dim // 2, columns)
    return np.ascontiguousarray(heads.swapaxes(1, 2).reshape(rows, columns))
