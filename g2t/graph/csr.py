"""Sparse rows in plain torch: the shape of edges and of bag-of-words features alike.

Shape letters: `N` rows, `F` columns, `E` entries, `B` chosen rows, `D` width.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Csr:
    """A sparse matrix by rows: row i has columns `column_E[start_N[i]:start_N[i + 1]]`.

    `start_N` is int64 [N + 1], `column_E` int32 [E] ascending within a row, `value_E` float [E] or
    None where every entry is one; `width` is the number of columns F.
    """

    start_N: Tensor
    column_E: Tensor
    value_E: Tensor | None
    width: int

    def __len__(self) -> int:
        return len(self.start_N) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.width

    @property
    def counts_N(self) -> Tensor:
        """Entries per row, int64."""
        return self.start_N.diff()

    @property
    def row_E(self) -> Tensor:
        """The row of every entry, int64."""
        return torch.repeat_interleave(self.counts_N)

    def values(self) -> Tensor:
        """The entries as float32, ones where none are stored."""
        if self.value_E is None:
            return torch.ones(len(self.column_E), device=self.column_E.device)
        return self.value_E.float()

    def has_valid_starts(self) -> bool:
        """Tell whether the starts ascend from 0 to the number of entries, as they must."""
        ascending = int(self.start_N[0]) == 0 and bool((self.counts_N >= 0).all())
        values = self.column_E if self.value_E is None else self.value_E
        return ascending and int(self.start_N[-1]) == len(self.column_E) == len(values)

    def is_valid(self) -> bool:
        """Tell whether the starts are valid and every entry stands in one of the columns."""
        if not self.has_valid_starts():
            return False
        if len(self.column_E) == 0:
            return True
        low, high = self.column_E.aminmax()
        return 0 <= int(low) <= int(high) < self.width

    def rows(self, index_B: Tensor) -> "Csr":
        """Return the rows `index_B`, in that order; a single one shares memory with these."""
        if len(index_B) == 1:
            return self._row(int(index_B))
        first_B = self.start_N[index_B]
        counts_B = self.start_N[index_B + 1] - first_B  # one row costs one row, not all of them
        start_B = F.pad(counts_B.cumsum(0), (1, 0))
        ahead_B = first_B - start_B[:-1]
        take_E = torch.arange(int(start_B[-1]), device=start_B.device)
        take_E = take_E + torch.repeat_interleave(ahead_B, counts_B)
        value_E = None if self.value_E is None else self.value_E[take_E]
        return Csr(start_B, self.column_E[take_E], value_E, self.width)

    def _row(self, row: int) -> "Csr":
        first, last = self.start_N[row : row + 2].tolist()
        value_E = None if self.value_E is None else self.value_E[first:last]
        start_N = torch.tensor([0, last - first], device=self.start_N.device)
        return Csr(start_N, self.column_E[first:last], value_E, self.width)

    def tensor(self) -> Tensor:
        """Return the matrix as a torch CSR tensor with int64 indices."""
        parts = (self.start_N, self.column_E.long(), self.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls its CSR layout beta once per process
            return torch.sparse_csr_tensor(*parts, self.shape, check_invariants=False)

    def project(self, weight_FD: Tensor) -> Tensor:
        """Return this matrix times a dense one, float32 [N, D], differentiable in the latter.

        Rows of a contiguous matrix that asks for no gradient are gathered, which is faster.
        """
        with torch.autocast(weight_FD.device.type, enabled=False):
            if weight_FD.requires_grad or not weight_FD.is_contiguous():
                return self.tensor() @ weight_FD.float()
            return F.embedding_bag(
                self.column_E.long(),
                weight_FD.float(),
                self.start_N,
                mode="sum",
                per_sample_weights=self.values(),
                include_last_offset=True,
            )

    def norms(self) -> Tensor:
        """The l2 norm of every row, float32 [N]."""
        squares = torch.zeros(len(self), device=self.start_N.device)
        return squares.index_add_(0, self.row_E, self.values().square()).sqrt()

    def scaled(self, factor_N: Tensor) -> "Csr":
        """Return the matrix with row i multiplied by `factor_N[i]`."""
        value_E = self.values() * factor_N[self.row_E]
        return Csr(self.start_N, self.column_E, value_E, self.width)

    def dense(self) -> Tensor:
        """Return the matrix as a dense float32 tensor [N, F]."""
        return self.dense_columns(0, self.width)

    def dense_columns(self, start: int, stop: int) -> Tensor:
        """Return some columns as a dense float32 tensor [N, stop - start]."""
        inside_E = (self.column_E >= start) & (self.column_E < stop)
        dense = torch.zeros(len(self), stop - start, device=self.start_N.device)
        column_E = self.column_E[inside_E].long() - start
        dense[self.row_E[inside_E], column_E] = self.values()[inside_E]
        return dense

    def to(self, device: torch.device) -> "Csr":
        """Return a copy on another device."""
        value_E = None if self.value_E is None else self.value_E.to(device)
        return Csr(self.start_N.to(device), self.column_E.to(device), value_E, self.width)

    def scipy(self) -> sp.csr_matrix:
        """Return the matrix as a scipy one, sharing memory where it can."""
        parts = (self.values().numpy(), self.column_E.numpy(), self.start_N.numpy())
        return sp.csr_matrix(parts, shape=self.shape)


#: Node features: dense float [N, F], or sparse rows.
Features = Tensor | Csr


def from_scipy(matrix: sp.spmatrix) -> Csr:
    """Return a scipy matrix as sorted rows without duplicates; all-one values are not stored."""
    matrix = sp.csr_matrix(matrix)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    values = matrix.data.astype(np.float32, copy=False)
    return Csr(
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.indices.astype(np.int32)),
        None if bool((values == 1).all()) else torch.from_numpy(values),
        matrix.shape[1],
    )


def compact(features: Tensor) -> Features:
    """Return features as sparse rows where at most a quarter of the entries are not zero."""
    if features.numel() == 0 or features.count_nonzero() > features.numel() / 4:
        return features.float()
    return from_scipy(sp.csr_matrix(features.float().numpy()))


#: Below this share of entries, sparse rows are treated as bags of words.
WORD_DENSITY = 0.1


def is_bag_of_words(features: Features) -> bool:
    """Tell whether features are sparse rows of which few entries are set."""
    if isinstance(features, Tensor):
        return False
    return len(features.column_E) < WORD_DENSITY * len(features) * features.width


def take_rows(features: Features, index_B: Tensor) -> Features:
    """Return some rows of dense or sparse features, in the order of the index."""
    if isinstance(features, Csr):
        return features.rows(index_B)
    return features.index_select(0, index_B)  # faster than features[index_B]


def from_pairs(source_E: Tensor, target_E: Tensor, nodes: int) -> Csr:
    """Return edges by target: row v lists the u of edges u -> v, ascending and once each."""
    order_E = torch.unique(target_E.long() * nodes + source_E.long())
    row_E, column_E = order_E // nodes, order_E % nodes
    start_N = F.pad(torch.bincount(row_E, minlength=nodes).cumsum(0), (1, 0))
    return Csr(start_N, column_E.int(), None, nodes)


def stack(parts: Sequence[Csr]) -> Csr:
    """Put blocks of sparse rows on top of each other; values are stored if one of them has some."""
    counts_N = torch.cat([part.counts_N for part in parts])
    valued = any(part.value_E is not None for part in parts)
    return Csr(
        F.pad(counts_N.cumsum(0), (1, 0)),
        torch.cat([part.column_E for part in parts]),
        torch.cat([part.values() for part in parts]) if valued else None,
        parts[0].width,
    )
