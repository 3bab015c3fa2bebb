"""GATv2 (Brody et al. 2022): attention whose ranking of neighbours depends on who asks."""

from typing import ClassVar

from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear
from g2t.teacher.frame import FrameSettings, Structure
from g2t.teacher.gat import GATSettings
from g2t.teacher.stack import Stack, StackSettings


class Convolution(nn.Module):
    """PyG's GATv2Conv behind two linear maps that take sparse rows."""

    def __init__(self, d_in: int, d_out: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.source, self.target = InputLinear(d_in, d_out), InputLinear(d_in, d_out)
        for linear in (self.source, self.target):
            nn.init.xavier_uniform_(linear.weight)
        self.aggregate = GATv2Conv((d_out, d_out), d_out // heads, heads=heads, dropout=dropout)
        self.aggregate.lin_l = nn.Identity()
        self.aggregate.lin_r = nn.Identity()

    def forward(self, features: Features, structure: Structure) -> Tensor:
        """Return the heads' sums of α W_s x_u side by side, α from W_s x_u + W_t x_v: [N, d_out].

        Every node is its own neighbour too.
        """
        pair = (self.source(features), self.target(features))
        output: Tensor = self.aggregate(pair, structure.pairs)
        return output


class GATv2(Stack):
    """Graph attention network with dynamic attention; to logits with one head."""

    Settings: ClassVar[type[FrameSettings]] = GATSettings

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        """Build one GATv2 convolution."""
        assert isinstance(settings, GATSettings)
        heads = 1 if final else settings.heads
        return Convolution(d_in, d_out, heads, settings.attention_dropout)
