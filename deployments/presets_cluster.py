"""Presets for GPUs: the paper's recipe on a cluster, and one node's worth of it."""

from deployments.scale import scaled
from tasks.configs.attributes import AttributesConfig
from tasks.configs.base import EngineResources, Resources
from tasks.configs.code_instruct import CodeInstructConfig
from tasks.configs.dialogues import DialoguesConfig
from tasks.configs.evaluate import EvaluateConfig
from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.configs.gate import GateConfig
from tasks.configs.judging import JudgingConfig, PreferencesConfig
from tasks.configs.mix import DeduplicateConfig, MixConfig, SplitPromptsConfig
from tasks.configs.plan import Plan
from tasks.configs.prompts import KeywordsConfig, PromptsConfig, TopicsConfig
from tasks.configs.responses import Responder, ResponsesConfig
from tasks.configs.training import PreferenceTuningConfig, ReferenceLogprobsConfig, RewardModelConfig, SFTConfig

LIGHT = Resources(cpus=16)
"""Stages without a model: clean-up, pairs, mixes."""

FAMILIES = {
    "open_qa": 90_000, "writing": 50_000, "closed_qa": 40_000, "maths": 50_000, "coding": 40_000,
    "instruction": 100_000, "two_turn": 20_000, "topic_keeping": 3_000, "incapable": 2_000, "function_calling": 5_000,
    "document_qa": 5_000, "table_qa": 5_000,
}  # fmt: skip
"""Prompts by family; the paper names the families, not their sizes."""

HELPSTEER2 = "HelpSteer2's labels: --set attributes.helpsteer2=FILE; without them answers are damaged on purpose"
NO_REAL_PROMPTS = (
    "all prompts are synthetic: the paper adds LMSYS-Chat-1M, ShareGPT and C4, whose terms you must accept: "
    "--set sources.lmsys.reader=lmsys_chat --set sources.lmsys.path=FOLDER, and so on (docs/data.md)"
)
CODE_IS_READ = "no generated code is run: it is parsed and judged only"


def nemotron_4_340b(scale: float = 1.0) -> Plan:
    """The paper's recipe, sections 3.1 to 3.3, on 16 nodes of eight H100."""
    writing = Resources(
        cpus=16,
        batch_rows=512,
        precision="fp8",
        engines=EngineResources(count=15, kind="vllm", tensor_parallel=8, gpus=8, cpus=16),
    )
    training = Resources(
        gpus=8, nodes=16, tensor_parallel=8, cpus=64, recompute="full", microbatch_tokens=16_384,
        checkpoint_every_s=1800.0,
    )  # fmt: skip
    sft = SFTConfig(learning_rate=3e-7, epochs=3, global_batch_size=128, max_tokens=4096, resources=training)
    dpo = PreferenceTuningConfig(
        objective="dpo", beta=1e-3, sft_weight=1e-4, learning_rate=1e-7, epochs=1, global_batch_size=256,
        max_tokens=4096, resources=training,
    )  # fmt: skip
    rpo = dpo.model_copy(
        update={"objective": "rpo", "beta": 1e-2, "eta": 1.0, "sft_weight": 1e-5, "learning_rate": 3e-7}
    )
    return Plan(
        preset="nemotron_4_340b",
        generator="hf:nvidia/Nemotron-4-340B-Instruct",
        base="hf:nvidia/Nemotron-4-340B-Base",
        notes=(
            "the paper's first generator was Mixtral-8x7B-Instruct-v0.1; the decoder has no mixture of experts, so a"
            " dense one is named: --set generator=REFERENCE takes any other",
            "both models are published in NeMo's format: convert them to Hugging Face folders, give the base a chat"
            " template, and name the folders with --set generator=… and base=…",
            HELPSTEER2,
            NO_REAL_PROMPTS,
            CODE_IS_READ,
            "where the paper gives a range or nothing, a value was chosen: general SFT and DPO rates, DPO and RPO beta,"
            " DPO's SFT weight, RPO's epochs and batch, all temperatures, the reward threshold of dialogues",
            "the settings are the paper's; Ratchet's authors had no machine to run them at this size",
        ),
        evaluation_set=EvaluationSetConfig(resources=LIGHT),
        attributes=AttributesConfig(max_tokens=512, resources=writing),
        reward_model=RewardModelConfig(
            mode="regression", epochs=2, global_batch_size=128, learning_rate=7e-7, warmup_steps=10, max_tokens=4096,
            resources=training,
        ),
        topics=TopicsConfig(n_macro=60, n_sub=60, target=3000, resources=writing),
        keywords=KeywordsConfig(
            python_target=scaled(12_000, scale), maths_target=scaled(17_000, scale), topics=3000, entities=1_000_000,
            per_topic=10, resources=writing,
        ),
        prompts=PromptsConfig(
            families={family: scaled(count, scale) for family, count in FAMILIES.items()},
            instructions_per_prompt=3,
            document_words=1500,
            per_call=10,
            max_tokens=1024,
            convert_lists=True,
            resources=writing,
        ),
        deduplicate=DeduplicateConfig(resources=LIGHT),
        split=SplitPromptsConfig(resources=LIGHT),
        dialogues=DialoguesConfig(
            rows=scaled(200_000, scale), turns=3, asking="instruct", max_tokens=1024, user_max_tokens=256,
            keep_share=0.6, shard_rows=512, resources=writing,
        ),
        code_instruct=CodeInstructConfig(
            colonies=20, generations=scaled(40, scale), population=2000, target=scaled(800_000, scale),
            instruction_temperature=1.2, code_temperature=1.0, instruction_max_tokens=512, code_max_tokens=1024,
            resources=writing,
        ),
        responses=ResponsesConfig(
            responders=(
                Responder(label="generator greedy", max_tokens=1024),
                Responder(
                    label="generator warm", temperature=1.0, top_p=0.95, samples=4, open_samples=4, max_tokens=1024
                ),
            ),
            aids=(),
            shard_rows=512,
            resources=writing,
        ),
        judging=JudgingConfig(llm_pairs=scaled(2000, scale), llm_truth_pairs=500, resources=writing),
        dpo_pairs=PreferencesConfig(objective="dpo", max_pairs=scaled(160_000, scale), resources=LIGHT),
        rpo_pairs=PreferencesConfig(
            objective="rpo", chosen_floor=0.25, max_pairs=scaled(300_000, scale), resources=LIGHT
        ),
        code_mix=MixConfig(code_share=1.0, replay_share=0.0, max_code=scaled(800_000, scale), resources=LIGHT),
        general_mix=MixConfig(
            code_share=0.02, replay_share=0.0, max_dialogues=scaled(120_000, scale), max_verified=scaled(76_000, scale),
            resources=LIGHT,
        ),
        code_sft=sft.model_copy(update={"epochs": 1}),
        general_sft=sft,
        reference_logprobs=ReferenceLogprobsConfig(resources=training),
        preference_tuning=(dpo, rpo, rpo, rpo),
        dev_exam=EvaluateConfig(half="dev", max_tokens=1024, resources=writing),
        gate_exam=EvaluateConfig(half="gate", max_tokens=1024, resources=writing),
        gate=GateConfig(resources=LIGHT),
    )  # fmt: skip


def h100_node(scale: float = 1.0) -> Plan:
    """One node of eight H100: an 8 B model that improves itself, in the paper's order, with a tenth of its rows."""
    paper = nemotron_4_340b(0.1 * scale)
    writing = Resources(cpus=8, gpus=1, batch_rows=256, engines=EngineResources(count=7, kind="vllm", gpus=1, cpus=8))
    training = Resources(gpus=8, cpus=64, recompute="full", microbatch_tokens=8192, checkpoint_every_s=600.0)
    sft = {"learning_rate": 5e-6, "warmup_steps": 20}
    dpo = {"learning_rate": 5e-7, "warmup_steps": 20, "beta": 0.1, "sft_weight": 1e-3}
    rpo = dpo | {"eta": "auto"}
    changes = {
        name: config.model_copy(update={"resources": writing if config.resources.engines.count else training})
        for name, config in paper
        if getattr(config, "resources", LIGHT) != LIGHT
    }
    changes["reward_model"] = changes["reward_model"].model_copy(update={"learning_rate": 2e-6})
    for name in ("code_sft", "general_sft"):
        changes[name] = changes[name].model_copy(update=sft)
    changes["preference_tuning"] = tuple(
        turn.model_copy(update={"resources": training} | (rpo if turn.objective == "rpo" else dpo))
        for turn in paper.preference_tuning
    )
    model = "hf:meta-llama/Llama-3.1-8B-Instruct"
    notes = (
        "generator and base are the same weights: this is self-improvement; --set base=REFERENCE names a pretrained"
        " checkpoint instead, whose tokenizer needs a chat template",
        HELPSTEER2,
        NO_REAL_PROMPTS,
        CODE_IS_READ,
        "the learning rates are usual ones for 8 B parameters, not the paper's; RPO scales its gaps by itself",
    )
    return paper.model_copy(update=changes | {"preset": "h100_node", "generator": model, "base": model, "notes": notes})
