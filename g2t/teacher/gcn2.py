"""GCNII (Chen et al. 2020): deep GCN that keeps its first state and stays near the identity.

h_l = relu(((1 - β_l) I + β_l W_l) ((1 - α) Â h_{l-1} + α h_0)), β_l = log(θ / l + 1), between a
linear layer with ReLU, h_0, and a linear head.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch_geometric.nn import GCN2Conv

from g2t.chance import drop
from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear, drop_entries
from g2t.teacher.frame import GNN, FrameSettings, Structure


class GCN2Settings(FrameSettings):
    """`model.*` of `gcn2`."""

    layers: int = Field(16, ge=1, description="graph convolutions")
    hidden: int = Field(64, ge=1, description="width of all layers")
    alpha: float = Field(0.1, ge=0, lt=1, description="share of the first state in every layer")
    theta: float = Field(0.5, gt=0, description="how far layers are from the identity")


class GCN2(GNN):
    """Linear layer with ReLU, L convolutions, linear head."""

    Settings: ClassVar[type[FrameSettings]] = GCN2Settings
    reads_first: ClassVar[bool] = True

    def __init__(self, features: int, classes: int, settings: GCN2Settings) -> None:
        width = settings.hidden
        super().__init__([width] * settings.layers, settings.layers)
        self.dropout = settings.dropout
        self.pre = InputLinear(features, width)
        self.convolutions = nn.ModuleList(
            GCN2Conv(width, settings.alpha, settings.theta, layer, normalize=False)
            for layer in range(1, settings.layers + 1)
        )
        self.post = nn.Linear(width, classes)

    def begin(self, features: Features) -> Features:
        """Return h_0, [N, D]."""
        return F.relu(self.pre(drop_entries(features, self.dropout, self.training)))

    def step(
        self, index: int, state: Features, structure: Structure, first: Features | None
    ) -> Tensor:
        """Return what convolution `index` makes of a state and h_0, [N, D]."""
        given = drop_entries(state, self.dropout, self.training)
        output: Tensor = self.convolutions[index](given, first, structure.gcn)
        return output

    def activate(self, index: int, state: Tensor) -> Tensor:
        """Return h of layer `index` + 1, [N, D]."""
        return F.relu(state)

    def end(self, states: Sequence[Tensor]) -> Tensor:
        """Return the head's logits of h_L, [N, C]."""
        logits_NC: Tensor = self.post(drop(states[-1], self.dropout, self.training))
        return logits_NC
