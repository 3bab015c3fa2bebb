"""One embedding of all nodes, dense or sparse rows, and what every measure asks of it.

Wide sparse rows (bags of words) are never made dense as a whole: inner products are taken by pairs
or by chunks of rows.

Shape letters: `N` nodes, `D` width, `B` chosen rows, `P` pairs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.graph.csr import Csr, Features, take_rows

#: Pairs, or rows beside all others, that are worked on at a time.
PAIRS, ROWS = 65_536, 256
#: What a linear probe sees of wider rows: so many of their principal directions.
PROBED = 256
#: Spare directions and rounds of the iteration that finds these.
SPARE, TURNS = 32, 3
#: Figures of a cosine that count: the rest is the noise of its sums, and would break ties.
EXACT = 1e6


@dataclass(frozen=True)
class Space:
    """What a model makes of all nodes, rows [N, D]; raw features are one too."""

    rows: Features

    @cached_property
    def unit(self) -> Features:
        """The rows at length one; rows of zeros stay."""
        if isinstance(self.rows, Csr):
            return self.rows.scaled(1 / self.rows.norms().clamp(min=1e-12))
        return F.normalize(self.rows.float(), dim=1)

    def cosines(self, pair_2P: Tensor) -> Tensor:
        """Return the cosines of pairs of nodes, float64 [P]."""
        return (_products(self.unit, pair_2P) * EXACT).round() / EXACT

    def products(self, pair_2P: Tensor) -> Tensor:
        """Return the inner products of pairs of nodes, float64 [P]."""
        return _products(self.rows, pair_2P)

    def nearest(self, index_B: Tensor, count: int, order_N: Tensor) -> Tensor:
        """Return the ids of the most similar other nodes by cosine, [B, count], best first.

        Ties go to whoever comes first in `order_N`: in the order of ids they would favour a graph's
        own neighbours wherever these have ids next to each other.
        """
        place_N = torch.empty_like(order_N)
        place_N[order_N] = torch.arange(len(order_N))
        every = _dense_or_scipy(take_rows(self.unit, order_N))
        found = []
        for chunk_B in torch.split(index_B, ROWS):
            cosine_BN = _against(take_rows(self.unit, chunk_B), every)
            cosine_BN = (cosine_BN * EXACT).round()
            cosine_BN[torch.arange(len(chunk_B)), place_N[chunk_B]] = -torch.inf
            found.append(order_N[cosine_BN.topk(count, 1).indices])
        return torch.cat(found)

    def gram(self, index_B: Tensor) -> Tensor:
        """Return the inner products of some rows, float64 [B, B]."""
        return _gram(take_rows(self.rows, index_B))

    def cosine_gram(self, index_B: Tensor) -> Tensor:
        """Return the cosines of some rows, float64 [B, B]."""
        return _gram(take_rows(self.unit, index_B))

    def probed(self, index_B: Tensor) -> Tensor:
        """Return what a linear probe may read of some rows, float64 [B, at most PROBED].

        Wider rows are turned to their principal directions, those of the chosen rows.
        """
        rows = take_rows(self.rows, index_B)
        if min(rows.shape) <= PROBED:
            return (rows.dense() if isinstance(rows, Csr) else rows).double()
        return _principal(rows, PROBED)


def _principal(rows: Features, count: int) -> Tensor:
    """Return rows turned to about their `count` largest directions, float64 [B, count].

    Subspace iteration from a fixed start (Halko et al. 2011).
    """
    matrix = rows.scipy() if isinstance(rows, Csr) else rows.numpy()
    matrix = matrix.astype(np.float64)
    start_BS = np.random.default_rng(0).standard_normal((len(rows), count + SPARE))
    for _ in range(TURNS):
        right_DS = np.linalg.qr(matrix.T @ start_BS)[0]
        start_BS = matrix @ right_DS
    left_BS, size_S, _ = np.linalg.svd(start_BS, full_matrices=False)
    return torch.from_numpy((left_BS * size_S)[:, :count].copy())


def _products(rows: Features, pair_2P: Tensor) -> Tensor:
    parts = []
    for one_P, other_P in zip(*(torch.split(end, PAIRS) for end in pair_2P), strict=True):
        one, other = take_rows(rows, one_P), take_rows(rows, other_P)
        if isinstance(one, Csr) and isinstance(other, Csr):
            shared = one.scipy().astype(np.float64).multiply(other.scipy())
            parts.append(torch.from_numpy(np.asarray(shared.sum(1)).ravel()))
        elif isinstance(one, Tensor) and isinstance(other, Tensor):
            parts.append((one.double() * other.double()).sum(1))
    return torch.cat(parts)


def _dense_or_scipy(rows: Features) -> Any:
    return rows.scipy().T.tocsr() if isinstance(rows, Csr) else rows.t()


def _against(chunk: Features, every: Any) -> Tensor:
    """Return a chunk of rows times all columns, dense [B, N]."""
    if isinstance(chunk, Csr):
        return torch.from_numpy((chunk.scipy() @ every).toarray())
    product: Tensor = chunk @ every
    return product


def _gram(rows: Features) -> Tensor:
    if isinstance(rows, Csr):
        matrix = rows.scipy().astype(np.float64)
        return torch.from_numpy((matrix @ matrix.T).toarray())
    rows = rows.double()
    return rows @ rows.t()
