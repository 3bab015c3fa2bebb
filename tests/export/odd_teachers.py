"""Teachers that do not say what they compute: only their own code can run them."""

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear
from g2t.teacher.frame import GNN, FrameSettings, Structure


class Dynamic(nn.Module):
    """PyG's GATv2Conv, which adds self-loops itself, behind a linear map that takes sparse rows."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.linear = InputLinear(d_in, d_out)
        self.aggregate = GATv2Conv(d_out, d_out)

    def forward(self, features: Features, structure: Structure) -> Tensor:
        output: Tensor = self.aggregate(self.linear(features), structure.pairs)
        return output


class Largest(nn.Module):
    """max_u |W x_u - V x_v| + mean_u W x_u + Â V x: no sum, and of both ends of an edge."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.near, self.own = InputLinear(d_in, d_out), InputLinear(d_in, d_out)

    def forward(self, features: Features, structure: Structure) -> Tensor:
        near, own = self.near(features), self.own(features)
        source, target = structure.pairs
        apart = (near[source] - own[target]).abs()
        index = target[:, None].expand_as(apart)
        most = torch.zeros_like(own).scatter_reduce(0, index, apart, "amax")
        degree = structure.mean.crow_indices().diff().clamp(min=1)
        mean: Tensor = (structure.mean @ near) / degree[:, None]
        far: Tensor = structure.gcn @ own
        return most + mean + far


class GATv2(GNN):
    """A stack of GATv2Conv."""

    def convolution(self, d_in: int, d_out: int, settings: FrameSettings, final: bool) -> nn.Module:
        return Dynamic(d_in, d_out)


class MaxGNN(GNN):
    """A stack of `Largest`."""

    def convolution(self, d_in: int, d_out: int, settings: FrameSettings, final: bool) -> nn.Module:
        return Largest(d_in, d_out)


ODD = {"gatv2": "tests.export.odd_teachers:GATv2", "max": "tests.export.odd_teachers:MaxGNN"}
