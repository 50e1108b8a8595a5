"""The decoder's own promises; its numbers are held against transformers in tests/numerics/test_logits.py."""

import pytest
import torch

from models.attention import CausalAttention, PackedAttention
from models.config import ModelConfig, RopeScaling
from models.decoder import Decoder, init_model

NEMOTRON = ModelConfig("nemotron", 96, 32, 64, 2, 4, 2, 16, rotary_fraction=0.5, init_std=0.2)
LLAMA = ModelConfig("llama", 96, 32, 64, 2, 4, 2, 8, tied_embeddings=True, init_std=0.2)


def tokens(length: int = 24, rows: int = 1) -> torch.Tensor:
    return torch.randint(0, 96, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", [NEMOTRON, LLAMA], ids=("nemotron", "llama"))
def test_a_token_never_sees_a_later_one(config: ModelConfig):
    model, row = init_model(config, seed=0), tokens()
    changed = row.clone()
    changed[0, 15:] = 95 - changed[0, 15:]
    with torch.no_grad():
        before, after = model(row)[0], model(changed)[0]
    assert torch.equal(before[:15], after[:15])
    assert not torch.allclose(before[15], after[15])


def test_attention_is_whatever_is_passed_in():
    """As a key-value cache does it: the second half of a row, with keys and values of the first half put before."""
    model, row = init_model(NEMOTRON, seed=0), tokens()
    cache: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def remember(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        cache[layer] = key, value
        return CausalAttention()(layer, query, key, value)

    def recall(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        key, value = (torch.cat(pair, dim=1) for pair in zip(cache[layer], (key, value), strict=True))
        padded = torch.cat([torch.zeros_like(query[:, :1]).expand(-1, 10, -1, -1), query], dim=1)
        return CausalAttention()(layer, padded, key, value)[:, 10:]

    with torch.no_grad():
        whole = model(row)
        first = model(row[:, :10], attend=remember)
        rest = model(row[:, 10:], positions_BT=torch.arange(10, 24)[None], attend=recall)
    assert set(cache) == {0, 1} and cache[0][0].shape == (1, 10, 2, 16)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scaling", [None, RopeScaling("linear", 4.0), RopeScaling("llama3", 8.0)])
def test_only_distances_between_tokens_matter(scaling: RopeScaling | None):
    model = init_model(ModelConfig("llama", 96, 32, 64, 2, 4, 2, 8, rope_scaling=scaling, init_std=0.2), seed=0)
    with torch.no_grad():
        shifted = model(tokens(), positions_BT=torch.arange(24)[None] + 100)
        torch.testing.assert_close(shifted, model(tokens()), rtol=0, atol=1e-4)
        stretched = model(tokens(), positions_BT=torch.arange(24)[None] * 3)
    assert not torch.allclose(stretched, model(tokens()), atol=1e-2)


def test_rows_of_a_batch_are_independent():
    model, batch = init_model(LLAMA, seed=0), tokens(rows=3)
    with torch.no_grad():
        for row, logits in zip(batch, model(batch), strict=True):
            torch.testing.assert_close(logits, model(row[None])[0], rtol=0, atol=1e-5)


def test_logits_are_hidden_states_times_the_unembedding():
    for config in (NEMOTRON, LLAMA):
        model = init_model(config, seed=0)
        hidden = model.hidden(tokens())
        assert torch.equal(hidden @ model.unembedding_VD.T, model(tokens()))
        assert torch.equal(model.unembed(hidden), model(tokens()))
    assert model.unembedding_VD is model.model.embed_tokens.weight
    assert "lm_head.weight" not in model.state_dict()


def test_the_same_seed_draws_the_same_weights():
    first, again, other = (init_model(NEMOTRON, seed) for seed in (5, 5, 6))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.unembedding_VD, other.unembedding_VD)
    spread = first.layers[0].mlp.up_proj.weight.std()
    assert abs(spread - NEMOTRON.init_std) < 0.02


def test_layers_can_be_recomputed_in_the_backward_pass():
    model = init_model(NEMOTRON, seed=0)
    model(tokens()).square().mean().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for layer in model.layers:
        plain = layer.forward
        layer.forward = lambda *inputs, plain=plain: torch.utils.checkpoint.checkpoint(
            plain, *inputs, use_reentrant=False
        )
    model(tokens()).square().mean().backward()
    assert all(torch.equal(p.grad, e) for p, e in zip(model.parameters(), expected, strict=True))


def test_building_on_meta_allocates_nothing_and_to_empty_can_be_loaded():
    with torch.device("meta"):
        model = Decoder(NEMOTRON)
    assert all(parameter.is_meta for parameter in model.parameters()) and not list(model.buffers())
    source = init_model(NEMOTRON, seed=0)
    model = model.to_empty(device="cpu")
    model.load_state_dict(source.state_dict())
    assert torch.equal(model(tokens()), source(tokens()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
        ({"rotary_fraction": 0.2}, "rotates 3 dimensions"),
        ({"family": "gpt"}, "family is 'gpt'"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"eos_ids": (96,)}, r"\[96\] lie outside the vocabulary of 96"),
        ({"family": "llama"}, "rotates all of a head"),
    ],
)
def test_shapes_that_cannot_work_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**NEMOTRON.__dict__, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "unknown architecture: model_type 'gpt2'"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias is true"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "rope_parameters": None}, "'yarn' is not supported"),
    ],
)
def test_configs_of_other_models_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_hf(LLAMA.to_hf() | change)


def test_configs_survive_the_trip_through_hugging_face_json():
    for config in (
        NEMOTRON,
        LLAMA,
        ModelConfig("llama", 96, 32, 64, 2, 4, 2, 8, rope_scaling=RopeScaling("linear", 2.0)),
    ):
        assert ModelConfig.from_hf(config.to_hf()) == config
    old = LLAMA.to_hf() | {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}, "rope_theta": 7.0}
    assert ModelConfig.from_hf(old).rope_scaling == RopeScaling("linear", 2.0)
    assert ModelConfig.from_hf(old).rope_theta == 7.0


def test_packed_lengths_must_fit_the_row():
    model = init_model(LLAMA, seed=0)
    with pytest.raises(ValueError, match=r"\(1, 24\) rows x tokens does not hold documents of \[10, 10\]"):
        model(tokens(), attend=PackedAttention([10, 10]))
    with pytest.raises(ValueError, match=r"\[4, 0\]"):
        PackedAttention([4, 0])
