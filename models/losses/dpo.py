"""Direct preference optimisation (DPO): raise the chosen response above the rejected one (paper, section 3.3.2).

    gap  = (logp_chosen - ref_chosen) - (logp_rejected - ref_rejected)
    loss = -log(sigmoid(beta * gap))

Log-probabilities are sums over a response's tokens. P = preference pairs.
"""

import torch.nn.functional as F
from torch import Tensor


def dpo_loss(
    policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of each pair, [P], and metrics averaged over pairs."""
    if beta <= 0:
        raise ValueError(f"beta is {beta}; expected a value above 0")
    scaled_gap = beta * policy_gap(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
    return -F.logsigmoid(scaled_gap), pair_metrics(
        policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=beta
    )


def policy_gap(
    policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor
) -> Tensor:
    """How much further than its reference the policy prefers the chosen response, in nats, [P]."""
    shapes = {tuple(t.shape) for t in (policy_chosen, policy_rejected, reference_chosen, reference_rejected)}
    if len(shapes) != 1:
        raise ValueError(f"summed log-probabilities have shapes {sorted(shapes)}; expected one, [P]")
    return (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)


def pair_metrics(
    policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float
) -> dict[str, Tensor]:
    """What to watch in preference training: both likelihoods can fall while the gap grows."""
    chosen_shift = (policy_chosen - reference_chosen).detach()
    rejected_shift = (policy_rejected - reference_rejected).detach()
    return {
        "policy_gap": beta * (chosen_shift - rejected_shift).mean(),
        "accuracy": (chosen_shift > rejected_shift).to(chosen_shift.dtype).mean(),
        "chosen_shift": chosen_shift.mean(),
        "rejected_shift": rejected_shift.mean(),
    }
