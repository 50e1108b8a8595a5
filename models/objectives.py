"""What a model is trained for: what it reads of an example, how much that counts, its share of the global batch's loss.

Each objective packs a microbatch into one row, reads hidden states only where they are needed and calls a pure loss
from `models.losses`. Losses and metrics of microbatches add up to those of the global batch, however it is split.

P = preference pairs, N = trained tokens or conversations, D = hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from models.config import ModelConfig
from models.decoder import Decoder
from models.flex_attention import FlexAttention
from models.losses import Distance, dpo_loss, regression_loss, rpo_loss, sft_loss, token_logprobs
from models.packing import Document, Packable, PackedRow, Pair, Rated, pack_row
from models.parallel.workers import Workers
from models.te.layers import TETrunk

Example = TypeVar("Example", contravariant=True)
LossAndMetrics = tuple[Tensor, dict[str, Tensor]]


class Objective(Protocol[Example]):
    @property
    def config(self) -> ModelConfig:
        """The decoder's shape."""
        ...

    def sequences(self, example: Example, /) -> Sequence[Packable]:
        """What the model reads of the example."""
        ...

    def weight(self, example: Example, /) -> float:
        """What the example counts in the global batch's mean."""
        ...

    def loss(self, examples: Sequence[Example], total_weight: float, /) -> LossAndMetrics:
        """Loss of a microbatch, as its share of a global batch whose examples weigh `total_weight` together."""
        ...


class NextToken:
    """SFT and pretraining: the mean over all trained tokens of the global batch."""

    def __init__(self, model: Decoder, z_loss: float = 0.0, workers: Workers | None = None) -> None:
        """`workers`, here and below: the processes that share the model; None for this one alone."""
        self.model, self.z_loss, self.workers = model, z_loss, workers or alone_with(model)
        self.config = model.config

    def sequences(self, document: Document, /) -> Sequence[Packable]:
        return (document,)

    def weight(self, document: Document, /) -> float:
        return len(document.trained)

    def loss(self, documents: Sequence[Document], total_weight: float, /) -> LossAndMetrics:
        row = pack_row(documents)
        hidden_ND = read_hidden(self.model, row, self.workers)
        targets_N = row.targets_N.to(hidden_ND.device)
        unembedding_VD = self.model.unembedding_VD
        return sft_loss(hidden_ND, unembedding_VD, targets_N, total_tokens=total_weight, z_loss=self.z_loss)


@dataclass(frozen=True)
class PreferenceSettings:
    objective: Literal["dpo", "rpo"] = "rpo"
    beta: float = 0.1
    eta: float = 1.0
    distance: Distance = "backward_kl"
    sft_weight: float = 0.0
    """Weight of the likelihood term: minus the chosen response's summed log-probability, averaged over pairs."""

    def pair_loss(self, logprobs: Sequence[Tensor], rewards: Sequence[Tensor]) -> LossAndMetrics:
        """Loss of each pair, [P]; `logprobs`: policy chosen, rejected, reference chosen, rejected."""
        if self.objective == "dpo":
            return dpo_loss(*logprobs, beta=self.beta)
        return rpo_loss(*logprobs, *rewards, beta=self.beta, eta=self.eta, distance=self.distance)


class Preference:
    """DPO or RPO with the weighted SFT term, averaged over the global batch's pairs."""

    def __init__(self, model: Decoder, settings: PreferenceSettings, workers: Workers | None = None) -> None:
        self.model, self.settings, self.workers = model, settings, workers or alone_with(model)
        self.config = model.config

    def sequences(self, pair: Pair, /) -> Sequence[Packable]:
        return pair.chosen, pair.rejected

    def weight(self, pair: Pair, /) -> float:
        return 1.0

    def loss(self, pairs: Sequence[Pair], total_weight: float, /) -> LossAndMetrics:
        chosen_P, rejected_P = pair_logprobs(self.model, pairs, self.workers)
        reference = [(pair.reference_chosen, pair.reference_rejected) for pair in pairs]
        rewards = [(pair.chosen_reward, pair.rejected_reward) for pair in pairs]
        reference_2P, rewards_2P = (torch.tensor(values).to(chosen_P).T for values in (reference, rewards))
        losses_P, metrics = self.settings.pair_loss((chosen_P, rejected_P, *reference_2P), tuple(rewards_2P))
        loss = (losses_P.sum() - self.settings.sft_weight * chosen_P.sum()) / total_weight
        means = metrics | {"pair_loss": losses_P.detach().mean(), "chosen_nll": -chosen_P.detach().mean()}
        share = len(pairs) / total_weight
        return loss, {"loss": loss.detach()} | {name: mean * share for name, mean in means.items()}


class AttributeModel(Protocol):
    """What regression needs of a reward model (`models.reward`)."""

    decoder: Decoder

    def attributes(self, hidden_end_ND: Tensor, /) -> Tensor:
        """Predicted attributes [N, 5] from the hidden states at the end of N responses."""
        ...


class Regression:
    """Five attributes at the end of a response: the mean squared error over the global batch's labels."""

    def __init__(self, model: AttributeModel, workers: Workers | None = None) -> None:
        self.model, self.workers = model, workers or alone_with(model.decoder)
        self.config = model.decoder.config

    def sequences(self, rated: Rated, /) -> Sequence[Packable]:
        return (rated,)

    def weight(self, rated: Rated, /) -> float:
        return float(sum(label == label for label in rated.labels))

    def loss(self, rated: Sequence[Rated], total_weight: float, /) -> LossAndMetrics:
        predicted_NA = self.model.attributes(read_hidden(self.model.decoder, pack_row(rated), self.workers))
        labels_NA = torch.tensor([example.labels for example in rated]).to(predicted_NA)
        return regression_loss(predicted_NA, labels_NA, total_labels=total_weight)


def alone_with(model: Decoder) -> Workers:
    """This process and no other, on the device where the model lies."""
    return Workers(device=model.unembedding_VD.device)


def pair_logprobs(model: Decoder, pairs: Sequence[Pair], workers: Workers | None = None) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities of chosen and rejected responses, [P] each."""
    row = pack_row([document for pair in pairs for document in (pair.chosen, pair.rejected)])
    hidden_ND = read_hidden(model, row, workers)
    logprobs_N = token_logprobs(hidden_ND, model.unembedding_VD, row.targets_N.to(hidden_ND.device))
    sums = torch.stack([sequence.sum() for sequence in logprobs_N.split(row.counts)])
    return sums[0::2], sums[1::2]


def read_hidden(model: Decoder, row: PackedRow, workers: Workers | None = None) -> Tensor:
    """Hidden states of a packed row where it asks for them, [N, D]."""
    workers = workers or alone_with(model)
    # Not the weights' device: where they are offloaded it is another than that which computes.
    row, device = row.filled(workers.row_multiple), workers.device
    has_kernel = isinstance(model.model, TETrunk) and model.model.precision != "fp32"
    attend = FlexAttention(row.forest, device) if device.type == "cuda" and not has_kernel else row.attend()
    hidden_1TD = model.hidden(row.token_ids_1T.to(device), row.positions_1T.to(device), attend)
    return hidden_1TD[0].index_select(0, row.sources_N.to(device))
