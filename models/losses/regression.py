"""Attribute regression of the reward model: mean squared error over the labels that exist (paper, section 3.1).

    loss = sum((predicted - label)^2 where there is a label) / labels of the global batch

N = conversations, A = attributes (helpfulness, correctness, coherence, complexity, verbosity).
"""

from torch import Tensor


def regression_loss(
    predicted_NA: Tensor, labels_NA: Tensor, *, total_labels: float | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """A missing label is NaN. `total_labels` defaults to the labels given here; metrics add up over microbatches."""
    if predicted_NA.shape != labels_NA.shape:
        shapes = tuple(predicted_NA.shape), tuple(labels_NA.shape)
        raise ValueError(f"predictions and labels have shapes {shapes[0]} and {shapes[1]}; expected one, [N, A]")
    present_NA = ~labels_NA.isnan()
    total = float(present_NA.sum()) if total_labels is None else total_labels
    if total <= 0:
        raise ValueError(f"the batch has {total:g} labels; expected at least one row with one label")
    errors = (predicted_NA - labels_NA.nan_to_num()).masked_fill(~present_NA, 0.0)
    loss = errors.square().sum() / total
    return loss, {"loss": loss.detach()}
