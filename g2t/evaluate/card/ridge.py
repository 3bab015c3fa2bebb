"""Ridge regression: a linear probe that chooses its strength on the rows that it learns from."""

import torch
from torch import Tensor

#: Strengths beside the mean square of the features.
STRENGTHS = tuple(10.0**power for power in range(-7, 3))


def ridge(known_BD: Tensor, true_BQ: Tensor, asked_AD: Tensor) -> Tensor:
    """Return predictions [A, Q] of a ridge regression from `known_BD` to each of Q targets.

    Each target takes the strength with the least leave-one-out error among the known rows, in
    closed form. Centred and scaled as a whole, so turning or scaling the space changes nothing.
    """
    centre_D, mean_Q = known_BD.mean(0), true_BQ.mean(0)
    known_BD, asked_AD, true_BQ = known_BD - centre_D, asked_AD - centre_D, true_BQ - mean_Q
    scale = known_BD.square().mean().sqrt().clamp(min=1e-12)
    known_BD, asked_AD, rows = known_BD / scale, asked_AD / scale, len(known_BD)
    size_D, turn_DD = torch.linalg.eigh(known_BD.t() @ known_BD)
    size_D, turned_BD = size_D.clamp(min=0), known_BD @ turn_DD
    towards_DQ = turned_BD.t() @ true_BQ
    best_Q = torch.full_like(mean_Q, torch.inf)
    said_AQ = mean_Q.expand(len(asked_AD), -1).clone()
    for strength in STRENGTHS:
        shrunk_D = 1 / (size_D + strength * rows)
        weight_DQ = shrunk_D[:, None] * towards_DQ
        leverage_B = (turned_BD.square() @ shrunk_D + 1 / rows).clamp(max=1 - 1e-9)
        missed_BQ = (true_BQ - turned_BD @ weight_DQ) / (1 - leverage_B)[:, None]
        error_Q = missed_BQ.square().sum(0)
        better_Q = error_Q < best_Q
        best_Q = torch.where(better_Q, error_Q, best_Q)
        said_AQ = torch.where(better_Q, asked_AD @ turn_DD @ weight_DQ + mean_Q, said_AQ)
    return said_AQ
