"""What the edges say of single nodes: PageRank, clustering coefficient, core number.

All take edges that run both ways, each once and without self-loops (`undirected`).
"""

import numpy as np
import torch
from torch import Tensor

from g2t.graph.csr import Csr, from_pairs
from g2t.graph.structure import without_self_loops

DAMPING, TOLERANCE = 0.85, 1e-10
#: Rows whose second neighbours are held at a time.
ROWS = 256


def undirected(edges: Csr) -> Csr:
    """Return the edges both ways, without self-loops."""
    clean = without_self_loops(edges)
    row_E, column_E = clean.row_E, clean.column_E.long()
    return from_pairs(torch.cat([row_E, column_E]), torch.cat([column_E, row_E]), len(edges))


def pagerank(edges: Csr) -> Tensor:
    """Return PageRank (Page et al. 1999) with damping 0.85, float64 [N], of sum 1.

    A node without edges hands its share to all.
    """
    matrix, nodes = edges.scipy().astype(np.float64), len(edges)
    degree_N = edges.counts_N.double().numpy()
    share_N = np.where(degree_N > 0, 1 / np.maximum(degree_N, 1), 0)
    rank_N, change = np.full(nodes, 1 / nodes), 1.0
    while change > TOLERANCE:  # contracts by the damping in every step
        lost = rank_N[degree_N == 0].sum()
        new_N = DAMPING * (matrix @ (rank_N * share_N) + lost / nodes) + (1 - DAMPING) / nodes
        rank_N, change = new_N, np.abs(new_N - rank_N).sum()
    return torch.from_numpy(rank_N)


def clustering(edges: Csr, index_B: Tensor) -> Tensor:
    """Return the share of pairs of neighbours that are linked, float64 [B]; 0 below two of them."""
    matrix, closed = edges.scipy(), []
    for chunk_B in torch.split(index_B, ROWS):
        rows = edges.rows(chunk_B).scipy()
        closed.append(np.asarray((rows @ matrix).multiply(rows).sum(1)).ravel())
    closed_B = torch.from_numpy(np.concatenate(closed)).double()
    degree_B = edges.counts_N[index_B].double()
    return closed_B / (degree_B * (degree_B - 1)).clamp(min=1)


def core_number(edges: Csr) -> Tensor:
    """Return the largest k such that a node is in a subgraph of degrees >= k, int64 [N].

    Peels all nodes of the least degree at once (Batagelj & Zaversnik 2003).
    """
    degree_N = edges.counts_N.clone()
    core_N, level = torch.zeros_like(degree_N), 0
    gone = torch.iinfo(degree_N.dtype).max
    while int(degree_N.min()) < gone:
        level = max(level, int(degree_N.min()))
        peeled_B = (degree_N <= level).nonzero().flatten()
        core_N[peeled_B], degree_N[peeled_B] = level, gone
        hit_E = edges.rows(peeled_B).column_E.long()
        hit_E = hit_E[degree_N[hit_E] < gone]
        degree_N -= torch.bincount(hit_E, minlength=len(edges))
    return core_N
