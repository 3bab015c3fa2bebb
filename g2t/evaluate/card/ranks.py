"""Figures of ranks: the area under the curve, and Spearman's correlation; ties share their rank."""

import math

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


def spearman(one_P: Tensor, other_P: Tensor) -> float:
    """Return the correlation of ranks; nan where one side is constant."""
    if len(one_P) < 2:
        return math.nan
    one, other = ranks(one_P), ranks(other_P)
    one, other = one - one.mean(), other - other.mean()
    size = float(one.norm() * other.norm())
    return float(one @ other) / size if size > 0 else math.nan
