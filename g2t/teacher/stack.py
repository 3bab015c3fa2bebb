"""The stack that most teachers are: what goes round a graph convolution.

L layers, each `dropout → convolution (+ residual) → norm → activation`, optionally after a linear
layer and before one, which may read all layers at once (jumping knowledge, Xu et al. 2018).
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from g2t.chance import drop
from g2t.graph.csr import Features
from g2t.graph.linear import InputLinear, drop_entries
from g2t.teacher.description import (
    Description,
    Join,
    LayerFacts,
    LinearFacts,
    NormFacts,
    join,
)
from g2t.teacher.frame import GNN, FrameSettings, Structure

Norm = Literal["none", "layer", "batch"]


class StackSettings(FrameSettings):
    """`model.*` of a stack of convolutions."""

    hidden: int = Field(64, ge=1, description="width of the hidden layers")
    input_dropout: float | None = Field(
        None, ge=0, lt=1, description="of the features; unset: as dropout"
    )
    norm: Norm = "none"
    residual: bool = False
    pre: bool = Field(False, description="a linear layer before the convolutions")
    post: bool = Field(False, description="a linear head; else the last convolution gives logits")
    jk: Join = Field("none", description="the head reads all layers: their max, sum, or all (cat)")

    @model_validator(mode="after")
    def _has_a_head(self) -> "StackSettings":
        if self.jk != "none" and not self.post:
            raise ValueError(f"model.jk {self.jk} needs a head: model.post true")
        return self


class DescribedConvolution(nn.Module):
    """A convolution that can say what it computes, so that export runs it row by row."""

    def facts(self) -> LayerFacts:
        """Return its part of a layer; tensors are named as in its own state."""
        raise NotImplementedError


class Stack(GNN):
    """A stack of convolutions.

    Subclasses name their settings and build their convolution; the stack does the rest.
    """

    Settings: ClassVar[type[FrameSettings]] = StackSettings

    def __init__(self, features: int, classes: int, settings: StackSettings) -> None:
        width, depth = settings.hidden, settings.layers
        outputs = [width] * (depth - 1) + [width if settings.post else classes]
        hidden = depth if settings.post else depth - 1
        super().__init__(outputs, hidden, joins=settings.jk != "none")
        self.dropout, self.jk = settings.dropout, settings.jk
        given = settings.input_dropout
        self.input_dropout = settings.dropout if given is None else given
        self.pre = InputLinear(features, width) if settings.pre else None
        inputs = [width if settings.pre else features] + [width] * (depth - 1)
        self.convolutions = nn.ModuleList(
            self.convolution(d_in, d_out, settings, final=index >= self.hidden)
            for index, (d_in, d_out) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.norms = nn.ModuleList(norm_of(settings.norm, width) for _ in range(self.hidden))
        self.shortcuts = nn.ModuleList(
            InputLinear(d_in, d_out, bias=False)
            for d_in, d_out in zip(inputs, outputs, strict=True)
            if settings.residual
        )
        read = width * depth if settings.jk == "cat" else width
        self.post = nn.Linear(read, classes) if settings.post else None

    def convolution(self, d_in: int, d_out: int, settings: StackSettings, final: bool) -> nn.Module:
        """Build a convolution that maps (features, Structure) to [N, d_out]; `final`: to logits."""
        raise NotImplementedError

    def begin(self, features: Features) -> Features:
        """Return what the first convolution reads, row by row."""
        if self.pre is None:
            return features
        return F.relu(self.pre(drop_entries(features, self.input_dropout, self.training)))

    def step(
        self, index: int, state: Features, structure: Structure, first: Features | None
    ) -> Tensor:
        """Return what convolution `index`, residual and norm make of a state, [N, D]."""
        reads_features = index == 0 and self.pre is None
        rate = self.input_dropout if reads_features else self.dropout
        given = drop_entries(state, rate, self.training)
        output: Tensor = self.convolutions[index](given, structure)
        if len(self.shortcuts):
            output = output + self.shortcuts[index](given)
        if index < self.hidden:
            output = self.norms[index](output)
        return output

    def activate(self, index: int, state: Tensor) -> Tensor:
        """Apply ReLU to hidden layers; logits have none."""
        return F.relu(state) if index < self.hidden else state

    def end(self, states: Sequence[Tensor]) -> Tensor:
        """Return the logits, row by row."""
        state_ND = join(self.jk, states)
        if self.post is None:
            return state_ND
        logits_NC: Tensor = self.post(drop(state_ND, self.dropout, self.training))
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
        return Description(before=before, layers=tuple(layers), join=self.jk, after=after)

    def _norm_facts(self, index: int) -> NormFacts | None:
        norm = self.norms[index]
        if isinstance(norm, nn.LayerNorm):
            return NormFacts(kind="layer", prefix=f"norms.{index}.", eps=norm.eps)
        if isinstance(norm, nn.BatchNorm1d):
            return NormFacts(kind="batch", prefix=f"norms.{index}.", eps=norm.eps)
        return None


def norm_of(kind: Norm, width: int) -> nn.Module:
    """Build a norm."""
    if kind == "none":
        return nn.Identity()
    return nn.LayerNorm(width) if kind == "layer" else nn.BatchNorm1d(width)
