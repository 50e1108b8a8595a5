"""DPO and RPO on their own; tests/numerics/test_losses.py compares them with independent implementations."""

import pytest
import torch

from models.losses import dpo_loss, rpo_loss
from models.losses.rpo import DISTANCES

LOGPROBS = [torch.tensor(values) for values in ([-10.0, -20.0], [-12.0, -19.0], [-11.0, -20.5], [-12.5, -18.0])]


def test_dpo_metrics_say_which_likelihood_moved():
    loss, metrics = dpo_loss(*LOGPROBS, beta=0.5)
    assert loss.shape == (2,)
    assert metrics["chosen_shift"] == pytest.approx(0.75)
    assert metrics["rejected_shift"] == pytest.approx(-0.25)
    assert metrics["policy_gap"] == pytest.approx(0.5)
    assert metrics["accuracy"] == 1.0


def test_policy_equal_to_reference_is_indifferent():
    loss, metrics = dpo_loss(LOGPROBS[0], LOGPROBS[1], LOGPROBS[0], LOGPROBS[1], beta=0.1)
    torch.testing.assert_close(loss, torch.full((2,), 2.0).log())
    assert metrics["policy_gap"] == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_rpo_is_zero_with_zero_slope_where_policy_gap_meets_reward_gap(distance):
    chosen = torch.tensor([3.0], requires_grad=True)
    zero = torch.zeros(1)
    loss, metrics = rpo_loss(chosen, zero, zero, zero, torch.tensor([2.0]), torch.tensor([0.5]), beta=0.5, eta=1.0,
                             distance=distance)  # fmt: skip
    loss.sum().backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-7)
    assert chosen.grad is not None and chosen.grad.item() == pytest.approx(0.0, abs=1e-7)
    assert metrics["reward_gap"] == 1.5


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("gap", [-300.0, 300.0])
def test_rpo_stays_finite_at_extreme_gaps(distance, gap):
    chosen = torch.tensor([gap], requires_grad=True)
    zero = torch.zeros(1)
    loss, _ = rpo_loss(chosen, zero, zero, zero, torch.tensor([-gap]), zero, beta=1.0, eta=1.0, distance=distance)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert chosen.grad is not None and chosen.grad.isfinite().all()


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="beta is 0"):
        dpo_loss(*LOGPROBS, beta=0.0)
    with pytest.raises(ValueError, match=r"shapes \[\(1,\), \(2,\)\]"):
        dpo_loss(LOGPROBS[0][:1], *LOGPROBS[1:], beta=0.1)
    rewards = (torch.ones(2), torch.zeros(2))
    with pytest.raises(ValueError, match="eta is -1"):
        rpo_loss(*LOGPROBS, *rewards, beta=0.1, eta=-1.0)
    with pytest.raises(ValueError, match=r"'kl'.*backward_kl"):
        rpo_loss(*LOGPROBS, *rewards, beta=0.1, eta=1.0, distance="kl")  # pyright: ignore
