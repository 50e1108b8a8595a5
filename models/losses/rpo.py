"""Reward-aware preference optimisation (RPO): match the reward gap, not just its sign (paper, section 3.3.2).

    a = beta * [(logp_chosen - ref_chosen) - (logp_rejected - ref_rejected)]
    b = eta  * (reward_chosen - reward_rejected)

    backward_kl  KL(sigmoid(b) || sigmoid(a))    the paper's;  NeMo-Aligner: rpo_bwd_kl
    forward_kl   KL(sigmoid(a) || sigmoid(b))                  NeMo-Aligner: rpo_fwd_kl
    squared      (a - b)^2                                     NeMo-Aligner: rpo_sq

Not the "RPO" that adds a likelihood term to DPO. P = preference pairs.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from models.losses.dpo import pair_metrics, policy_gap

Distance = Literal["backward_kl", "forward_kl", "squared"]


def rpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    chosen_reward: Tensor,
    rejected_reward: Tensor,
    *,
    beta: float,
    eta: float,
    distance: Distance = "backward_kl",
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of each pair, [P], and metrics averaged over pairs."""
    if beta <= 0 or eta <= 0:
        raise ValueError(f"beta is {beta} and eta is {eta}; expected both above 0")
    if distance not in DISTANCES:
        raise ValueError(f"distance is {distance!r}; expected one of {sorted(DISTANCES)}")
    logprobs = (policy_chosen, policy_rejected, reference_chosen, reference_rejected)
    reward_gap = eta * (chosen_reward - rejected_reward)
    loss = DISTANCES[distance](beta * policy_gap(*logprobs), reward_gap)
    return loss, pair_metrics(*logprobs, beta=beta) | {"reward_gap": reward_gap.detach().mean()}


def bernoulli_kl(p_logit: Tensor, q_logit: Tensor) -> Tensor:
    """KL(Bernoulli(sigmoid(p_logit)) || Bernoulli(sigmoid(q_logit))), without ever taking a sigmoid's logarithm."""
    when_true = F.logsigmoid(p_logit) - F.logsigmoid(q_logit)
    when_false = F.logsigmoid(-p_logit) - F.logsigmoid(-q_logit)
    return p_logit.sigmoid() * when_true + (-p_logit).sigmoid() * when_false


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "backward_kl": lambda policy, reward: bernoulli_kl(reward, policy),
    "forward_kl": bernoulli_kl,
    "squared": lambda policy, reward: (policy - reward).square(),
}
