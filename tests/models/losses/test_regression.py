import pytest
import torch

from models.losses import regression_loss

NAN = float("nan")


def test_missing_labels_count_neither_in_loss_nor_in_gradient():
    predicted = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 1.0]], requires_grad=True)
    labels = torch.tensor([[0.0, NAN, 3.0], [NAN, NAN, 4.0]])
    loss, metrics = regression_loss(predicted, labels)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 0 + 9) / 3)
    assert metrics["loss"] == loss
    expected = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, -6.0]]) / 3
    torch.testing.assert_close(predicted.grad, expected)


def test_microbatches_add_up_to_the_batch():
    generator = torch.Generator().manual_seed(0)
    predicted, labels = torch.randn(2, 6, 5, generator=generator)
    labels[0, :4] = NAN
    whole, _ = regression_loss(predicted, labels)
    parts = [regression_loss(predicted[i : i + 2], labels[i : i + 2], total_labels=26)[0] for i in (0, 2, 4)]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


def test_wrong_batches_are_named():
    with pytest.raises(ValueError, match=r"\(2, 5\) and \(2, 4\)"):
        regression_loss(torch.zeros(2, 5), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="the batch has 0 labels"):
        regression_loss(torch.zeros(1, 2), torch.full((1, 2), NAN))
