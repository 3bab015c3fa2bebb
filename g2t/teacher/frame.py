"""The frame that every teacher shares: what goes round a graph convolution.

A teacher is a stack of L layers, each `dropout → convolution (+ residual) → norm → activation`,
optionally after a linear layer and before one. Its `forward` returns a `Trace`.

Shape letters: `N` nodes, `F` features, `D` width, `C` classes, `L` layers.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from g2t.config import Settings
from g2t.graph.csr import Csr, Features
from g2t.graph.linear import InputLinear, drop_entries
from g2t.graph.structure import propagation, torch_csr, without_self_loops
from g2t.teacher.description import Description, LayerFacts, LinearFacts, NormFacts


class FrameSettings(Settings):
    """`model.*` of a teacher."""

    hidden: int = Field(64, ge=1, description="width of the hidden layers")
    layers: int = Field(2, ge=1, description="graph convolutions")
    dropout: float = Field(0.5, ge=0, lt=1)
    norm: Literal["none", "layer", "batch"] = "none"
    residual: bool = False
    pre: bool = Field(False, description="a linear layer before the convolutions")
    post: bool = Field(False, description="a linear head; else the last convolution gives logits")


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
        return torch_csr(self.edges).to(self.device)

    @cached_property
    def gcn(self) -> Tensor:
        """Â = D^-1/2 (A + I) D^-1/2 as torch CSR, with the degrees of the whole graph."""
        return propagation(self.edges, self.degree_N).matrix.to(self.device)

    @cached_property
    def pairs(self) -> Tensor:
        """(source, target) of every edge, int64 [2, E]."""
        pairs = torch.stack([self.edges.column_E.long(), self.edges.row_E])
        return pairs.to(self.device)


def structure_of(edges: Csr, device: torch.device) -> Structure:
    """Prepare a whole graph's edges for any convolution."""
    return Structure(edges, without_self_loops(edges).counts_N, device)


class DescribedConvolution(nn.Module):
    """A convolution that can say what it computes, so that export runs it row by row."""

    def facts(self) -> LayerFacts:
        """Return its part of a layer; tensors are named as in its own state."""
        raise NotImplementedError


class GNN(nn.Module):
    """A stack of convolutions in the shared frame.

    Subclasses name their settings and build their convolution; the frame does the rest.
    """

    Settings: ClassVar[type[FrameSettings]] = FrameSettings

    def __init__(self, features: int, classes: int, settings: FrameSettings) -> None:
        super().__init__()
        width, depth = settings.hidden, settings.layers
        self.dropout = settings.dropout
        self.pre = InputLinear(features, width) if settings.pre else None
        first = width if settings.pre else features
        inputs = [first] + [width] * (depth - 1)
        outputs = [width] * (depth - 1) + [width if settings.post else classes]
        self.hidden = depth if settings.post else depth - 1
        self.convolutions = nn.ModuleList(
            self.convolution(d_in, d_out, settings, final=index >= self.hidden)
            for index, (d_in, d_out) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.norms = nn.ModuleList(_norm(settings.norm, width) for _ in range(self.hidden))
        self.shortcuts = nn.ModuleList(
            InputLinear(d_in, d_out, bias=False)
            for d_in, d_out in zip(inputs, outputs, strict=True)
            if settings.residual
        )
        self.post = nn.Linear(width, classes) if settings.post else None

    def observe(self, structure: Structure) -> None:
        """Take what the training graph alone can say; most teachers take nothing."""

    @property
    def reach(self) -> int:
        """How many hops away a node may be and still change an answer."""
        return len(self.convolutions)

    def convolution(self, d_in: int, d_out: int, settings: FrameSettings, final: bool) -> nn.Module:
        """Build a convolution that maps (features, Structure) to [N, d_out]; `final`: to logits."""
        raise NotImplementedError

    def forward(self, features: Features, structure: Structure) -> Trace:
        """Return the embedding of every hidden layer and the logits, for all nodes."""
        state = self.begin(features)
        layers = []
        for index in range(len(self.convolutions)):
            state = self.step(index, state, structure)
            if index < self.hidden:
                layers.append(state)
        assert isinstance(state, Tensor)
        return Trace(tuple(layers), self.end(state))

    def begin(self, features: Features) -> Features:
        """Return what the first convolution reads, row by row."""
        if self.pre is None:
            return features
        return F.relu(self.pre(drop_entries(features, self.dropout, self.training)))

    def step(self, index: int, state: Features, structure: Structure) -> Tensor:
        """Return what convolution `index` and all that stands with it make of a state, [N, D]."""
        given = drop_entries(state, self.dropout, self.training)
        output: Tensor = self.convolutions[index](given, structure)
        if len(self.shortcuts):
            output = output + self.shortcuts[index](given)
        if index < self.hidden:
            output = F.relu(self.norms[index](output))
        return output

    def end(self, state_ND: Tensor) -> Tensor:
        """Return the logits of the last state, row by row."""
        if self.post is None:
            return state_ND
        logits_NC: Tensor = self.post(F.dropout(state_ND, self.dropout, self.training))
        return logits_NC

    def describe(self) -> Description | None:
        """Return the layers for `model.json`; None where a convolution does not describe itself."""
        layers = []
        for index, convolution in enumerate(self.convolutions):
            if not isinstance(convolution, DescribedConvolution):
                return None
            facts = convolution.facts().below(f"convolutions.{index}.")
            own = facts.own
            if len(self.shortcuts):
                own = (*own, LinearFacts(weight=f"shortcuts.{index}.weight"))
            norm = self._norm_facts(index) if index < self.hidden else None
            layers.append(
                facts.model_copy(update={"own": own, "norm": norm, "relu": index < self.hidden})
            )
        before = LinearFacts(weight="pre.weight", bias="pre.bias") if self.pre else None
        after = LinearFacts(weight="post.weight", bias="post.bias") if self.post else None
        return Description(before=before, layers=tuple(layers), after=after)

    def _norm_facts(self, index: int) -> NormFacts | None:
        norm = self.norms[index]
        if isinstance(norm, nn.LayerNorm):
            return NormFacts(kind="layer", prefix=f"norms.{index}.", eps=norm.eps)
        if isinstance(norm, nn.BatchNorm1d):
            return NormFacts(kind="batch", prefix=f"norms.{index}.", eps=norm.eps)
        return None


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.LayerNorm(width) if kind == "layer" else nn.BatchNorm1d(width)
