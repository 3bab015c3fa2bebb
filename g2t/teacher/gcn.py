"""GCN (Kipf & Welling 2017): h' = Â h W, with Â normalised once on the whole graph."""

from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear
from g2t.teacher.description import LayerFacts, LinearFacts
from g2t.teacher.frame import Structure
from g2t.teacher.stack import DescribedConvolution, Stack, StackSettings


class Convolution(DescribedConvolution):
    """PyG's GCNConv behind a linear map that takes sparse rows."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.linear = InputLinear(d_in, d_out, bias=False)
        nn.init.xavier_uniform_(self.linear.weight)
        self.aggregate = GCNConv(d_out, d_out, normalize=False)
        self.aggregate.lin = nn.Identity()

    def forward(self, features: Features, structure: Structure) -> Tensor:
        """Return Â X W + b, [N, d_out]."""
        output: Tensor = self.aggregate(self.linear(features), structure.gcn)
        return output

    def facts(self) -> LayerFacts:
        """Describe Â X W + b."""
        message = LinearFacts(weight="linear.weight")
        return LayerFacts(operator="gcn", message=message, bias="aggregate.bias")


class GCN(Stack):
    """Graph convolutional network."""

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        """Build one GCN convolution."""
        return Convolution(d_in, d_out)
