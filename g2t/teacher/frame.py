"""What every teacher is: a state that is begun from features, taken over edges, and read off.

    begin(features) → first state → step 0, activate → step 1, activate → … → end(states) = logits

`begin`, `activate` and `end` see rows alone; a step sees a row and its in-neighbours, one hop. So
training, export and checks can run a teacher whole, or block by block, without knowing which one it
is, and stop ahead of an activation.
Most teachers are a stack of convolutions (`g2t.teacher.stack`).

Shape letters: `N` nodes, `F` features, `D` width, `C` classes, `L` layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from g2t.config import Settings
from g2t.graph.csr import Csr, Features
from g2t.graph.structure import propagation, without_self_loops
from g2t.teacher.description import Description


class FrameSettings(Settings):
    """`model.*` that every teacher has; each adds what it can honour, and nothing else."""

    layers: int = Field(2, ge=1, description="steps over edges")
    dropout: float = Field(0.5, ge=0, lt=1)


@dataclass(frozen=True)
class Trace:
    """What a teacher knows: per layer the post-activation embedding h_ND, and the logits."""

    layers: tuple[Tensor, ...]
    logits_NC: Tensor


@dataclass(frozen=True)
class Structure:
    """Edges in the forms that convolutions want, each made when it is first asked for.

    Row = target, column = source. `edges` [N, N] may be a part of a larger graph; `degree_N` counts
    the in-neighbours that a node has in the whole of it, itself left out.
    """

    edges: Csr
    degree_N: Tensor
    device: torch.device

    @cached_property
    def mean(self) -> Tensor:
        """A as torch CSR, for means over the edges at hand."""
        return self.edges.tensor().to(self.device)

    @cached_property
    def total(self) -> Tensor:
        """A as torch CSR, for sums over all edges of the whole graph.

        A row that holds k of its d neighbours counts each d / k times; of a whole row all values
        are exactly 1, and so is that of a self-loop.
        """
        edges = self.edges
        share_N = self.degree_N / without_self_loops(edges).counts_N.clamp(min=1)
        row_E = edges.row_E
        value_E = torch.where(edges.column_E == row_E, 1.0, share_N[row_E])
        total = Csr(edges.start_N, edges.column_E, value_E, edges.width)
        return total.tensor().to(self.device)

    @cached_property
    def gcn(self) -> Tensor:
        """Â = D^-1/2 (A + I) D^-1/2 as torch CSR, with the degrees of the whole graph."""
        return propagation(self.edges, self.degree_N).matrix.to(self.device)

    @cached_property
    def pairs(self) -> Tensor:
        """(source, target) of every edge, int64 [2, E]."""
        return _pairs(self.edges).to(self.device)

    @cached_property
    def others(self) -> Tensor:
        """(source, target) of every edge that is no self-loop, int64 [2, E]."""
        return _pairs(without_self_loops(self.edges)).to(self.device)


def _pairs(edges: Csr) -> Tensor:
    return torch.stack([edges.column_E.long(), edges.row_E])


def structure_of(edges: Csr, device: torch.device) -> Structure:
    """Prepare a whole graph's edges for any convolution."""
    return Structure(edges, without_self_loops(edges).counts_N, device)


class GNN(nn.Module):
    """A teacher; built from the number of features, that of classes, and its settings.

    `widths` are those of the states after every step; an activation changes none. The first
    `hidden` of them are the layers that it hands out, all of one width. `joins`: the logits come
    from all states, else from the last alone. `reads_first`: a step looks at the first state too.
    """

    Settings: ClassVar[type[FrameSettings]] = FrameSettings
    reads_first: ClassVar[bool] = False

    def __init__(self, widths: Sequence[int], hidden: int, joins: bool = False) -> None:
        super().__init__()
        self.widths, self.hidden, self.joins = tuple(widths), hidden, joins

    def forward(self, features: Features, structure: Structure) -> Trace:
        """Return the embedding of every hidden layer and the logits, for all nodes."""
        first = state = self.begin(features)
        states: list[Tensor] = []
        for index in range(len(self.widths)):
            state = self.activate(index, self.step(index, state, structure, first))
            states.append(state)
        logits_NC = self.end(states if self.joins else states[-1:])
        return Trace(tuple(states[: self.hidden]), logits_NC)

    @property
    def reach(self) -> int:
        """How many hops away a node may be and still change an answer."""
        return len(self.widths)

    def observe(self, structure: Structure) -> None:
        """Take what it must know of the training graph, once, before it is trained.

        What it keeps of it belongs into buffers, so that it is saved with the weights.
        """

    def begin(self, features: Features) -> Features:
        """Return what the first step reads, row by row."""
        raise NotImplementedError

    def step(
        self, index: int, state: Features, structure: Structure, first: Features | None
    ) -> Tensor:
        """Return the state after step `index` before its activation, [N, widths[index]].

        `state` is activated; `first` are the rows of `begin` for the same nodes, None where
        `reads_first` is false.
        """
        raise NotImplementedError

    def activate(self, index: int, state: Tensor) -> Tensor:
        """Return the state after step `index`, row by row; as it is where nothing follows."""
        return state

    def end(self, states: Sequence[Tensor]) -> Tensor:
        """Return the logits [N, C], row by row, from all states or, unless it joins, the last."""
        raise NotImplementedError

    def describe(self) -> Description | None:
        """Return the layers for `model.json`; None where a description cannot say them."""
        return None
