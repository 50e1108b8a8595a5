"""Reward model: a decoder whose unembedding is replaced by a linear map to five attributes (paper, section 3.2).

It is read at one token of the last answer, by default the one that ends the assistant's turn. The scalar reward is a
weighted sum of the attributes. Training, scoring and serving all encode a conversation with `encode_conversation`.

N = conversations, D = hidden size, A = attributes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.chat import Message, encode_dialogue
from models.checkpoint import THIS_PROCESS, load_model, save_model
from models.decoder import Decoder
from models.engine import Engine
from models.parallel.gather import whole
from models.parallel.workers import Workers
from models.tokenizer import Tokenizer, read_json_object

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
"""HelpSteer2's order; labels run from 0 to 4."""
REWARD_WEIGHTS = (0.3, 0.74, 0.46, 0.47, -0.33)
"""Nemotron-4-340B-Reward's model card."""

HEAD_FILE = "reward_head.safetensors"
SETTINGS_FILE = "reward.json"

ReadAt = Literal["end_of_turn", "before_end"]


@dataclass(frozen=True)
class RewardConfig:
    """Raises ValueError where weights and attributes differ in number, or for an unknown place to read at."""

    attributes: tuple[str, ...] = ATTRIBUTES
    weights: tuple[float, ...] = REWARD_WEIGHTS
    """Of each attribute in the scalar reward."""
    read_at: ReadAt = "end_of_turn"
    """The token whose hidden state is read: the one that ends the assistant's turn, or the one before it."""

    def __post_init__(self) -> None:
        if len(self.attributes) != len(self.weights):
            raise ValueError(f"{len(self.weights)} weights for {len(self.attributes)} attributes; expected one each")
        if self.read_at not in ("end_of_turn", "before_end"):
            raise ValueError(f"read_at is {self.read_at!r}; expected 'end_of_turn' or 'before_end'")


class RewardModel(nn.Module):
    def __init__(self, decoder: Decoder, config: RewardConfig | None = None) -> None:
        """The head starts at zero: every attribute 0 until it is trained or set."""
        super().__init__()
        self.config = config or RewardConfig()
        self.decoder = decoder
        self.head = nn.Linear(decoder.config.hidden_size, len(self.config.attributes))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def attributes(self, hidden_end_ND: Tensor) -> Tensor:
        """[N, A] out of final-norm hidden states of the tokens that are read."""
        return self.head(hidden_end_ND)


class Encoded(NamedTuple):
    token_ids: list[int]
    """Up to the end of the last answer."""
    place: int
    """Of the token to read."""
    answer_at: int
    """Of the last answer's first token."""


def encode_conversation(tokenizer: Tokenizer, messages: Sequence[Message], read_at: ReadAt = "end_of_turn") -> Encoded:
    """Raises ValueError where the conversation does not end with the assistant."""
    if not messages or messages[-1]["role"] != "assistant":
        roles = [message["role"] for message in messages]
        raise ValueError(f"a conversation of {roles} cannot be scored; expected the assistant's answer at its end")
    token_ids, trained = encode_dialogue(tokenizer, messages, last_turn_only=True)
    end = len(trained) - 1 - trained[::-1].index(True)
    return Encoded(token_ids[: end + 1], end if read_at == "end_of_turn" else end - 1, trained.index(True))


class RewardScorer:
    """Reads conversations with the weights that a model has now; after training it, make another one."""

    def __init__(self, model: RewardModel, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.engine = Engine(model.decoder, tokenizer)

    def features(self, conversations: Sequence[Sequence[Message]]) -> Tensor:
        """Hidden states [N, D] at the token that is read, which the head maps to attributes.

        Raises ValueError for a conversation that does not end with the assistant or does not fit the model's context.
        """
        read_at = self.model.config.read_at
        encoded = [encode_conversation(self.tokenizer, messages, read_at) for messages in conversations]
        return self.engine.embed([one.token_ids[: one.place + 1] for one in encoded])

    @torch.no_grad()
    def score(self, conversations: Sequence[Sequence[Message]]) -> list[list[float]]:
        """The attributes of each conversation's last answer, in the order of `model.config.attributes`."""
        # One row at a time: the last bits of a plain matrix product depend on its number of rows.
        return [self.model.attributes(row_D[None])[0].tolist() for row_D in self.features(conversations)]


def scalar_reward(attributes: Sequence[float], weights: Sequence[float] = REWARD_WEIGHTS) -> float:
    """Weighted sum. Raises ValueError for a different number of attributes than weights."""
    return sum(weight * value for weight, value in zip(weights, attributes, strict=True))


def save_reward_model(
    model: RewardModel, tokenizer: Tokenizer, folder: str | Path, workers: Workers = THIS_PROCESS
) -> None:
    """A Hugging Face folder of the decoder, with the head and how it is read beside it.

    All processes that share the model call it, and the first one writes.
    """
    folder = Path(folder)
    save_model(model.decoder, tokenizer, folder, workers=workers)
    head = whole_head(model, workers)
    if workers.rank == 0:
        save_file(head, folder / HEAD_FILE)
        _write_settings(model.config, tokenizer, folder)


def whole_head(model: RewardModel, workers: Workers) -> dict[str, Tensor]:
    return {name: whole(weight, workers) for name, weight in model.head.state_dict().items()}


def _write_settings(config: RewardConfig, tokenizer: Tokenizer, folder: Path) -> None:
    settings: dict[str, Any] = {
        "attributes": list(config.attributes),
        "weights": list(config.weights),
        "read_at": config.read_at,
        "tokenizer": tokenizer.digest(),
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_reward_model(
    folder: str | Path, load: Callable[[str | Path], tuple[Decoder, Tokenizer]] = load_model
) -> tuple[RewardModel, Tokenizer]:
    """In eval mode, fp32 on the CPU, its decoder as `load` opens it.

    Raises FileNotFoundError or ValueError, as `load_model` does; also where the tokenizer or chat template is no
    longer the one that the head was trained with, which would shift every score.
    """
    folder = Path(folder)
    missing = [name for name in (HEAD_FILE, SETTINGS_FILE) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} is not a reward model: it lacks {missing}; expected a head beside the model")
    settings = read_json_object(folder / SETTINGS_FILE)
    decoder, tokenizer = load(folder)
    if settings["tokenizer"] != tokenizer.digest():
        raise ValueError(
            f"{folder}: the tokenizer or chat template changed since the head was trained (digest "
            f"{tokenizer.digest()}, expected {settings['tokenizer']}); put the original files back"
        )
    config = RewardConfig(tuple(settings["attributes"]), tuple(settings["weights"]), settings["read_at"])
    model = RewardModel(decoder, config)
    model.head.load_state_dict(load_file(folder / HEAD_FILE))
    return model.eval(), tokenizer
