"""A preset that begins with texts of the user's own: the paper's pretraining (sections 2.1 to 2.4), then its loop."""

from deployments.presets_cluster import CODE_IS_READ, HELPSTEER2, LIGHT, NO_REAL_PROMPTS, h100_node
from deployments.scale import scaled
from tasks.configs.base import Resources
from tasks.configs.plan import Plan
from tasks.configs.pretraining_data import TokenizeConfig, TrainTokenizerConfig, nemotron_batch_ramp, nemotron_blend
from tasks.configs.pretraining_plan import PretrainingPlan
from tasks.configs.sources import YOURS, SourceConfig
from tasks.configs.training import ModelShape, PretrainConfig

SEQUENCE = 4096
"""Tokens."""
NEMOTRON_15B = ModelShape(
    hidden_size=6144, intermediate_size=24_576, num_layers=32, num_heads=48, num_kv_heads=8, head_dim=128,
    rotary_fraction=0.5, init_std=0.0134, max_positions=SEQUENCE,
)  # fmt: skip
"""Of the same family as the paper's model; 15.6 B parameters with a vocabulary of 256,000."""


def texts(reader: str = "plain_text") -> SourceConfig:
    """Documents of any length and number, whose place only the user knows."""
    return SourceConfig(reader=reader, path=YOURS, max_rows=10**12, max_chars=10**9)


def nemotron_4_15b(scale: float = 1.0) -> Plan:
    """Texts of your own into a 15 B model on 16 nodes of eight H100, in the paper's order; its loop on one of them."""
    loop = h100_node(scale)
    return loop.model_copy(
        update={
            "preset": "nemotron_4_15b",
            "generator": "",
            "base": "",
            "pretraining": pretraining(loop, scale),
            "notes": (
                "the first generator is the main phase's checkpoint, aligned with your human rows, and no other can be"
                " named; the paper's was another model",
                "what the paper does not give was chosen: learning rates, schedules, warm-up, weight decay, the second"
                " distribution of the continued phase and where it begins",
                "the steps are the paper's 9 T tokens: months on this cluster; --set scale=0.01 takes a hundredth of"
                " steps and rows, and the batch still grows at 200 and 400 billion tokens",
                HELPSTEER2,
                NO_REAL_PROMPTS,
                CODE_IS_READ,
                "Ratchet's authors had no machine to run this preset",
            ),
        }
    )


def pretraining(loop: Plan, scale: float) -> PretrainingPlan:
    """8 T tokens by the paper's blend and batch ramp, then 1 T that begin at the rate where those ended."""
    first_step = 768 * SEQUENCE
    main = PretrainConfig(
        model=NEMOTRON_15B,
        learning_rate=3e-4,
        schedule="cosine",
        warmup_steps=scaled(2000, scale),
        weight_decay=0.1,
        steps=scaled(900_693, scale),
        tokens_per_step=first_step,
        batch_ramp=nemotron_batch_ramp(first_step),
        mixture=nemotron_blend(),
        max_tokens=SEQUENCE,
        resources=Resources(
            gpus=8, nodes=16, replicas=16, cpus=64, recompute="full", microbatch_tokens=8192, checkpoint_every_s=1800.0
        ),
    )
    continued = {
        "learning_rate_from": "base",
        "schedule": "decay",
        "final_fraction": 0.01,
        "warmup_steps": 0,
        "steps": scaled(105_964, scale),
        "tokens_per_step": 3 * first_step,
        "batch_ramp": (),
        "second_mixture": {"english": 0.45, "multilingual": 0.10, "code": 0.15, "questions": 0.30},
        "switch_at": 0.9,
    }
    blend = {"english": texts(), "multilingual": texts(), "code": texts("python_files")}
    return PretrainingPlan(
        documents=blend,
        continued_documents=blend | {"questions": texts()},
        tokenizer=TrainTokenizerConfig(vocabulary=256_000),
        tokenize=TokenizeConfig(resources=LIGHT),
        human_rows=SourceConfig(reader="human_sft", path=YOURS),
        main=main,
        continued=main.model_copy(update=continued),
        teacher_sft=loop.general_sft,
    )
