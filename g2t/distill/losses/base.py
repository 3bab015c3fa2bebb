"""What a loss gets, what it says of itself, and the settings that all losses share.

Shape letters: `B` rows of a batch, `C` classes, `D` width, `P` pairs of neighbours.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from g2t.config import Settings
from g2t.student.base import Output

#: What a loss may ask of the cache.
Need = Literal["labels", "logits", "layers", "edges"]


class LossSettings(Settings):
    """`loss.NAME.*` that all losses share."""

    weight: float = Field(1.0, ge=0, description="0: the term is left out and costs nothing")
    share: float | None = Field(
        None, gt=0, description="gradient norm, as a share of the terms without a share"
    )
    until: float | None = Field(
        None, gt=0, le=1, description="part of the training after which a linear decay reaches 0"
    )


@dataclass(frozen=True)
class Batch:
    """What the cache says of the rows of a batch.

    `labels_B` are training labels, -1 elsewhere. Pair p says that row `source_P[p]` is an
    in-neighbour of row `target_P[p]`; only edge losses get pairs, and rows for the neighbours.
    """

    labels_B: Tensor
    logits_BC: Tensor
    layers: tuple[Tensor, ...]
    source_P: Tensor
    target_P: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return a copy on another device."""
        layers = tuple(layer.to(device) for layer in self.layers)
        rest = (tensor.to(device) for tensor in (self.source_P, self.target_P))
        return Batch(self.labels_B.to(device), self.logits_BC.to(device), layers, *rest)

    def head(self, count: int) -> "Batch":
        """Return the first `count` rows, without pairs."""
        layers = tuple(layer[:count] for layer in self.layers)
        none_P = self.source_P[:0]
        return Batch(self.labels_B[:count], self.logits_BC[:count], layers, none_P, none_P)


class Loss(nn.Module):
    """Base of all losses: `forward(output, batch)` returns a scalar, 0 where nothing applies.

    Losses with projectors learn them with the student. `teacher` holds the widths of the teacher's
    layers, `student` those of the student's blocks.
    """

    needs: ClassVar[frozenset[Need]]
    Settings: ClassVar[type[LossSettings]] = LossSettings

    def __init__(
        self, settings: LossSettings, student: tuple[int, ...], teacher: tuple[int, ...]
    ) -> None:
        super().__init__()

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        raise NotImplementedError


def nothing(output: Output) -> Tensor:
    """Return a zero that still has a gradient."""
    return output.logits_BC.sum() * 0
