"""Teachers that no description fits, each in its own way: only their own code can run them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear
from g2t.teacher.frame import GNN, FrameSettings, Structure
from g2t.teacher.stack import Stack, StackSettings


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


class MaxGNN(Stack):
    """A stack of `Largest`."""

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        return Largest(d_in, d_out)


class BentGNN(MaxGNN):
    """Its tensors are named as any stack's, but it does not use them as any stack does."""

    def begin(self, features: Features) -> Features:
        begun = super().begin(features)
        return begun.tanh() if isinstance(begun, Tensor) else begun.scaled(1 / (1 + begun.norms()))

    def end(self, states: Sequence[Tensor]) -> Tensor:
        return super().end(states).sinh()


class EchoGNN(GNN):
    """Reads the first state of its neighbours, in states of several widths, and joins them all."""

    Settings = FrameSettings
    reads_first = True

    def __init__(self, features: int, classes: int, settings: FrameSettings) -> None:
        super().__init__([7, 7, 5], hidden=2, joins=True)
        self.pre = InputLinear(features, 6)
        self.steps = nn.ModuleList([nn.Linear(12, 7), nn.Linear(13, 7), nn.Linear(13, 5)])
        self.head = nn.Linear(7 + 7 + 5, classes)

    def begin(self, features: Features) -> Features:
        begun: Tensor = self.pre(features)
        return begun.tanh()

    def step(
        self, index: int, state: Features, structure: Structure, first: Features | None
    ) -> Tensor:
        assert isinstance(state, Tensor)
        assert isinstance(first, Tensor)
        heard = torch.cat([structure.gcn @ state, structure.total @ first], 1)
        output: Tensor = self.steps[index](heard)
        return output.relu()

    def end(self, states: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.head(torch.cat(list(states), 1))
        return logits


#: Stacks, which take the settings of one, and others.
ODD = {
    "max": "tests.export.odd_teachers:MaxGNN",
    "bent": "tests.export.odd_teachers:BentGNN",
}
ODDER = {"echo": "tests.export.odd_teachers:EchoGNN"}
