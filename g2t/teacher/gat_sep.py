"""GAT-sep (Platonov et al. 2023): a node and its neighbours in channels of their own.

For graphs on which neighbours are unlike: attention does not mix a node into them.
"""

from typing import ClassVar

from torch import Tensor, nn
from torch_geometric.nn import GATConv

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear
from g2t.teacher.frame import FrameSettings, Structure
from g2t.teacher.gat import GATSettings
from g2t.teacher.stack import Stack, StackSettings


class Convolution(nn.Module):
    """PyG's GATConv over other nodes alone, and a linear map of the node itself."""

    def __init__(self, d_in: int, d_out: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.neighbour = InputLinear(d_in, d_out, bias=False)
        nn.init.xavier_uniform_(self.neighbour.weight)
        self.own = InputLinear(d_in, d_out)
        self.aggregate = GATConv(
            d_out, d_out // heads, heads=heads, dropout=dropout, add_self_loops=False, bias=False
        )
        self.aggregate.lin = nn.Identity()

    def forward(self, features: Features, structure: Structure) -> Tensor:
        """Return W_own x_v + b + Σ α_vu W x_u, [N, d_out]; the sum over no neighbours is zero."""
        heard: Tensor = self.aggregate(self.neighbour(features), structure.others)
        output: Tensor = heard + self.own(features)
        return output


class GATSep(Stack):
    """Graph attention network with separate channels; to logits with one head."""

    Settings: ClassVar[type[FrameSettings]] = GATSettings

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        """Build one convolution with separate channels."""
        assert isinstance(settings, GATSettings)
        heads = 1 if final else settings.heads
        return Convolution(d_in, d_out, heads, settings.attention_dropout)
