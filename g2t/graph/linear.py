"""The first layer of every network: a linear map and dropout over dense or sparse rows alike."""

from torch import Tensor, nn

from g2t import chance
from g2t.graph.csr import Csr, Features


class InputLinear(nn.Linear):
    """A linear map that takes dense or sparse rows: sparse ones are never made dense."""

    def forward(self, features: Features) -> Tensor:
        """Return x W^T + b, [N, D]."""
        if isinstance(features, Tensor):
            return super().forward(features)
        projected_ND = features.project(self.weight.t())
        return projected_ND if self.bias is None else projected_ND + self.bias


def drop_entries(features: Features, rate: float, training: bool) -> Features:
    """Drop entries at random and scale up the rest; of sparse rows only stored entries count."""
    if isinstance(features, Tensor):
        return chance.drop(features, rate, training)
    value_E = chance.drop_entries(features.values(), rate, training)
    return Csr(features.start_N, features.column_E, value_E, features.width)
