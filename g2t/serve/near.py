"""What a student of hops reads of a few nodes among many: their neighbourhood, and no more.

`g2t predict` answers from it, and `g2t eval --latency` times it.

Shape letters: `N` nodes, `B` nodes asked about, `R` nodes read, `E` edges read, `F` features,
`K` hops, `X` tokens of all nodes asked about.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from g2t.graph.csr import Csr, Features, take_rows
from g2t.graph.neighbourhood import Around, head
from g2t.graph.structure import Propagation, count_self_loops
from g2t.student.base import Inputs, Student
from g2t.student.hop import Hop

#: Nodes up to which hop tokens are made by rows of Â^k, not by all of Â^k X, of dense and of sparse
#: features: the latter are projected first, so that Â^k X W is narrow as well.
NARROW, NARROW_SPARSE = 64, 32


@dataclass(frozen=True)
class Near:
    """Nodes within some hops of `count` ones, which come first, and what is known of them.

    `edges` [R, R] are the rows of A within reach: whole ones, and none of the farthest nodes, which
    no answer reads. `scale_R` is D^-1/2, with the degrees of the whole graph, and `stay_R` what is
    missing on the diagonal of A: Â = D^-1/2 (A + diag(stay)) D^-1/2, also where A has self-loops.
    """

    features: Features
    edges: Csr
    scale_R: Tensor
    stay_R: Tensor
    count: int

    def inputs(self, student: Student) -> Inputs:
        """Return what a student may know of the nodes asked about, and maybe of all that are read.

        `features` must be those that it reads.
        """
        narrow = NARROW_SPARSE if isinstance(self.features, Csr) else NARROW
        if self.count <= narrow and isinstance(student, Hop) and not student.neighbours:
            own = take_rows(self.features, torch.arange(self.count))
            return student.prepare(own, self.edges, self.tokens(student.hops))
        return student.prepare(self.features, self.edges, None, self.operator())

    def tokens(self, hops: int) -> Tensor:
        """Return the hop tokens of the nodes asked about, float32 [B, K, F]: Âx … Â^K x.

        As (e_b Â^k) X, which is narrow for few nodes, where Â^k X is as wide as the features.
        """
        turned, width = self.edges.scipy().T, self.features.shape[1]
        scale_R1, stay_R1 = self.scale_R[:, None].numpy(), self.stay_R[:, None].numpy()
        weight_RB = np.eye(len(self.edges), self.count, dtype=np.float32)
        weights = []
        for _ in range(hops):
            scaled_RB = scale_R1 * weight_RB
            weight_RB = turned @ scaled_RB
            scaled_RB *= stay_R1
            weight_RB += scaled_RB
            weight_RB *= scale_R1
            weights.append(weight_RB)
        weight_RX = np.concatenate(weights, 1)
        if isinstance(self.features, Csr):
            found_XF = torch.from_numpy((self.features.scipy().T @ weight_RX).T.copy())
        else:
            found_XF = torch.from_numpy(weight_RX).t() @ self.features.float()
        return found_XF.view(hops, self.count, width).transpose(0, 1)

    def operator(self) -> Propagation:
        """Return the rows of Â that are read; those of the farthest nodes say nothing."""
        edges, scale_R, place_R = self.edges, self.scale_R, torch.arange(len(self.edges))
        # One entry more in every row, behind the others: no sort.
        own_R = edges.start_N[1:] + place_R
        other_E = torch.arange(len(edges.column_E)) + edges.row_E
        column_E = edges.column_E.long()
        value_E = torch.repeat_interleave(scale_R, edges.counts_N)
        value_E *= scale_R.index_select(0, column_E)
        column = place_R.new_empty(len(column_E) + len(place_R))
        column.scatter_(0, own_R, place_R).scatter_(0, other_E, column_E)
        value = scale_R.new_empty(len(column))
        value.scatter_(0, own_R, self.stay_R * scale_R.square()).scatter_(0, other_E, value_E)
        start_R = edges.start_N + torch.arange(len(edges) + 1)
        return Propagation(Csr(start_R, column, value, len(edges)).tensor())


class Surroundings:
    """Nodes with features and edges in memory, laid ready to be read a neighbourhood at a time.

    That looks at every edge once; a call then looks at those alone that are near.
    """

    def __init__(self, features: Features, edges: Csr) -> None:
        self.features, self.around = features, Around(edges)
        loops_N = count_self_loops(edges)
        self.stay_N = 1.0 - loops_N
        self.scale_N = (edges.counts_N - loops_N + 1).float().rsqrt()

    def near(self, node_B: Tensor, hops: int) -> Near:
        """Return what is within some hops of distinct nodes."""
        ball = self.around.ball(node_B, hops)
        node_R = ball.node_R
        return Near(
            take_rows(self.features, node_R),
            head(ball.rows, len(ball.rows), len(node_R)),
            self.scale_N[node_R],
            self.stay_N[node_R],
            len(node_B),
        )
