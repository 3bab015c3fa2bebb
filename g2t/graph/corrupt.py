"""The same graph with worse features or edges, by a share between 0 and 1, drawn from a seed.

A share of 0 gives the graph itself. What is changed at a share is changed at every larger one too.
Labels and splits stay. Beside the result only a block of rows, or a number per edge, is held.

| name | what happens to a share s |
|---|---|
| `noise`, dense features | Gaussian noise of s times the column's standard deviation is added |
| `noise`, sparse features | s of the stored entries move to random columns of their row |
| `missing` | s of the entries (of sparse rows: of those stored) become zero |
| `removed` | s of the edges are left out, both directions of an undirected one |
| `rewired` | s of the edges are swapped among themselves, every degree as before |

Self-loops stay.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.graph.bundle import BLOCK, Graph
from g2t.graph.csr import Csr, Features
from g2t.graph.rewire import rewired


def noised(graph: Graph, seed: int, share: float) -> Graph:
    """Return the graph with noise in its features, of the kind that fits them."""
    return replace(graph, features=_noised(graph.features, _draws(seed), share))


def _noised(features: Features, draws: torch.Generator, share: float) -> Features:
    if isinstance(features, Csr):
        return _moved(features, draws, share)
    scale_F = share * features.float().std(0, unbiased=False)
    made = features.float().clone()
    for block in torch.split(made, BLOCK):
        block += scale_F * torch.randn(block.shape, generator=draws)
    return made


def _moved(features: Csr, draws: torch.Generator, share: float) -> Csr:
    """Move a share of the entries; of two that meet in a column the first of the row stays."""
    entries, width = len(features.column_E), features.width
    draw_E = torch.rand(entries, generator=draws)
    any_E = torch.randint(width, (entries,), generator=draws)
    column_E = torch.where(draw_E < share, any_E, features.column_E.long())
    key_E, order_E = torch.sort(features.row_E * width + column_E, stable=True)
    first_E = torch.ones_like(key_E, dtype=torch.bool)
    first_E[1:] = key_E[1:] != key_E[:-1]
    key_E, order_E = key_E[first_E], order_E[first_E]
    value_E = None if features.value_E is None else features.value_E[order_E]
    start_N = _starts(key_E // width, len(features))
    return Csr(start_N, (key_E % width).int(), value_E, width)


def missing(graph: Graph, seed: int, share: float) -> Graph:
    """Return the graph without some entries of its features."""
    features, draws = graph.features, _draws(seed)
    if isinstance(features, Csr):
        kept_E = torch.rand(len(features.column_E), generator=draws) >= share
        return replace(graph, features=_without(features, kept_E))
    made = features.clone()
    for block in torch.split(made, BLOCK):
        block[torch.rand(block.shape, generator=draws) < share] = 0
    return replace(graph, features=made)


def removed(graph: Graph, seed: int, share: float) -> Graph:
    """Return the graph without some of its edges."""
    edges = graph.edges
    row_E, column_E = edges.row_E, edges.column_E.long()
    draw_E = torch.rand(len(column_E), generator=_draws(seed))
    if not graph.directed:
        # Both directions of an edge take the draw of one of them.
        low_E, high_E = torch.minimum(row_E, column_E), torch.maximum(row_E, column_E)
        _, pair_E = torch.unique(low_E * len(edges) + high_E, return_inverse=True)
        draw_E = draw_E[pair_E]
    return replace(graph, edges=_without(edges, (draw_E >= share) | (row_E == column_E)))


def _without(matrix: Csr, kept_E: Tensor) -> Csr:
    """Return a matrix with some entries only."""
    start_N = _starts(matrix.row_E[kept_E], len(matrix))
    value_E = None if matrix.value_E is None else matrix.value_E[kept_E]
    return Csr(start_N, matrix.column_E[kept_E], value_E, matrix.width)


def _starts(row_E: Tensor, rows: int) -> Tensor:
    return F.pad(torch.bincount(row_E, minlength=rows).cumsum(0), (1, 0))


def _draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


#: What can be done to a graph, by seed and share above 0; `rewired` wants an undirected one.
CORRUPTIONS: Mapping[str, Callable[[Graph, int, float], Graph]] = {
    "noise": noised,
    "missing": missing,
    "removed": removed,
    "rewired": rewired,
}


def corrupted(graph: Graph, kind: str, seed: int, share: float) -> Graph:
    """Return the graph with a share of something changed; with a share of 0 the graph itself."""
    return CORRUPTIONS[kind](graph, seed, share) if share else graph
