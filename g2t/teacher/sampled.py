"""Batches of a part of the graph: drawn neighbourhoods, or clusters with all edges among them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader

from g2t.chance import Part
from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr, from_pairs, take_rows
from g2t.graph.scaling import scale_features
from g2t.graph.splits import Split
from g2t.graph.structure import induced
from g2t.ranks import ALONE, Ranks
from g2t.teacher.batch import Batch
from g2t.teacher.clusters import cluster
from g2t.teacher.forward import observed_edges
from g2t.teacher.frame import Structure, structure_of
from g2t.teacher.sampling import NeighbourSampler
from g2t.teacher.settings import TrainSettings


class Sampled:
    """Some seeds per step with neighbours drawn for them; features stay where they are.

    A node's batches are drawn anew in every epoch, from the seed and the epoch's number alone. Of
    several ranks each keeps of what was drawn what its part of the seeds looks at.
    """

    def __init__(
        self,
        graph: Graph,
        split: Split,
        scaling: str,
        options: TrainSettings,
        fanouts: Sequence[int],
        seed: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.graph, self.split, self.scaling = graph, split, scaling
        self.options, self.fanouts, self.seed, self.device = options, fanouts, seed, device
        edges = observed_edges(graph, split)
        self.structure = structure_of(edges, device)
        self.data = Data(num_nodes=len(edges), edge_index=torch.empty(2, 0, dtype=torch.int64))

    def train(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch: every training node is a seed once, in random order."""
        return self._load(self.split.parts.train, self._generator(epoch), shuffle=True)

    def val(self) -> Iterator[Batch]:
        """Return the validation nodes in their order, the same neighbours in every epoch."""
        return self._load(self.split.parts.val, self._generator(-1), shuffle=False)

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + epoch + 1) % 2**63)

    def _load(self, ids: Tensor, generator: torch.Generator, shuffle: bool) -> Iterator[Batch]:
        loader = NodeLoader(
            self.data,
            NeighbourSampler(self.structure.edges, self.fanouts, generator),
            input_nodes=torch.searchsorted(self.split.nodes, ids),
            transform=self._batch,
            batch_size=self.options.batch,
            shuffle=shuffle,
            generator=generator,
        )
        return iter(loader)

    def _batch(self, drawn: Data) -> Batch:
        """Give what was drawn its features and labels; the seeds come first."""
        source_E, target_E = drawn.edge_index
        edges = from_pairs(source_E, target_E, len(drawn.n_id))
        seeds = torch.arange(drawn.batch_size)
        if self.ranks.alone:
            return self.part(drawn.n_id, edges, seeds)
        mine = seeds[self.ranks.part(len(seeds))]
        seen_R = within(edges, mine, len(self.fanouts))
        rows = torch.searchsorted(seen_R, mine)
        batch = self.part(drawn.n_id[seen_R], induced(edges, seen_R), rows)
        ids_B = self.split.nodes[drawn.n_id]
        labels = self.graph.labels[ids_B[seeds]].to(self.device)
        return replace(batch, labels_B=labels, part=self._part(ids_B, seen_R))

    def _part(self, ids_B: Tensor, seen_R: Tensor) -> Part:
        """Return which rows, and entries of sparse features, a rank has of what was drawn."""
        features, none = self.graph.features, torch.empty(0, dtype=torch.int64)
        if isinstance(features, Tensor):
            return Part(len(ids_B), seen_R.to(self.device), 0, none)
        counts_B = features.counts_N[ids_B]
        entry_E = torch.arange(int(counts_B.sum()))
        start_B = torch.nn.functional.pad(counts_B.cumsum(0), (1, 0))
        mine_E = Csr(start_B, entry_E, None, 0).rows(seen_R).column_E
        return Part(len(ids_B), seen_R.to(self.device), len(entry_E), mine_E.to(self.device))

    def part(self, place_B: Tensor, edges: Csr, rows: Tensor) -> Batch:
        """Return a batch of the nodes at some places of the split, of which `rows` count."""
        ids_B = self.split.nodes[place_B]
        features = scale_features(take_rows(self.graph.features, ids_B), self.scaling)
        structure = Structure(edges, self.structure.degree_N[place_B], self.device)
        labels = self.graph.labels[ids_B[rows]].to(self.device)
        return Batch(features.to(self.device), structure, rows.to(self.device), labels)


def within(edges: Csr, seed_B: Tensor, hops: int) -> Tensor:
    """Return some nodes and all from which they can be reached in so many hops, ascending."""
    seen_N = torch.zeros(len(edges), dtype=torch.bool)
    seen_N[seed_B] = True
    for _ in range(hops):
        seen_N[edges.rows(seen_N.nonzero().flatten()).column_E.long()] = True
    return seen_N.nonzero().flatten()


class Clusters(Sampled):
    """Some clusters per step with all edges among them; validation draws neighbours."""

    @cached_property
    def members(self) -> tuple[Tensor, ...]:
        """The places of every cluster's nodes."""
        cluster_N = cluster(self.structure.edges, self.options.parts, self.seed)
        counts = torch.bincount(cluster_N, minlength=self.options.parts).tolist()
        return tuple(torch.split(torch.argsort(cluster_N, stable=True), counts))

    def train(self, epoch: int) -> Iterator[Batch]:
        """Return random groups of clusters, about `train.batch` nodes each."""
        assert self.options.batch is not None
        size = len(self.split.nodes) / len(self.members)
        order = torch.randperm(len(self.members), generator=self._generator(epoch))
        is_train_N = torch.isin(self.split.nodes, self.split.parts.train)
        for group in order.split(max(1, round(self.options.batch / size))):
            place_B = torch.cat([self.members[i] for i in group.tolist()]).sort().values
            rows = is_train_N[place_B].nonzero().flatten()
            if len(rows):  # a group without training nodes teaches nothing
                yield self.part(place_B, induced(self.structure.edges, place_B), rows)
