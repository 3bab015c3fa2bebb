"""What a training run holds of a cache: the tensors that its losses need, and batches of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from g2t.cache.format import FEATURES, LOGITS, layer_name, token_name
from g2t.cache.reader import Cache
from g2t.distill.losses.base import Batch
from g2t.graph.csr import Csr

#: Rows of a batch that get neighbours, and neighbours of each, where a loss works on edges.
ANCHORS, NEIGHBOURS = 256, 5


@dataclass(frozen=True)
class Signals:
    """Training labels, teacher tensors (as stored) and edges, for all rows of a cache."""

    labels_N: Tensor
    logits_NC: Tensor
    layers: tuple[Tensor, ...]
    edges: Csr | None

    def batch(self, rows_B: Tensor) -> tuple[Tensor, Batch]:
        """Return the batch of some rows, preceded by its rows: these, then sampled neighbours."""
        pairs = torch.empty(2, 0, dtype=torch.int64)
        if self.edges is not None:
            source_P, target_P = sample_neighbours(self.edges, rows_B[:ANCHORS], NEIGHBOURS)
            extra = torch.unique(source_P[~torch.isin(source_P, rows_B)])
            rows_B = torch.cat([rows_B, extra])
            pairs = torch.stack([_positions(rows_B, source_P), target_P])
        layers = tuple(layer[rows_B].float() for layer in self.layers)
        logits_BC = self.logits_NC[rows_B].float()
        return rows_B, Batch(self.labels_N[rows_B], logits_BC, layers, pairs[0], pairs[1])


def read_signals(cache: Cache, needs: frozenset[str]) -> Signals:
    """Read what the losses need; tensors that none needs are not opened."""
    labels_N = torch.full_like(cache.labels, -1)
    labels_N[cache.parts.train] = cache.labels[cache.parts.train]
    logits_NC = cache.logits() if "logits" in needs else torch.empty(cache.rows, 0)
    count = cache.manifest.teacher.layers if "layers" in needs else 0
    layers = tuple(cache.layer(layer) for layer in range(1, count + 1))
    return Signals(labels_N, logits_NC, layers, cache.edges if "edges" in needs else None)


def tensors_read(cache: Cache, needs: frozenset[str], hops: int) -> dict[str, str]:
    """Return the digest of every cache tensor that training reads, by name."""
    names = ["graph", FEATURES]
    if hops and cache.manifest.hops >= hops:
        names += [token_name(hop) for hop in range(1, hops + 1)]
    if "logits" in needs:
        names.append(LOGITS)
    if "layers" in needs:
        names += [layer_name(layer) for layer in range(1, cache.manifest.teacher.layers + 1)]
    return {f"cache/{name}": cache.manifest.digest_of(name) for name in names}


def sample_neighbours(edges: Csr, rows_A: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return at most `most` distinct in-neighbours of each row: neighbour ids, positions in rows.

    Both are [P]; the draw is uniform without replacement.
    """
    near = edges.rows(rows_A)
    target_P = near.row_E
    # Sort by (row, random key); the rank within its row decides who stays.
    order = (target_P + torch.rand(len(target_P), dtype=torch.float64)).argsort()
    rank = torch.arange(len(order)) - near.start_N[target_P[order]]
    keep = order[rank < most]
    return near.column_E[keep].long(), target_P[keep]


def _positions(rows_B: Tensor, wanted_P: Tensor) -> Tensor:
    """Return where each wanted row stands in `rows_B`, which holds it exactly once."""
    order = rows_B.argsort()
    return order[torch.searchsorted(rows_B[order], wanted_P)]
