"""Settings of answering: who answers each prompt, how often, and how a failed answer is helped."""

from collections import Counter
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tasks.configs.base import Config, StageConfig

Aid = Literal["repair", "few_shot", "prefill"]


class Responder(Config):
    """One model at one setting."""

    label: str = Field(min_length=1)
    """Goes into the rows' `responder`."""
    model: str = "generator"
    """Name of the stage's input that answers, such as "generator" or "base"."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    samples: int = Field(default=1, ge=0)
    """Answers to a prompt whose answer can be checked."""
    open_samples: int = Field(default=1, ge=0)
    """Answers to any other prompt."""
    max_tokens: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _samples_differ(self) -> "Responder":
        most = max(self.samples, self.open_samples)
        if not most or (self.temperature == 0 and most > 1):
            raise ValueError(
                f"responder {self.label!r} gives {self.samples} and {self.open_samples} samples at temperature "
                f"{self.temperature}: give at least one, and more than one only above temperature 0, where they differ"
            )
        return self


class ResponsesConfig(StageConfig):
    """Several answers to each prompt, from at least two responders, so that there is something to choose from."""

    stage: ClassVar[str] = "responses"
    module: ClassVar[str] = "tasks.responses"
    version: ClassVar[int] = 3

    responders: tuple[Responder, ...] = (
        Responder(label="generator greedy", open_samples=1),
        Responder(label="generator warm", temperature=0.8, top_p=0.95, samples=2, open_samples=2),
    )
    max_per_family: int = Field(default=0, ge=0)
    """Prompts of each family to answer; 0 takes all."""
    aids: tuple[Aid, ...] = ("repair", "few_shot", "prefill")
    """Tried in order where no plain answer passes; the stored prompt never shows them. "repair" changes an answer by
    code, "few_shot" shows answers of the same kind that passed, "prefill" begins the answer."""
    shots: int = Field(default=2, ge=1)
    """Examples of the "few_shot" aid."""
    shard_rows: int = Field(default=64, ge=1)
    """Prompts of one shard; all their answers are generated in one batch."""

    @model_validator(mode="after")
    def _responders_differ(self) -> "ResponsesConfig":
        repeated = [label for label, times in Counter(one.label for one in self.responders).items() if times > 1]
        if len(self.responders) < 2 or repeated:
            raise ValueError(
                f"{len(self.responders)} responders with the labels {[one.label for one in self.responders]}; "
                "give at least two, each with a label of its own"
            )
        return self
