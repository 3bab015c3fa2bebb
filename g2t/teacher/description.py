"""What `model.json` says of a teacher's layers, so that they can be computed row by row.

A described layer is  h' = act(norm(Σ_u α_vu W x_u + Σ (W_own x_v + b_own) + b)). Its operator says
what α is: `gcn` Â with degrees of the whole graph, `mean` 1 / in-degree, `attention` a softmax of
scores. All names are those of tensors in `model.safetensors`, so whoever can multiply matrices can
run the teacher, without PyG. A teacher that does not fit says nothing and is run by its own code.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from g2t.config import Settings

#: How a head reads several layers at once; `none` reads the last alone.
Join = Literal["none", "max", "sum", "cat"]


class LinearFacts(Settings):
    """A linear map x W^T + b by the names of its tensors."""

    weight: str
    bias: str | None = None


class AttentionFacts(Settings):
    """GAT's scores: leaky_relu(a_source · W x_u + a_target · W x_v), per head of equal width.

    `source` and `target` are tensors of H · D/H numbers; `slope` is that of the leaky ReLU.
    """

    source: str
    target: str
    heads: int = Field(ge=1)
    slope: float


class NormFacts(Settings):
    """A norm in eval mode, by the prefix of its tensors (`weight`, `bias`, `running_mean`, …)."""

    kind: Literal["layer", "batch"]
    prefix: str
    eps: float


class LayerFacts(Settings):
    """One layer, as in the head of this file."""

    operator: Literal["gcn", "mean", "attention"]
    message: LinearFacts
    attention: AttentionFacts | None = None
    own: tuple[LinearFacts, ...] = ()
    bias: str | None = None
    norm: NormFacts | None = None
    relu: bool = False

    def below(self, prefix: str) -> "LayerFacts":
        """Return the same with a prefix before every tensor's name."""

        def named(linear: LinearFacts) -> LinearFacts:
            bias = None if linear.bias is None else prefix + linear.bias
            return LinearFacts(weight=prefix + linear.weight, bias=bias)

        attention = self.attention and self.attention.model_copy(
            update={
                "source": prefix + self.attention.source,
                "target": prefix + self.attention.target,
            }
        )
        return self.model_copy(
            update={
                "message": named(self.message),
                "attention": attention,
                "own": tuple(named(linear) for linear in self.own),
                "bias": self.bias and prefix + self.bias,
            }
        )


class Description(Settings):
    """All of a teacher: a linear layer with ReLU before, the layers, a linear head after.

    The head reads the last layer or, with `join`, all of them.
    """

    before: LinearFacts | None = None
    layers: tuple[LayerFacts, ...]
    join: Join = "none"
    after: LinearFacts | None = None


class HiddenFacts(Settings):
    """How many hidden layers a teacher has, L, and how wide they are, D (0 where there is none)."""

    layers: int = Field(ge=0)
    width: int = Field(ge=0)


def join(kind: Join, states: Sequence[Tensor]) -> Tensor:
    """Return what a head reads of states [N, D]: [N, D], or [N, L · D] for `cat`."""
    if kind == "max":
        return torch.stack(list(states)).amax(0)
    if kind == "sum":
        return torch.stack(list(states)).sum(0)
    return torch.cat(list(states), 1) if kind == "cat" else states[-1]
