"""Ridge regression in closed form, float64, with missing labels and a penalty chosen by leave-one-group-out.

    weights = argmin ||X w + b - y||^2 + penalty * s * ||w||^2,   s = mean squared length of the centred rows of X

The penalty is free of the features' scale. Rows of a group (one prompt's answers) are left out together, which has a
closed form too: with the hat matrix H, residuals of the left-out group g are (I - H_gg)^-1 (y - H y)_g.

N = rows, G = rows of a group, D = features, A = targets, R = min(N, D).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = tuple(10.0**power for power in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2))


@dataclass(frozen=True)
class Ridge:
    weight_AD: Tensor
    bias_A: Tensor
    penalties: tuple[float, ...]
    """The one used for each target."""
    left_out_NA: Tensor
    """What each training row is predicted to be by a fit without its group; NaN where it has no label."""

    def predict(self, features_ND: Tensor) -> Tensor:
        """Targets [N, A], float64."""
        return features_ND.double().cpu() @ self.weight_AD.T + self.bias_A


def fit_ridge(
    features_ND: Tensor, targets_NA: Tensor, groups: Sequence[str], penalties: Sequence[float] = PENALTIES
) -> Ridge:
    """One regression per target over the rows that have it (NaN is missing), with the best of `penalties` each.

    A target without labels is predicted as 0, one without two groups as its mean. Raises ValueError for shapes that
    do not fit together.
    """
    if not len(features_ND) == len(targets_NA) == len(groups):
        counts = len(features_ND), len(targets_NA), len(groups)
        raise ValueError(f"features, targets and groups have {counts} rows; expected the same number")
    features_ND, targets_NA = features_ND.double().cpu(), targets_NA.double().cpu()
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    groups_N = torch.tensor([numbers[group] for group in groups])
    left_out_NA = torch.full_like(targets_NA, float("nan"))
    weight_AD = features_ND.new_zeros(targets_NA.shape[1], features_ND.shape[1])
    bias_A, used = features_ND.new_zeros(targets_NA.shape[1]), []
    for a, target_N in enumerate(targets_NA.T):
        rows = ~target_N.isnan()
        problem = _Problem(features_ND[rows], target_N[rows], groups_N[rows])
        penalty = problem.best_of(penalties)
        weight_AD[a], bias_A[a] = problem.solve(penalty)
        left_out_NA[rows, a] = problem.left_out(penalty)
        used.append(penalty)
    return Ridge(weight_AD, bias_A, tuple(used), left_out_NA)


class _Problem:
    """One target over the rows that have it, with the singular vectors that every penalty shares (R of them)."""

    def __init__(self, features_ND: Tensor, target_N: Tensor, groups_N: Tensor) -> None:
        self.target_N = target_N
        members = [(groups_N == group).nonzero()[:, 0] for group in groups_N.unique()]
        self.groups = members if len(members) > 1 else []
        self.mean = target_N.mean() if len(target_N) else target_N.sum()
        if self.groups:
            self.centre_D = features_ND.mean(0)
            self.left_NR, self.lengths_R, self.right_RD = torch.linalg.svd(
                features_ND - self.centre_D, full_matrices=False
            )
            self.scale = (self.lengths_R.square().sum() / len(target_N)).clamp(min=1e-300)

    def best_of(self, penalties: Sequence[float]) -> float:
        if not self.groups or len(penalties) == 1:
            return penalties[-1]
        errors = [float((self.left_out(penalty) - self.target_N).square().sum()) for penalty in penalties]
        return penalties[min(range(len(errors)), key=errors.__getitem__)]

    def solve(self, penalty: float) -> tuple[Tensor | float, Tensor]:
        """Weights [D] and bias."""
        if not self.groups:
            return 0.0, self.mean
        shrunk_R = self.lengths_R / (self.lengths_R.square() + penalty * self.scale)
        weight_D = (shrunk_R * (self.left_NR.T @ (self.target_N - self.mean))) @ self.right_RD
        return weight_D, self.mean - self.centre_D @ weight_D

    def left_out(self, penalty: float) -> Tensor:
        """Each row as predicted without its group, [N]."""
        if not self.groups:
            return torch.full_like(self.target_N, float("nan"))
        squares_R = self.lengths_R.square()
        shrunk_R = squares_R / (squares_R + penalty * self.scale)
        fitted_N = self.mean + self.left_NR @ (shrunk_R * (self.left_NR.T @ (self.target_N - self.mean)))
        residuals_N = self.target_N - fitted_N
        for members in self.groups:
            left_GR = self.left_NR[members]
            hat_GG = (left_GR * shrunk_R) @ left_GR.T + 1 / len(self.target_N)
            others_GG = torch.eye(len(members), dtype=torch.float64) - hat_GG
            residuals_N[members] = torch.linalg.solve(others_GG, residuals_N[members])
        return self.target_N - residuals_N
