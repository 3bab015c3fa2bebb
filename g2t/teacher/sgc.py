"""SGC (Wu et al. 2019): logits = Â^K X W + b, a linear model of K hops.

W goes first, which is the same by linearity and makes every step C wide. No state is an embedding,
so there is no hidden layer to learn from.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch_geometric.nn import SimpleConv

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear, drop_entries
from g2t.teacher.frame import GNN, FrameSettings, Structure


class SGCSettings(FrameSettings):
    """`model.*` of `sgc`."""

    layers: int = Field(2, ge=1, description="steps of propagation, K")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the features")


class SGC(GNN):
    """Linear map, K steps of propagation, bias."""

    Settings: ClassVar[type[FrameSettings]] = SGCSettings

    def __init__(self, features: int, classes: int, settings: SGCSettings) -> None:
        super().__init__([classes] * settings.layers, hidden=0)
        self.dropout = settings.dropout
        self.linear = InputLinear(features, classes, bias=False)
        self.aggregate = SimpleConv()
        self.bias = nn.Parameter(torch.zeros(classes))

    def begin(self, features: Features) -> Features:
        """Return X W, [N, C]."""
        state_NC: Tensor = self.linear(drop_entries(features, self.dropout, self.training))
        return state_NC

    def step(
        self, index: int, state: Features, structure: Structure, first: Features | None
    ) -> Tensor:
        """Return Â z, [N, C]."""
        output: Tensor = self.aggregate(state, structure.gcn)
        return output

    def end(self, states: Sequence[Tensor]) -> Tensor:
        """Return the last state and b, [N, C]."""
        return states[-1] + self.bias
