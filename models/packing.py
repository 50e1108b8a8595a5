"""Examples of any length, packed end to end into single rows: no padding, and none sees another.

Positions start again in every example and attention stays inside it, so changing one example changes no other's loss
or gradient (beyond rounding, where it changes what they share). What examples of a row begin with alike stands once
(`models.forest`): a pair's prompt, a prompt that several rated answers have, the system prompt of a chat template. Only
what some trained token depends on is computed: inputs end before the last trained token, and hidden states are read
only where they predict one.

T = tokens of a row, N = places of a row that are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention import Attend, PackedAttention
from models.flops import Work
from models.forest import Forest
from models.forest_attention import ForestAttention


class Packable(Protocol):
    """What the model reads of an example."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """Token ids."""
        ...

    @property
    def reads(self) -> tuple[int, ...]:
        """Places in the inputs whose hidden states are read."""
        ...

    @property
    def targets(self) -> tuple[int, ...]:
        """The token that each of them predicts; none where they predict no token."""
        ...

    @property
    def predicted(self) -> int:
        """How many tokens that are."""
        ...

    @property
    def prompt(self) -> tuple[int, ...]:
        """What other examples may begin with, too."""
        ...


@dataclass(frozen=True)
class Document:
    """Token ids and the places (ascending, each at least 1) of those that are trained; the last token is trained."""

    token_ids: tuple[int, ...]
    trained: tuple[int, ...]

    @staticmethod
    def of(token_ids: Sequence[int], trained: Sequence[bool] | None = None) -> "Document":
        """Cut after the last trained token; without a mask all are. The first token has nothing that predicts it.

        Raises ValueError where nothing is trained.
        """
        if trained is not None and len(trained) != len(token_ids):
            raise ValueError(f"{len(token_ids)} tokens have a mask of {len(trained)}; expected one flag per token")
        places = tuple(i for i in range(1, len(token_ids)) if trained is None or trained[i])
        if not places:
            raise ValueError(f"none of a document's {len(token_ids)} tokens is trained; expected at least one")
        return Document(tuple(token_ids[: places[-1] + 1]), places)

    @property
    def inputs(self) -> tuple[int, ...]:
        """All but the last token."""
        return self.token_ids[:-1]

    @property
    def reads(self) -> tuple[int, ...]:
        return tuple(place - 1 for place in self.trained)

    @property
    def targets(self) -> tuple[int, ...]:
        return tuple(self.token_ids[place] for place in self.trained)

    @property
    def predicted(self) -> int:
        return len(self.trained)

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.token_ids[: self.trained[0]]


@dataclass(frozen=True)
class Pair:
    """A preference: two answers to one prompt, with what the loss needs beside them."""

    chosen: Document
    rejected: Document
    reference_chosen: float = 0.0
    """Summed log-probability of the chosen response under the reference model."""
    reference_rejected: float = 0.0
    chosen_reward: float = 0.0
    rejected_reward: float = 0.0


@dataclass(frozen=True)
class Rated:
    """A conversation that ends with the token at which its attributes are read; a missing label is NaN."""

    token_ids: tuple[int, ...]
    labels: tuple[float, ...]
    prompt_tokens: int = 0
    """Tokens before the answer that is rated."""

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.token_ids

    @property
    def reads(self) -> tuple[int, ...]:
        return (len(self.token_ids) - 1,)

    @property
    def targets(self) -> tuple[int, ...]:
        return ()

    @property
    def predicted(self) -> int:
        return 0

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.token_ids[: self.prompt_tokens]


def grown(sequences: Sequence[Packable]) -> Forest:
    """What the sequences take together in a row."""
    return Forest.of([sequence.inputs for sequence in sequences])


def work_of(sequences: Sequence[Packable]) -> Work:
    """Of a row that holds them."""
    forest = grown(sequences)
    return Work(forest.tokens, forest.pairs, sum(sequence.predicted for sequence in sequences))


@dataclass(frozen=True)
class PackedRow:
    """One row for the decoder, and where its hidden states are read."""

    token_ids_1T: Tensor
    forest: Forest
    sources_N: Tensor
    """Places in the row of the hidden states that are read, sequence by sequence."""
    targets_N: Tensor
    """The trained token that each of them predicts; none for rated conversations."""
    counts: list[int]
    """Places read of each sequence."""

    @property
    def positions_1T(self) -> Tensor:
        return self.forest.positions_T()[None]

    def attend(self) -> Attend:
        """For any device, in plain torch."""
        return PackedAttention(self.forest.sizes) if self.forest.apart else ForestAttention(self.forest)

    def filled(self, multiple: int) -> "PackedRow":
        """The row with tokens at its end, which nothing else sees, up to a multiple of `multiple` tokens."""
        added = -self.token_ids_1T.shape[1] % multiple
        if not added:
            return self
        return replace(self, token_ids_1T=F.pad(self.token_ids_1T, (0, added)), forest=self.forest.with_filler(added))


def pack_row(sequences: Sequence[Packable]) -> PackedRow:
    forest = grown(sequences)
    sources: list[int] = []
    for number, sequence in enumerate(sequences):
        places = forest.places(number)
        sources += [places[read] for read in sequence.reads]
    targets = [token for sequence in sequences for token in sequence.targets]
    return PackedRow(
        token_ids_1T=torch.tensor([forest.row([sequence.inputs for sequence in sequences])]),
        forest=forest,
        sources_N=torch.tensor(sources),
        targets_N=torch.tensor(targets, dtype=torch.long),
        counts=[len(sequence.reads) for sequence in sequences],
    )
