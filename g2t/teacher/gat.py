"""GAT (Velickovic et al. 2018): attention over neighbours and the node itself, several heads."""

from typing import ClassVar

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch_geometric.nn import GATConv

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear
from g2t.teacher.description import AttentionFacts, LayerFacts, LinearFacts
from g2t.teacher.frame import FrameSettings, Structure
from g2t.teacher.stack import DescribedConvolution, Stack, StackSettings


class GATSettings(StackSettings):
    """`model.*` of `gat`: the hidden width is divided among the heads."""

    heads: int = Field(8, ge=1)
    attention_dropout: float = Field(0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> "GATSettings":
        if self.hidden % self.heads:
            raise ValueError(
                f"model.hidden {self.hidden} is no multiple of model.heads {self.heads}"
            )
        return self


class Convolution(DescribedConvolution):
    """PyG's GATConv behind a linear map that takes sparse rows."""

    def __init__(self, d_in: int, d_out: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.linear = InputLinear(d_in, d_out, bias=False)
        nn.init.xavier_uniform_(self.linear.weight)
        self.aggregate = GATConv(d_out, d_out // heads, heads=heads, dropout=dropout)
        self.aggregate.lin = nn.Identity()

    def forward(self, features: Features, structure: Structure) -> Tensor:
        """Return the heads' outputs side by side, [N, d_out]."""
        output: Tensor = self.aggregate(self.linear(features), structure.pairs)
        return output

    def facts(self) -> LayerFacts:
        """Describe the heads' weighted sums of W x_u, and b."""
        attention = AttentionFacts(
            source="aggregate.att_src",
            target="aggregate.att_dst",
            heads=self.aggregate.heads,
            slope=self.aggregate.negative_slope,
        )
        message = LinearFacts(weight="linear.weight")
        bias = "aggregate.bias"
        return LayerFacts(operator="attention", message=message, attention=attention, bias=bias)


class GAT(Stack):
    """Graph attention network; a convolution that gives logits has one head."""

    Settings: ClassVar[type[FrameSettings]] = GATSettings

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        """Build one GAT convolution."""
        assert isinstance(settings, GATSettings)
        heads = 1 if final else settings.heads
        return Convolution(d_in, d_out, heads, settings.attention_dropout)
