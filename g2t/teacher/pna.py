"""PNA (Corso et al. 2020): four aggregations of neighbours, each scaled by degree in three ways.

The degree of a row is the number of its in-edges at hand: in a sampled part, of those in the part.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch_geometric.nn import PNAConv

from g2t.graph.csr import Features
from g2t.teacher.frame import FrameSettings, Structure
from g2t.teacher.stack import Stack, StackSettings

AGGREGATORS = ["mean", "min", "max", "std"]
SCALERS = ["identity", "amplification", "attenuation"]


class PNASettings(StackSettings):
    """`model.*` of `pna`: every edge holds two rows, so features are made narrow first."""

    pre: Literal[True] = Field(True, description="a linear layer before; not to be left out")


class Convolution(nn.Module):
    """PyG's PNAConv; what it must know of the training graph's degrees are buffers."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        until_observed = torch.tensor([0, 1])  # a histogram: one node with one in-edge
        self.aggregate = PNAConv(d_in, d_out, AGGREGATORS, SCALERS, until_observed)

    def forward(self, features: Features, structure: Structure) -> Tensor:
        """Return all aggregations of M [x_v, x_u], mixed with x_v by linear maps, [N, d_out]."""
        output: Tensor = self.aggregate(features, structure.pairs)
        return output

    def observe(self, degree_N: Tensor) -> None:
        """Keep the mean degree, and that of log(degree + 1), by which scalers divide."""
        scaling = self.aggregate.aggr_module
        if degree_N.any():  # without an edge there is nothing to scale
            scaling.avg_deg_lin.fill_(float(degree_N.double().mean()))
            scaling.avg_deg_log.fill_(float(degree_N.double().log1p().mean()))


class PNA(Stack):
    """Principal neighbourhood aggregation."""

    Settings: ClassVar[type[FrameSettings]] = PNASettings

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        """Build one PNA convolution."""
        return Convolution(d_in, d_out)

    def observe(self, structure: Structure) -> None:
        """Take the in-degrees of the training graph."""
        for convolution in self.convolutions:
            assert isinstance(convolution, Convolution)
            convolution.observe(structure.edges.counts_N)
