"""GIN (Xu et al. 2019): h' = MLP((1 + ε) h + Σ h_u), a sum that tells multisets apart."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GINConv

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear
from g2t.teacher.frame import FrameSettings, Structure
from g2t.teacher.stack import Norm, Stack, StackSettings, norm_of


class GINSettings(StackSettings):
    """`model.*` of `gin`: the norm stands inside of every MLP and behind it."""

    norm: Norm = "batch"


class Convolution(nn.Module):
    """PyG's GINConv with a learned ε, and an MLP of one hidden layer.

    The MLP's first linear map goes ahead of the sum, which it commutes with: rows stay sparse.
    """

    def __init__(self, d_in: int, width: int, d_out: int, norm: Norm) -> None:
        super().__init__()
        self.linear = InputLinear(d_in, width, bias=False)
        self.aggregate = GINConv(nn.Identity(), train_eps=True)
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = norm_of(norm, width)
        self.last = nn.Linear(width, d_out)

    def forward(self, features: Features, structure: Structure) -> Tensor:
        """Return W_2 relu(norm(W_1 ((1 + ε) x + Σ x_u) + b_1)) + b_2, [N, d_out]."""
        total = self.aggregate(self.linear(features), structure.total) + self.bias
        output: Tensor = self.last(F.relu(self.norm(total)))
        return output


class GIN(Stack):
    """Graph isomorphism network."""

    Settings: ClassVar[type[FrameSettings]] = GINSettings

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        """Build one GIN convolution."""
        return Convolution(d_in, settings.hidden, d_out, settings.norm)
