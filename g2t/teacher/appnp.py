"""APPNP (Gasteiger et al. 2019): predict, then propagate by personalised PageRank.

Here h_0 = relu(W x + b) is propagated, h_k = (1 - α) Â h_{k-1} + α h_0, and a linear head reads
h_K, so that every step is a layer to learn from. Classic APPNP has its head before the steps; as
they are linear, that is the same but for the head's bias, which it propagates too.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch_geometric.nn import SimpleConv

from g2t.chance import drop
from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear, drop_entries
from g2t.teacher.frame import GNN, FrameSettings, Structure


class APPNPSettings(FrameSettings):
    """`model.*` of `appnp`."""

    layers: int = Field(10, ge=1, description="steps of propagation, K")
    hidden: int = Field(64, ge=1, description="width of what is propagated")
    alpha: float = Field(0.1, ge=0, lt=1, description="share of the first state in every step")


class APPNP(GNN):
    """Linear layer with ReLU, K steps of propagation, linear head."""

    Settings: ClassVar[type[FrameSettings]] = APPNPSettings
    reads_first: ClassVar[bool] = True

    def __init__(self, features: int, classes: int, settings: APPNPSettings) -> None:
        super().__init__([settings.hidden] * settings.layers, settings.layers)
        self.dropout, self.alpha = settings.dropout, settings.alpha
        self.pre = InputLinear(features, settings.hidden)
        self.aggregate = SimpleConv()
        self.post = nn.Linear(settings.hidden, classes)

    def begin(self, features: Features) -> Features:
        """Return h_0, [N, D]; in training, dropout is where classic APPNP has it."""
        state_ND = F.relu(self.pre(drop_entries(features, self.dropout, self.training)))
        return drop(state_ND, self.dropout, self.training)

    def step(
        self, index: int, state: Features, structure: Structure, first: Features | None
    ) -> Tensor:
        """Return (1 - α) Â h + α h_0, [N, D]."""
        assert isinstance(first, Tensor)
        heard_ND: Tensor = self.aggregate(state, structure.gcn)
        return (1 - self.alpha) * heard_ND + self.alpha * first

    def end(self, states: Sequence[Tensor]) -> Tensor:
        """Return the head's logits of h_K, [N, C]."""
        logits_NC: Tensor = self.post(states[-1])
        return logits_NC
