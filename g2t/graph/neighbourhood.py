"""The rows of a sparse matrix that an answer about some nodes reads, hop by hop, and no others.

It is what a model that hears its neighbours must fetch before it can answer. Every step is
vectorised, and its work grows with what is read, not with the graph.

Shape letters: `B` nodes asked about, `R` nodes found, `E` entries read.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from g2t.graph.csr import Csr, stack


@dataclass(frozen=True)
class Ball:
    """All nodes within some hops of those asked about, nearest first: every hop is a prefix.

    `node_R` are ids, those asked about first; `counts[k]` of them are at most k hops away. `rows`
    are the rows of all but the farthest ones, columns by place in `node_R`.
    """

    node_R: Tensor
    counts: tuple[int, ...]
    rows: Csr


class Around:
    """Finds what is around nodes in a matrix [N, N]; a hop goes from a row to its columns."""

    def __init__(self, matrix: Csr) -> None:
        self.matrix = matrix
        self._place_N = torch.full((len(matrix),), -1, dtype=torch.int32)

    def ball(self, node_B: Tensor, reach: int) -> Ball:
        """Return the nodes within `reach` hops of distinct nodes, and the rows of the nearer."""
        place_N, found, read = self._place_N, [node_B], []
        counts = [len(node_B)]
        place_N[node_B] = _count(0, len(node_B))
        for _ in range(reach):
            rows = self.matrix.rows(found[-1])
            column_E = rows.column_E.long()
            new_E = column_E[place_N[column_E] < 0]
            # Of equal ones that stays whose number was written last: no sort.
            number_E = _count(0, len(new_E))
            place_N[new_E] = number_E
            new_R = new_E[place_N[new_E] == number_E]
            place_N[new_R] = _count(counts[-1], counts[-1] + len(new_R))
            counts.append(counts[-1] + len(new_R))
            found.append(new_R)
            read.append(rows)
        node_R = torch.cat(found)
        rows = stack(read) if read else self.matrix.rows(node_R[:0])
        local = Csr(rows.start_N, place_N[rows.column_E.long()], rows.value_E, len(node_R))
        place_N[node_R] = -1
        return Ball(node_R, tuple(counts), local)

    def rows(self, matrix: Csr, ball: Ball) -> Csr:
        """Return the rows that a ball has of this matrix of another one, columns by place in it.

        The other matrix may only have entries where this one has some, or on its diagonal.
        """
        place_N, node_R = self._place_N, ball.node_R
        place_N[node_R] = _count(0, len(node_R))
        rows = matrix.rows(node_R[: len(ball.rows)])
        column_E = place_N[rows.column_E.long()]
        place_N[node_R] = -1
        return Csr(rows.start_N, column_E, rows.value_E, len(node_R))


def _count(start: int, stop: int) -> Tensor:
    return torch.arange(start, stop, dtype=torch.int32)


def head(matrix: Csr, rows: int, size: int) -> Csr:
    """Return a square matrix [size, size] of the first rows of a matrix; the others are empty.

    The columns of these rows must be below `size`.
    """
    end = matrix.start_N[rows]
    start_N = torch.cat([matrix.start_N[: rows + 1], end.expand(size - rows)])
    value_E = None if matrix.value_E is None else matrix.value_E[: int(end)]
    return Csr(start_N, matrix.column_E[: int(end)], value_E, size)
