"""The running mean of a network's weights, as students and teachers keep it."""

import torch
from torch import nn


@torch.no_grad()
def average(averaged: nn.Module, live: nn.Module, share: float) -> None:
    """Move averaged weights and statistics by a share of the way towards the live ones."""
    for mean, value in zip(averaged.parameters(), live.parameters(), strict=True):
        mean.lerp_(value, share)
    for known, found in zip(averaged.buffers(), live.buffers(), strict=True):
        if known.is_floating_point():
            known.lerp_(found, share)
        else:
            known.copy_(found)


def fair_share(decay: float, step: int) -> float:
    """Return the share by which step 1, 2, … moves a mean that forgets by `decay` from the first.

    (1 - d) / (1 - d^t): the bias correction of Adam (Kingma & Ba 2015) applied to every step, so
    that the mean after t steps weighs value i by (1 - d) d^(t - i) / (1 - d^t), and what the
    network began with by nothing.
    """
    return (1 - decay) / (1 - decay**step)
