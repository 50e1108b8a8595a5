"""Shapes of the models that presets name, so that a plan can be sized before their weights are fetched."""

from models.config import ModelConfig, RopeScaling

NEMOTRON_4_340B = ModelConfig(
    family="nemotron",
    vocab_size=256_000,
    hidden_size=18_432,
    intermediate_size=73_728,
    num_layers=96,
    num_heads=96,
    num_kv_heads=8,
    head_dim=192,
    rotary_fraction=0.5,
    init_std=0.0063,
    bos_id=2,
    eos_ids=(3,),
)
"""Section 2 of the paper; with its norms 341,029,195,776 parameters."""

LLAMA_3_1_8B = ModelConfig(
    family="llama",
    vocab_size=128_256,
    hidden_size=4096,
    intermediate_size=14_336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    rope_theta=500_000.0,
    rope_scaling=RopeScaling("llama3", 8.0),
    max_positions=131_072,
)

KNOWN_MODELS = {
    "hf:nvidia/Nemotron-4-340B-Base": NEMOTRON_4_340B,
    "hf:nvidia/Nemotron-4-340B-Instruct": NEMOTRON_4_340B,
    "hf:meta-llama/Llama-3.1-8B": LLAMA_3_1_8B,
    "hf:meta-llama/Llama-3.1-8B-Instruct": LLAMA_3_1_8B,
}
"""By reference."""
