"""What a training run looks at, step by step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from g2t.chance import Part
from g2t.graph.csr import Features
from g2t.teacher.frame import Structure


@dataclass(frozen=True)
class Batch:
    """A part of the graph, or all of it, and the rows of it whose answers count, with labels.

    Of several ranks each has the part of the graph that its rows look at (`part` says which), and
    the labels of all rows that count in the step.
    """

    features: Features
    structure: Structure
    rows_B: Tensor
    labels_B: Tensor
    part: Part | None = None


class Batches(Protocol):
    """Where batches come from; the same epoch gives the same ones whenever it is asked for.

    `structure` is that of all nodes of the split.
    """

    structure: Structure

    def train(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch, which cover the training nodes."""

    def val(self) -> Iterator[Batch]:
        """Return batches that cover the validation nodes, always the same."""
