"""Figures of ranks: the area under the curve, and Spearman's correlation; ties share their rank."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def ranks(values_P: Tensor) -> Tensor:
    """Return ranks from 1, the mean of its places for every tie, float64 [P]."""
    _, which_P, count = torch.unique(values_P, return_inverse=True, return_counts=True)
    rank_P: Tensor = (count.cumsum(0) - (count - 1) / 2).double()[which_P]
    return rank_P


def auc(higher_P: Tensor, lower_P: Tensor) -> float:
    """Return how often one of the first is above one of the second, ties half; nan for none."""
    if not len(higher_P) or not len(lower_P):
        return math.nan
    above = float(ranks(torch.cat([higher_P, lower_P]))[: len(higher_P)].sum())
    above -= len(higher_P) * (len(higher_P) + 1) / 2
    return above / (len(higher_P) * len(lower_P))


def spearman(one_P: Tensor, other_P: Tensor, given: Sequence[Tensor] = ()) -> float:
    """Return the correlation of ranks; nan where one side is constant.

    With `given`, the partial one: of what a linear fit to the ranks of these leaves of both sides.
    """
    if len(one_P) < 2:
        return math.nan
    both_P2 = torch.stack([_centred(one_P), _centred(other_P)], 1)
    size_2 = both_P2.norm(dim=0)
    if given:
        known_PX = torch.stack([_centred(values_P) for values_P in given], 1)
        both_P2 = (
            both_P2 - known_PX @ torch.linalg.lstsq(known_PX, both_P2, driver="gelsd").solution
        )
    left_2 = both_P2.norm(dim=0)
    if bool((left_2 <= 1e-9 * size_2).any()):
        return math.nan
    return float(both_P2[:, 0] @ both_P2[:, 1]) / float(left_2.prod())


def _centred(values_P: Tensor) -> Tensor:
    rank_P = ranks(values_P)
    return rank_P - rank_P.mean()
