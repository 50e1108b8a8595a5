"""Logits and gradients against transformers, in both directions; what was measured stands beside each bound."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models as backends
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, NemotronConfig, NemotronForCausalLM
from transformers.utils import logging

from models.checkpoint import load_model, save_model
from models.config import ModelConfig, parameter_shapes
from models.decoder import Decoder, PackedAttention, init_model
from models.tokenizer import Tokenizer

logging.disable_progress_bar()

SMALL = {"vocab_size": 160, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 2}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
REFERENCES = {
    "nemotron": lambda: NemotronForCausalLM(NemotronConfig(**SMALL, **HEADS, head_dim=16)),  # q width 96, hidden 48
    "nemotron, a quarter rotated": lambda: NemotronForCausalLM(
        NemotronConfig(**SMALL, **HEADS, head_dim=8, partial_rotary_factor=0.25, rope_theta=500.0)
    ),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, **HEADS, tie_word_embeddings=True)),
    "llama, llama3 rope, wide heads": lambda: LlamaForCausalLM(
        LlamaConfig(**SMALL, **HEADS, head_dim=32, rope_scaling=LLAMA3, rope_theta=5000.0)
    ),
    "llama, linear rope": lambda: LlamaForCausalLM(
        LlamaConfig(**SMALL, **HEADS, rope_scaling={"rope_type": "linear", "factor": 2.5})
    ),
}


def small_tokenizer(eos_id: int) -> Tokenizer:
    vocabulary = {f"w{n}": n for n in range(160)}
    return Tokenizer(Backend(backends.WordLevel(vocabulary, unk_token="w0")), eos_id=eos_id)


@pytest.fixture(params=REFERENCES, ids=lambda name: name.replace(", ", "-").replace(" ", "_"))
def reference(request):
    torch.manual_seed(7)
    model = REFERENCES[request.param]().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases away from their neutral start too
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def some_tokens(rows: int = 2, length: int = 150) -> torch.Tensor:
    return torch.randint(0, 160, (rows, length), generator=torch.Generator().manual_seed(1))


def test_a_folder_of_transformers_opens_here_with_the_same_logits_and_gradients(reference, tmp_path: Path):
    reference.save_pretrained(tmp_path)
    small_tokenizer(2).save(tmp_path)
    model, _ = load_model(tmp_path)
    tokens = some_tokens()
    ours, theirs = model(tokens), reference(tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)  # measured: 0.0
    assert theirs.std() > 0.5, "logits too flat to tell models apart"
    for logits in (ours, theirs):
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    gradients = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=0, atol=1e-6)  # measured: under 1e-7


def test_our_folder_opens_in_transformers_with_the_same_logits(reference, tmp_path: Path):
    config = ModelConfig.from_hf(reference.config.to_dict())
    model = init_model(config, seed=3)
    save_model(model, small_tokenizer(config.eos_ids[0]), tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(opened) is type(reference)
    with torch.no_grad():
        torch.testing.assert_close(opened(some_tokens()).logits, model(some_tokens()), rtol=0, atol=1e-4)  # 0.0
    again, _ = load_model(tmp_path)
    assert again.config == config
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_a_fresh_nemotron_norm_is_the_identity_scale(tmp_path: Path):
    model = init_model(ModelConfig("nemotron", 160, 48, 80, 2, 6, 2, 16, rotary_fraction=0.5), seed=0)
    hidden = torch.randn(1, 5, 48)
    expected = torch.nn.functional.layer_norm(hidden, (48,), eps=1e-5)
    torch.testing.assert_close(model.model.norm(hidden), expected)
    assert all(not p.any() for name, p in model.named_parameters() if "norm" in name)


def test_documents_in_one_row_are_the_same_as_on_their_own():
    model = init_model(ModelConfig("nemotron", 160, 48, 80, 3, 6, 2, 16, rotary_fraction=0.5, init_std=0.2), seed=1)
    lengths = [40, 17, 63]
    documents = list(some_tokens(1, sum(lengths)).split(lengths, dim=1))
    attend = PackedAttention(lengths)
    positions_1T = torch.cat([torch.arange(length) for length in lengths])[None]
    with torch.no_grad():
        packed = model(torch.cat(documents, dim=1), positions_1T, attend).split(lengths, dim=1)
        for document, logits in zip(documents, packed, strict=True):
            torch.testing.assert_close(logits, model(document), rtol=0, atol=1e-5)
        changed = [documents[0].flip(1), *documents[1:]]
        other = model(torch.cat(changed, dim=1), positions_1T, attend).split(lengths, dim=1)
    assert not torch.equal(other[0], packed[0])
    assert all(torch.equal(a, b) for a, b in zip(other[1:], packed[1:], strict=True)), "a neighbour leaked in"


CHAT = "<|im_start|>user\nName three rivers in 한국 and 17 + 25.<|im_end|>\n<|im_start|>assistant\nThe Han,"


def test_smollm2_opens_in_transformers_with_our_logits(smollm_folder: Path):
    model, tokenizer = load_model(smollm_folder)
    tokens = torch.tensor([tokenizer.encode(CHAT)])
    with torch.no_grad():
        ours, theirs = model(tokens), AutoModelForCausalLM.from_pretrained(smollm_folder)(tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)  # measured: 0.0


@pytest.mark.slow
def test_smollm2_has_the_logits_of_transformers_reading_the_gguf_file(smollm_gguf: Path, smollm_folder: Path):
    """Slow for transformers' reader; tests/models/test_gguf.py does the same with small files in every run."""
    model, tokenizer = load_model(smollm_folder)
    tokens = torch.tensor([tokenizer.encode(CHAT)])
    reference = AutoModelForCausalLM.from_pretrained(smollm_gguf.parent, gguf_file=smollm_gguf.name)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), reference(tokens).logits, rtol=0, atol=1e-4)  # measured: 0.0


PAPER_SHAPES = {  # PAPER: arXiv 2406.11704, table 1, and the released configurations of the smaller ones
    341_029_195_776: ModelConfig("nemotron", 256000, 18432, 73728, 96, 96, 8, 192, 0.5),
    15_628_775_424: ModelConfig("nemotron", 256000, 6144, 24576, 32, 48, 8, 128, 0.5),
    8_271_699_968: ModelConfig("nemotron", 256000, 4096, 16384, 32, 48, 8, 128, 0.5),
    4_190_509_056: ModelConfig("nemotron", 256000, 3072, 9216, 32, 24, 8, 128, 0.5),
}


@pytest.mark.parametrize(("parameters", "config"), PAPER_SHAPES.items(), ids=("340B", "15B", "8B", "4B"))
def test_parameter_counts_are_the_papers(parameters: int, config: ModelConfig):
    with torch.device("meta"):
        model = Decoder(config)
    found = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert config.num_parameters == parameters
    assert found == parameter_shapes(config)


def test_the_340b_splits_into_the_papers_parts():
    config = PAPER_SHAPES[341_029_195_776]
    shapes = parameter_shapes(config)
    embeddings = sum(
        rows * columns for rows, columns in (shapes["model.embed_tokens.weight"], shapes["lm_head.weight"])
    )
    matrices = sum(s[0] * s[1] for name, s in shapes.items() if len(s) == 2) - embeddings
    assert embeddings == 9_437_184_000  # printed: 9.4 B
    assert matrices == 331_584_897_024  # printed: 331.6 B
    assert json.loads(json.dumps(config.to_hf()))["head_dim"] == 192
