"""The reward model as a judge: five attributes of an answer, and their weighted sum as its reward."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from infra.artifacts import Artifact
from infra.errors import InputError
from models.engine import Generator
from models.reward import RewardScorer, load_reward_model, scalar_reward
from tasks.configs.base import Resources
from tasks.configs.judging import JudgingConfig
from tasks.judges.base import Pair, Verdict, length_bias
from tasks.rows import ATTRIBUTES, canonical

Messages = Sequence[Mapping[str, str]]


class Scorer:
    """Scores conversations with the reward model of an artifact. A score depends on its conversation alone."""

    def __init__(self, reward_model: Artifact, resources: Resources) -> None:
        self.scorer = _open(str(reward_model.folder()), resources.gpus > 0)
        self._known: dict[str, dict[str, float]] = {}

    def score(self, prompt: Messages, answer: str) -> dict[str, float]:
        """The five attributes and "reward" of one answer to a prompt. Samples often agree: equal ones cost nothing."""
        conversation = [*prompt, {"role": "assistant", "content": answer}]
        key = canonical(conversation)
        if key not in self._known:
            (values,) = self.scorer.score([conversation])
            reward = scalar_reward(values, self.scorer.model.config.weights)
            self._known[key] = dict(zip(ATTRIBUTES, values, strict=True)) | {"reward": reward}
        return dict(self._known[key])


@lru_cache(maxsize=1)
def _open(folder: str, on_gpu: bool) -> RewardScorer:
    """Shared by the stages of a process. Raises InputError where there is no reward model with our attributes."""
    if on_gpu and not torch.cuda.is_available():
        raise InputError("the stage asks for a GPU and torch sees none", "set its resources.gpus to 0")
    try:
        model, tokenizer = load_reward_model(folder)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{folder} holds no reward model that can be opened: {error}", "train one") from error
    if model.config.attributes != ATTRIBUTES:
        raise InputError(f"{folder} scores {model.config.attributes}", f"give a reward model of {ATTRIBUTES}")
    return RewardScorer(model.to("cuda") if on_gpu else model, tokenizer)


class RewardJudge:
    """The answer with the larger scalar reward, where the rewards differ by more than the margin."""

    costly = False

    def __init__(self, config: JudgingConfig, open_engine: Callable[[], Generator]) -> None:
        del open_engine
        self.margin = config.min_margin

    def compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self._verdict(pair.first["reward"], pair.second["reward"]) for pair in pairs]

    def _verdict(self, first: float | None, second: float | None) -> Verdict:
        if first is None or second is None or abs(first - second) <= self.margin:
            return Verdict(None)
        return Verdict("first" if first > second else "second", {"margin": first - second})

    def calibrate(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> dict[str, Any]:
        decided = sum(verdict.choice is not None for verdict in verdicts)
        return {"pairs": len(pairs), "decided": decided, "length": length_bias(pairs, verdicts)}
