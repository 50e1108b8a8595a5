"""What the jobs of an iteration hand to one another: named groups of artifacts, small enough to read at a glance."""

from typing import NamedTuple

from flows.execution import StageCall
from infra.artifacts import Artifact
from tasks.configs.plan import Plan


class Given(NamedTuple):
    """What users' and public data sets gave, by what it is for."""

    prompts: tuple[Artifact, ...] = ()
    openers: tuple[Artifact, ...] = ()
    documents: tuple[Artifact, ...] = ()
    python_files: tuple[Artifact, ...] = ()
    dialogues: tuple[Artifact, ...] = ()
    preferences: tuple[Artifact, ...] = ()
    attributes: tuple[Artifact, ...] = ()

    def named(self, *uses: str) -> dict[str, tuple[Artifact, ...]]:
        """Inputs of a stage: those of these uses that there are."""
        return {use: found for use in uses if (found := getattr(self, use))}


class Foundations(NamedTuple):
    """What an iteration stands on before it starts."""

    generator: Artifact
    base: Artifact
    reward_model: Artifact
    items: Artifact
    human: Artifact | None
    sources: Given


class Corpus(NamedTuple):
    """What pretraining reads, as tokens, and the few human rows that align the first teacher."""

    tokenizer: Artifact
    main: tuple[Artifact, ...]
    continued: tuple[Artifact, ...]
    human: Artifact


class Sets(NamedTuple):
    """What the candidate learns from."""

    code: Artifact | None
    general: Artifact
    dpo: Artifact
    rpo: Artifact


class Trained(NamedTuple):
    """A checkpoint with its evaluation on the development half."""

    model: Artifact
    evaluation: Artifact
    table: Artifact | None = None
    """Of the search that chose it, where its settings were ranges."""


class Exam(NamedTuple):
    """Everything an examination needs besides the model."""

    items: Artifact
    reward_model: Artifact
    baseline: Artifact

    def dev(self, stage: StageCall, label: str, plan: Plan, model: Artifact) -> Artifact:
        """Add the development examination of `model` to the job that makes it."""
        inputs = {"evaluation_set": self.items, "reward_model": self.reward_model, "baseline": self.baseline}
        return stage(f"{label} dev", plan.dev_exam, model=model, **inputs)


class Examined(NamedTuple):
    """The gate's verdict with the two evaluations that it compared."""

    verdict: Artifact
    candidate: Artifact
    generator: Artifact


class Turn(NamedTuple):
    """One whole iteration."""

    generator: Artifact
    base: Artifact
    data: dict[str, Artifact]
    baseline: Artifact
    steps: dict[str, Trained]
    examined: Examined
    controls: dict[str, Artifact]

    @property
    def candidate(self) -> Artifact:
        """The checkpoint of the last training step."""
        return list(self.steps.values())[-1].model
