"""Batches of a training run: all nodes in every step, or what `g2t.teacher.sampled` draws."""

from collections.abc import Iterator

import torch

from g2t.errors import UsageError
from g2t.graph.bundle import Graph
from g2t.graph.splits import Split
from g2t.ranks import ALONE, Ranks
from g2t.teacher.batch import Batch, Batches
from g2t.teacher.forward import observed
from g2t.teacher.settings import FANOUT, TrainSettings


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
    ranks: Ranks = ALONE,
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
    return kind(graph, split, scaling, options, fanouts, seed, device, ranks)
