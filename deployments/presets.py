"""Presets: Python functions that return a whole plan. A variant is a small edit of another one."""

from collections.abc import Callable

from deployments.presets_cluster import h100_node, nemotron_4_340b
from deployments.presets_pretraining import nemotron_4_15b
from deployments.scale import scaled
from infra.offline_model import offline_model_path
from tasks.configs.attributes import AttributesConfig
from tasks.configs.base import Resources
from tasks.configs.code_instruct import CodeInstructConfig
from tasks.configs.dialogues import DialoguesConfig
from tasks.configs.evaluate import EvaluateConfig
from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.configs.gate import GateConfig
from tasks.configs.judging import JudgingConfig, PreferencesConfig
from tasks.configs.mix import DeduplicateConfig, MixConfig
from tasks.configs.plan import ControlsPlan, Plan
from tasks.configs.pretraining_plan import PretrainingPlan
from tasks.configs.prompts import KeywordsConfig, PromptsConfig, TopicsConfig
from tasks.configs.responses import Responder, ResponsesConfig
from tasks.configs.training import (
    ModelShape,
    PreferenceTuningConfig,
    PretrainConfig,
    ReferenceLogprobsConfig,
    RewardModelConfig,
    SFTConfig,
)
from tasks.configs.world import (
    DocumentsConfig,
    HumanRowsConfig,
    ShuffleAnswersConfig,
    TokenizerConfig,
    WorldAttributesConfig,
    WorldItemsConfig,
    WorldPromptsConfig,
)

FAMILIES = {
    "open_qa": 20, "writing": 10, "closed_qa": 10, "maths": 16, "coding": 6, "instruction": 110, "two_turn": 8,
    "topic_keeping": 6, "incapable": 8, "function_calling": 6, "document_qa": 8, "table_qa": 8,
}  # fmt: skip
"""Prompts of `smollm` by family: most of what can be checked, a little of everything."""


def tiny(scale: float = 1.0) -> Plan:
    """The Nemotron architecture from nothing, in a procedural world with ground truth: minutes on two cores."""
    sft = SFTConfig(learning_rate=1e-3, epochs=6, global_batch_size=16, max_tokens=128)
    rpo = PreferenceTuningConfig(
        objective="rpo", beta=0.2, eta="auto", sft_weight=0.05, learning_rate=1e-4, steps=scaled(12, scale),
        global_batch_size=16, max_tokens=128,
    )  # fmt: skip
    return Plan(
        preset="tiny",
        notes=(
            "no code phase: so small a model writes no Python",
            "no revision calls and no written topics: its prompts are questions of a procedural world",
            "no LLM judge: so small a model cannot compare two answers",
        ),
        pretraining=PretrainingPlan(
            documents=DocumentsConfig(documents=40_000),
            continued_documents=DocumentsConfig(
                documents=40_000, seed=1, weights={"sums": 2.0, "sort": 2.0, "reverse": 2.0, "lookup": 2.0}
            ),
            tokenizer=TokenizerConfig(),
            human_rows=HumanRowsConfig(answers=80, questions=40),
            main=PretrainConfig(
                model=ModelShape(max_positions=256),
                learning_rate=5e-3,
                warmup_steps=100,
                steps=scaled(320, scale),
                tokens_per_step=2304,
                max_tokens=128,
            ),
            continued=PretrainConfig(
                learning_rate_from="base",
                schedule="wsd",
                decay_fraction=0.5,
                steps=scaled(800, scale),
                tokens_per_step=2304,
                max_tokens=128,
            ),
            teacher_sft=sft.model_copy(update={"epochs": 12}),
        ),
        evaluation_set=WorldItemsConfig(),
        attributes=WorldAttributesConfig(),
        reward_model=RewardModelConfig(max_tokens=128),
        topics=None,
        prompts=WorldPromptsConfig(asked=scaled(2400, scale)),
        deduplicate=DeduplicateConfig(similarity=1.0),
        dialogues=DialoguesConfig(
            rows=scaled(64, scale), turns=2, min_turns=1, asking="prompts", max_tokens=16, shard_rows=64
        ),
        code_instruct=None,
        responses=ResponsesConfig(
            responders=(
                Responder(label="teacher greedy", max_tokens=16),
                Responder(label="teacher warm", temperature=1.0, samples=7, open_samples=3, max_tokens=16),
            ),
            aids=(),
            shard_rows=512,
        ),
        judging=JudgingConfig(llm_pairs=0, llm_truth_pairs=0),
        dpo_pairs=PreferencesConfig(objective="dpo", chosen_floor=0.5),
        rpo_pairs=PreferencesConfig(objective="rpo", chosen_floor=0.25),
        code_mix=None,
        general_mix=MixConfig(code_share=0.0),
        code_sft=None,
        general_sft=sft,
        reference_logprobs=ReferenceLogprobsConfig(),
        preference_tuning=(rpo.model_copy(update={"objective": "dpo"}), rpo, rpo, rpo),
        dev_exam=EvaluateConfig(half="dev", max_tokens=16),
        gate_exam=EvaluateConfig(half="gate", max_tokens=16, shard_items=512),
        gate=GateConfig(),
        controls=ControlsPlan(sft=sft, shuffled_mix=ShuffleAnswersConfig()),
    )


def smollm(scale: float = 1.0) -> Plan:
    """SmolLM2-135M-Instruct as generator and base: self-improvement on a laptop, in some twenty minutes."""
    small = Resources(microbatch_tokens=1024)  # for machines with 10 GB
    sft = SFTConfig(learning_rate=5e-5, epochs=2, global_batch_size=8, max_tokens=512, resources=small)
    dpo = PreferenceTuningConfig(
        objective="dpo", beta=0.1, sft_weight=1e-2, learning_rate=1e-5, steps=scaled(6, scale), global_batch_size=8,
        max_tokens=512, resources=small,
    )  # fmt: skip
    # Milder than DPO: on so few pairs, three rounds at its rate may undo what was learnt before.
    milder = {
        "objective": "rpo",
        "eta": "auto",
        "steps": scaled(5, scale),
        "global_batch_size": 4,
        "learning_rate": 3e-6,
    }
    rpo = dpo.model_copy(update=milder)
    model = str(offline_model_path())
    return Plan(
        preset="smollm",
        generator=model,
        base=model,
        notes=(
            "generator and base are the same weights: this is self-improvement, not weak-to-strong",
            "no generated code is run: it is parsed and judged only",
        ),
        evaluation_set=EvaluationSetConfig(),
        attributes=AttributesConfig(),
        reward_model=RewardModelConfig(max_tokens=512),
        topics=TopicsConfig(),
        keywords=KeywordsConfig(),
        prompts=PromptsConfig(families={family: scaled(count, scale) for family, count in FAMILIES.items()}),
        deduplicate=DeduplicateConfig(),
        dialogues=DialoguesConfig(rows=scaled(16, scale), user_temperature=0.7, user_samples=3),
        code_instruct=CodeInstructConfig(target=scaled(16, scale), population=scaled(10, scale)),
        responses=ResponsesConfig(
            responders=(
                Responder(label="generator greedy"),
                Responder(label="generator warm", temperature=0.8, top_p=0.95, open_samples=2),
            )
        ),
        judging=JudgingConfig(truth_prompts=16),
        dpo_pairs=PreferencesConfig(objective="dpo"),
        rpo_pairs=PreferencesConfig(objective="rpo", chosen_floor=0.25, max_pairs=scaled(24, scale)),
        code_mix=MixConfig(code_share=1.0, replay_share=0.0),
        general_mix=MixConfig(),
        code_sft=sft.model_copy(update={"learning_rate": 1e-5, "epochs": 1}),
        general_sft=sft.model_copy(update={"learning_rate": 1e-4, "global_batch_size": 4}),
        reference_logprobs=ReferenceLogprobsConfig(),
        preference_tuning=(dpo, rpo, rpo, rpo),
        dev_exam=EvaluateConfig(half="dev", max_tokens=80),
        gate_exam=EvaluateConfig(half="gate", max_tokens=80, shard_items=512),
        gate=GateConfig(),
    )


def smollm_full(scale: float = 1.0) -> Plan:
    """`smollm` with ten times the data and steps: hours on a CPU."""
    return smollm(10 * scale).model_copy(update={"preset": "smollm_full"})


PRESETS: dict[str, Callable[[float], Plan]] = {
    "smollm": smollm,
    "smollm_full": smollm_full,
    "tiny": tiny,
    "h100_node": h100_node,
    "nemotron_4_340b": nemotron_4_340b,
    "nemotron_4_15b": nemotron_4_15b,
}
