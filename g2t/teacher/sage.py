"""GraphSAGE with mean aggregation (Hamilton et al. 2017): h' = W_r h + mean W_n h_u."""

from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear
from g2t.teacher.description import LayerFacts, LinearFacts
from g2t.teacher.frame import Structure
from g2t.teacher.stack import DescribedConvolution, Stack, StackSettings


class Convolution(DescribedConvolution):
    """PyG's SAGEConv, transformed before it aggregates: the mean of W x is W times the mean of x.

    The order costs nothing and keeps sparse rows sparse.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.neighbour = InputLinear(d_in, d_out, bias=False)
        self.root = InputLinear(d_in, d_out)
        self.aggregate = SAGEConv((d_out, d_out), d_out, bias=False)
        self.aggregate.lin_l = nn.Identity()
        self.aggregate.lin_r = nn.Identity()

    def forward(self, features: Features, structure: Structure) -> Tensor:
        """Return W_n mean(x_u) + W_r x + b, [N, d_out]; the mean over no neighbours is zero."""
        pair = (self.neighbour(features), self.root(features))
        output: Tensor = self.aggregate(pair, structure.mean)
        return output

    def facts(self) -> LayerFacts:
        """Describe W_n mean(x_u) + W_r x + b."""
        own = LinearFacts(weight="root.weight", bias="root.bias")
        message = LinearFacts(weight="neighbour.weight")
        return LayerFacts(operator="mean", message=message, own=(own,))


class SAGE(Stack):
    """GraphSAGE."""

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        """Build one SAGE convolution."""
        return Convolution(d_in, d_out)
