"""The plan: the one config tree of an iteration. Presets return one; a user's file changes parts of one."""

import hashlib
from collections.abc import Iterator
from typing import Any

from pydantic import Field, model_validator

from tasks.configs.attributes import AttributesConfig
from tasks.configs.base import Config, EndpointResources, StageConfig
from tasks.configs.code_instruct import CodeInstructConfig
from tasks.configs.dialogues import DialoguesConfig
from tasks.configs.evaluate import EvaluateConfig
from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.configs.gate import GateConfig
from tasks.configs.judging import JudgingConfig, PreferencesConfig
from tasks.configs.mix import DeduplicateConfig, MixConfig, SplitPromptsConfig
from tasks.configs.pretraining_plan import PretrainingPlan
from tasks.configs.prompts import KeywordsConfig, PromptsConfig, TopicsConfig
from tasks.configs.responses import ResponsesConfig
from tasks.configs.search import check_searches
from tasks.configs.sources import SourceConfig
from tasks.configs.training import (
    PreferenceTuningConfig,
    ReferenceLogprobsConfig,
    RewardModelConfig,
    SFTConfig,
    TrainingConfig,
)
from tasks.configs.tune import TuneConfig
from tasks.configs.world import (
    ShuffleAnswersConfig,
    WorldAttributesConfig,
    WorldItemsConfig,
    WorldPromptsConfig,
)
from tasks.rows import canonical

SEEDED = ("topics", "keywords", "prompts", "split", "dialogues", "code_instruct", "responses", "judging")
"""Stages that an iteration's number seeds: a generator that was kept still writes fresh data."""
WRITING = (*SEEDED, "attributes", "dev_exam", "gate_exam")
"""Stages in which the generator may be asked something."""


class ControlsPlan(Config):
    """What the candidate must beat to have learnt from its teacher."""

    sft: SFTConfig
    shuffled_mix: ShuffleAnswersConfig


class Plan(Config):
    """Everything that one turn of the wheel does."""

    preset: str
    """The preset that this plan came from."""
    generator: str = ""
    """Model reference of the first generator; empty where `pretraining` makes it."""
    base: str = ""
    """Model reference of the checkpoint to align; empty where `pretraining` makes it."""
    endpoint: EndpointResources = EndpointResources()
    """How the generator is spoken to where it is a hosted model (`openai:URL#NAME`)."""
    seed: int = Field(default=0, ge=0)
    salt: str = ""
    """Set by `--fresh`: another lineage from the same settings."""
    notes: tuple[str, ...] = ()
    """What this plan leaves out and why; shown in the report."""

    pretraining: PretrainingPlan | None = None
    evaluation_set: EvaluationSetConfig | WorldItemsConfig
    attributes: AttributesConfig | WorldAttributesConfig
    reward_model: RewardModelConfig

    sources: dict[str, SourceConfig] = {}
    """Public data sets that the user has copies of, and the user's own rows, by a name of the user's choice."""
    topics: TopicsConfig | None
    keywords: KeywordsConfig | None = None
    """Terms that maths and coding problems are about; none takes those that ship with the project."""
    prompts: PromptsConfig | WorldPromptsConfig
    deduplicate: DeduplicateConfig
    split: SplitPromptsConfig | None = None
    """Disjoint prompts for SFT and for preferences, as in the paper; none takes every prompt for both."""
    dialogues: DialoguesConfig
    code_instruct: CodeInstructConfig | None
    responses: ResponsesConfig
    judging: JudgingConfig
    dpo_pairs: PreferencesConfig
    rpo_pairs: PreferencesConfig
    code_mix: MixConfig | None
    general_mix: MixConfig

    code_sft: SFTConfig | None
    general_sft: SFTConfig
    reference_logprobs: ReferenceLogprobsConfig
    preference_tuning: tuple[PreferenceTuningConfig, ...]
    """In order: each turn starts from, and is anchored to, the checkpoint before it."""

    tune: TuneConfig = TuneConfig()
    """How a phase whose learning rate, beta or SFT weight is a range chooses among them."""
    dev_exam: EvaluateConfig
    gate_exam: EvaluateConfig
    gate: GateConfig
    controls: ControlsPlan | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Plan":
        if self.pretraining is None and not (self.generator and self.base):
            raise ValueError(
                f"generator={self.generator!r} and base={self.base!r}: name both models, or give a pretraining part"
            )
        if self.pretraining is not None and (self.generator or self.base):
            raise ValueError(
                f"generator={self.generator!r} and base={self.base!r}, and the pretraining part makes both: set them "
                "to '', or drop it (pretraining=null)"
            )
        if (self.code_sft is None) != (self.code_mix is None) or (self.code_mix is None) != (
            self.code_instruct is None
        ):
            raise ValueError("code_instruct, code_mix and code_sft go together: give all three or none")
        return self

    @model_validator(mode="after")
    def _a_world_of_its_own(self) -> "Plan":
        if (files := self.files()) and isinstance(self.prompts, WorldPromptsConfig):
            raise ValueError(f"{', '.join(files)}: a procedural world knows no other words than its own")
        return self

    @model_validator(mode="after")
    def _searches_what_it_examines(self) -> "Plan":
        check_searches(self._trainings(), self.dev_exam.half)
        return self

    def _trainings(self) -> dict[str, TrainingConfig]:
        """Every training of the plan by its field."""
        found: dict[str, TrainingConfig | None] = {
            "reward_model": self.reward_model,
            "code_sft": self.code_sft,
            "general_sft": self.general_sft,
            **{f"preference_tuning.{place}": turn for place, turn in enumerate(self.preference_tuning)},
        }
        if self.pretraining is not None:
            parts = ("main", "continued", "teacher_sft")
            found |= {f"pretraining.{part}": getattr(self.pretraining, part) for part in parts}
        if self.controls is not None:
            found["controls.sft"] = self.controls.sft
        return {name: config for name, config in found.items() if config is not None}

    def files(self) -> dict[str, SourceConfig]:
        """Everything of the user's own by its setting, such as "pretraining.documents.english"."""
        read = {} if self.pretraining is None else self.pretraining.sources()
        given = {f"sources.{name}": config for name, config in self.sources.items()}
        return given | {f"pretraining.{name}": config for name, config in read.items()}

    def attributes_need_generator(self) -> bool:
        """Whether a model answers the questions whose answers are then damaged."""
        return isinstance(self.attributes, AttributesConfig)

    def sft_phases(self) -> dict[str, SFTConfig]:
        """The supervised phases by label, in order (paper, section 3.3.1)."""
        code = {"code sft": self.code_sft} if self.code_sft is not None else {}
        return {**code, "general sft": self.general_sft}

    def turn_labels(self) -> list[str]:
        """Labels of the preference-tuning turns: "dpo", "rpo 1", "rpo 2", …"""
        labels, rounds = [], 0
        for turn in self.preference_tuning:
            rounds += turn.objective == "rpo"
            labels.append(f"rpo {rounds}" if turn.objective == "rpo" else "dpo")
        return labels

    def for_iteration(self, number: int) -> "Plan":
        """This plan with its data stages seeded by the iteration's number (and salted by the lineage)."""
        changes: dict[str, StageConfig] = {}
        for name in SEEDED:
            config: StageConfig | None = getattr(self, name)
            if config is not None:
                digest = hashlib.sha256(f"{self.seed}/{number}/{name}".encode()).digest()
                seed = int.from_bytes(digest[:4], "big")
                changes[name] = config.model_copy(update={"seed": seed, "salt": self.salt})
        return self.model_copy(update=changes)

    def with_endpoint(self) -> "Plan":
        """This plan with its `endpoint` in the resources of every stage that writes and has no other of its own."""
        changes: dict[str, StageConfig] = {}
        for name in WRITING:
            config: StageConfig | None = getattr(self, name)
            if config is not None and config.resources.endpoint == EndpointResources():
                resources = config.resources.model_copy(update={"endpoint": self.endpoint})
                changes[name] = config.model_copy(update={"resources": resources})
        return self.model_copy(update=changes)

    def recipe(self) -> dict[str, Any]:
        """Everything that decides what is made: all stages' recipes, no resources, no model locations."""
        return {name: _recipe(getattr(self, name)) for name in type(self).model_fields if name not in LOCATIONS}

    def digest(self) -> str:
        """The recipe's hash, 128 bits in hexadecimal."""
        return hashlib.sha256(canonical(self.recipe()).encode()).hexdigest()[:32]

    def versions(self) -> dict[str, int]:
        """Of the code of every stage that has a part in a verdict."""
        return {config.stage: config.version for config in _stages(self)}


LOCATIONS = ("generator", "base", "endpoint", "notes")


def _stages(value: Any) -> Iterator[StageConfig]:
    if isinstance(value, StageConfig):
        yield value
    elif isinstance(value, Config):
        yield from (stage for name in type(value).model_fields for stage in _stages(getattr(value, name)))
    elif isinstance(value, tuple | dict):
        yield from (stage for item in (value.values() if isinstance(value, dict) else value) for stage in _stages(item))


def _recipe(value: Any) -> Any:
    if isinstance(value, StageConfig):
        return value.recipe()
    if isinstance(value, Config):
        return {name: _recipe(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, tuple):
        return [_recipe(item) for item in value]
    if isinstance(value, dict):
        return {name: _recipe(item) for name, item in value.items()}
    return value
