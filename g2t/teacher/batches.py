"""What a training run looks at, step by step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from g2t.errors import UsageError
from g2t.graph.bundle import Graph
from g2t.graph.csr import Features
from g2t.graph.splits import Split
from g2t.teacher.forward import observed
from g2t.teacher.frame import Structure
from g2t.teacher.settings import FANOUT, TrainSettings


@dataclass(frozen=True)
class Batch:
    """A part of the graph, or all of it, and the rows of it whose answers count, with labels."""

    features: Features
    structure: Structure
    rows_B: Tensor
    labels_B: Tensor


class Batches(Protocol):
    """Where batches come from; the same epoch gives the same ones whenever it is asked for.

    `structure` is that of all nodes of the split.
    """

    structure: Structure

    def train(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch, which cover the training nodes."""

    def val(self) -> Iterator[Batch]:
        """Return batches that cover the validation nodes, always the same."""


class Whole:
    """All nodes of the split in every step."""

    def __init__(self, graph: Graph, split: Split, scaling: str, device: torch.device) -> None:
        self.features, self.structure = observed(graph, split, scaling, device)
        labels_N = graph.labels[split.nodes]
        self.parts = {
            name: (rows.to(device), labels_N[rows].to(device))
            for name, ids in (("train", split.parts.train), ("val", split.parts.val))
            for rows in (torch.isin(split.nodes, ids).nonzero().flatten(),)
        }

    def train(self, epoch: int) -> Iterator[Batch]:
        """Return one batch: everything, and the training nodes' rows."""
        yield Batch(self.features, self.structure, *self.parts["train"])

    def val(self) -> Iterator[Batch]:
        """Return one batch: everything, and the validation nodes' rows."""
        yield Batch(self.features, self.structure, *self.parts["val"])


def make_batches(
    graph: Graph,
    split: Split,
    scaling: str,
    options: TrainSettings,
    reach: int,
    seed: int,
    device: torch.device,
) -> Batches:
    """Return what `train.batch` and `train.sampler` ask for, for a teacher of some reach in hops.

    Raises UsageError for the wrong number of fan-outs.
    """
    if options.batch is None:
        return Whole(graph, split, scaling, device)
    fanouts = options.fanouts or (FANOUT,) * reach
    if len(fanouts) != reach:
        raise UsageError(
            f"train.fanouts names {len(fanouts)} hops, this teacher reads {reach}",
            f"give {reach} numbers, e.g. --set train.fanouts={[FANOUT] * reach}",
        )
    from g2t.teacher.sampled import Clusters, Sampled  # they import PyG, which takes seconds

    kind = Clusters if options.sampler == "clusters" else Sampled
    return kind(graph, split, scaling, options, fanouts, seed, device)
