"""Normalisation of inputs, learned on the nodes of the cache and stored with the weights.

`l2` scales every row to the mean norm of the rows: bags of words of any length speak equally loud,
at the loudness of the data. `standard` gives every column mean 0 and deviation 1. `none` is raw.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from g2t.graph.csr import Csr, Features

Kind = Literal["l2", "standard", "none"]


class Normalize(nn.Module):
    """A normalisation with its learned figures as buffers."""

    shift: Tensor
    scale: Tensor

    def __init__(self, kind: Kind, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.kind = kind
        shape = shape if kind == "standard" else (1,)
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def fit(self, features: Features) -> None:
        """Learn from dense [N, …] or sparse rows."""
        if self.kind == "l2":
            norms = _norms(features)
            self.scale.fill_(norms[norms > 0].mean() if bool((norms > 0).any()) else 1.0)
        elif self.kind == "standard":
            assert isinstance(features, Tensor)
            mean, std = features.float().mean(0), features.float().std(0, unbiased=False)
            self.shift.copy_(mean)
            # A constant column tells nothing of a node, and its deviation is rounding.
            constant = std <= 1e-6 * mean.abs()
            self.scale.copy_((1 / std.clamp(min=1e-12)).masked_fill(constant, 0.0))

    def forward(self, features: Features) -> Features:
        """Return normalised rows; rows without an entry stay zero."""
        if self.kind == "none":
            return features if isinstance(features, Csr) else features.float()
        if self.kind == "standard":
            assert isinstance(features, Tensor)
            return (features.float() - self.shift) * self.scale
        return to_length(features, self.scale)


def to_length(features: Features, length: Tensor | float) -> Features:
    """Return rows of one l2 norm; those without an entry stay zero."""
    factor_N = length / _norms(features).clamp(min=1e-12)
    if isinstance(features, Csr):
        return features.scaled(factor_N)
    return features.float() * factor_N[:, None]


def _norms(features: Features) -> Tensor:
    return features.norms() if isinstance(features, Csr) else features.float().norm(dim=1)
