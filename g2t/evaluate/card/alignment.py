"""How alike two spaces arrange the same nodes, from their Gram matrices."""

import math

from torch import Tensor


def debiased_cka(one_BB: Tensor, other_BB: Tensor) -> float:
    """Return the linear CKA of two Gram matrices by the unbiased estimator of HSIC.

    1 where one is the other turned or scaled, around 0 where they are independent however wide
    they are (plain CKA is not: Murphy et al. 2024). Formula: Song et al. 2012. nan below 4 rows and
    for spaces without any spread.
    """
    if len(one_BB) < 4:
        return math.nan
    own = _hsic(one_BB, one_BB) * _hsic(other_BB, other_BB)
    return _hsic(one_BB, other_BB) / math.sqrt(own) if own > 1e-20 else math.nan


def _hsic(one_BB: Tensor, other_BB: Tensor) -> float:
    rows = len(one_BB)
    one_BB, other_BB = _hollow(one_BB), _hollow(other_BB)
    ends = one_BB.sum() * other_BB.sum() / ((rows - 1) * (rows - 2))
    paths = 2 * (one_BB.sum(0) @ other_BB.sum(0)) / (rows - 2)
    return float(((one_BB * other_BB).sum() + ends - paths) / (rows * (rows - 3)))


def _hollow(gram_BB: Tensor) -> Tensor:
    """Return the matrix at a common scale and with zeros on its diagonal."""
    gram_BB = gram_BB / gram_BB.trace().clamp(min=1e-300) * len(gram_BB)
    return gram_BB - gram_BB.diag().diag()
