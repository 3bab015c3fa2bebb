"""What the edges say: components, induced subgraphs, and the operator that carries hop tokens."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.autograd.function import once_differentiable

from g2t.graph.csr import Csr, Features


def largest_component(edges: Csr) -> Tensor:
    """Return the ascending ids of the largest (weakly) connected component."""
    _, label_N = connected_components(edges.scipy(), directed=False)
    label_N = torch.from_numpy(label_N)
    return (label_N == label_N.bincount().argmax()).nonzero().flatten()


def induced(edges: Csr, nodes_B: Tensor) -> Csr:
    """Return the edges among some nodes (ascending ids), renumbered by their position."""
    new_N = torch.full((len(edges),), -1, dtype=torch.int32)
    new_N[nodes_B] = torch.arange(len(nodes_B), dtype=torch.int32)
    rows = edges.rows(nodes_B)
    column_E = new_N[rows.column_E.long()]
    inside_E = column_E >= 0
    counts_B = torch.zeros(len(nodes_B), dtype=torch.int64)
    counts_B.index_add_(0, rows.row_E[inside_E], torch.ones(int(inside_E.sum()), dtype=torch.int64))
    start_B = torch.nn.functional.pad(counts_B.cumsum(0), (1, 0))
    return Csr(start_B, column_E[inside_E], None, len(nodes_B))


def without_self_loops(edges: Csr) -> Csr:
    """Return the edges with every u -> u left out."""
    row_E = edges.row_E
    keep_E = edges.column_E != row_E
    start_N = torch.nn.functional.pad(
        torch.bincount(row_E[keep_E], minlength=len(edges)).cumsum(0), (1, 0)
    )
    return Csr(start_N, edges.column_E[keep_E], None, edges.width)


def count_self_loops(edges: Csr) -> Tensor:
    """Return how many edges u -> u every node u has, int64 [N]."""
    row_E = torch.repeat_interleave(torch.arange(len(edges), dtype=torch.int32), edges.counts_N)
    return torch.bincount(row_E[edges.column_E == row_E], minlength=len(edges))


def some_neighbours(edges: Csr, most: int) -> Tensor:
    """Return at most `most` in-neighbours of every node, int32 [N, most], -1 where it has fewer.

    Of more, some at even distances in their order by id: always the same ones, no draw. A node is
    no neighbour of itself.
    """
    clean = without_self_loops(edges)
    count_N1, place_S = clean.counts_N[:, None], torch.arange(most)
    rank_NS = torch.where(count_N1 > most, place_S * count_N1 // most, place_S)
    there_NS = rank_NS < count_N1
    found_NS = torch.full(there_NS.shape, -1, dtype=torch.int32)
    found_NS[there_NS] = clean.column_E[(clean.start_N[:-1, None] + rank_NS)[there_NS]]
    return found_NS


@dataclass(frozen=True)
class Propagation:
    """The GCN operator Â = D^-1/2 (A + I) D^-1/2 (Kipf & Welling 2017), every self-loop once.

    D counts the in-edges of a node and its self-loop; `matrix` is a torch CSR tensor [N, N].
    """

    matrix: Tensor

    def __call__(self, features_ND: Tensor) -> Tensor:
        """Return Â X, [N, D], differentiable in X."""
        return self.matrix @ features_ND

    def hops(self, features_ND: Tensor, count: int, index_B: Tensor) -> Tensor:
        """Return X, ÂX, …, Â^count X of some nodes, float32 [B, count + 1, D], differentiable in X.

        Always in float32: Â is, and the backward of a mixed-precision step has left autocast.
        """
        with torch.autocast(features_ND.device.type, enabled=False):
            hops_BTD: Tensor = _Hops.apply(features_ND.float(), self, count, index_B)  # type: ignore[no-untyped-call]
        return hops_BTD

    @cached_property
    def transposed(self) -> Tensor:
        """Âᵀ as a torch CSR tensor, made once; Â itself where all edges go both ways."""
        turned = self.matrix.t().to_sparse_csr()
        parts = (torch.Tensor.crow_indices, torch.Tensor.col_indices, torch.Tensor.values)
        same = all(torch.equal(part(turned), part(self.matrix)) for part in parts)
        return self.matrix if same else turned

    def to(self, device: torch.device) -> "Propagation":
        """Return a copy on another device."""
        return Propagation(self.matrix.to(device))


class _Hops(torch.autograd.Function):
    """Hops of some nodes; torch would transpose Â in every step, and keep a gradient per hop."""

    @staticmethod
    def forward(
        ctx: Any, features_ND: Tensor, operator: Propagation, count: int, index_B: Tensor
    ) -> Tensor:
        ctx.operator, ctx.index_B, ctx.shape = operator, index_B, features_ND.shape
        hops = [features_ND[index_B]]
        for _ in range(count):
            features_ND = operator(features_ND)
            hops.append(features_ND[index_B])
        return torch.stack(hops, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor, None, None, None]:
        # Horner's rule: G_0 + Âᵀ (G_1 + Âᵀ (G_2 + …)), one sum over all hops.
        *nearer, farthest_BD = grad_BTD.unbind(1)
        grad_ND = grad_BTD.new_zeros(ctx.shape).index_add_(0, ctx.index_B, farthest_BD)
        for grad_BD in reversed(nearer):
            grad_ND = ctx.operator.transposed @ grad_ND
            grad_ND.index_add_(0, ctx.index_B, grad_BD)
        return grad_ND, None, None, None


def propagation(edges: Csr, degree_N: Tensor | None = None) -> Propagation:
    """Build Â from edges; isolated nodes keep their own row.

    Where `edges` are a part of a larger graph, `degree_N` counts a node's in-neighbours there,
    itself left out. A row that holds k of d of them counts each d / k times, so that its sum is
    that of the whole row in the mean.
    """
    clean = without_self_loops(edges)
    nodes = len(edges)
    degree_N = clean.counts_N if degree_N is None else degree_N
    scale_N = (degree_N + 1).float().rsqrt()
    share_N = degree_N / clean.counts_N.clamp(min=1)
    loop_N = torch.arange(nodes)
    row_E = torch.cat([clean.row_E, loop_N])
    column_E = torch.cat([clean.column_E.long(), loop_N])
    value_E = scale_N[row_E] * scale_N[column_E]
    value_E[: len(clean.column_E)] *= share_N[clean.row_E]
    order_E = torch.argsort(row_E * nodes + column_E)
    start_N = torch.nn.functional.pad(torch.bincount(row_E, minlength=nodes).cumsum(0), (1, 0))
    return Propagation(Csr(start_N, column_E[order_E].int(), value_E[order_E], nodes).tensor())


#: Columns that are made dense at a time.
PANEL = 1024


def project_dense(features: Features, operator: Propagation, hops: int) -> Tensor:
    """Return the hop tokens of raw features, float32 [N, hops, F]: Âx … Â^hops x.

    Works on panels of columns, so that beside the result only a panel of sparse rows is dense.
    """
    width = features.shape[1]
    tokens_NKF = torch.empty(len(features), hops, width)
    for start in range(0, width, PANEL):
        stop = min(start + PANEL, width)
        if isinstance(features, Csr):
            panel_ND = features.dense_columns(start, stop)
        else:
            panel_ND = features[:, start:stop].float()
        for hop in range(hops):
            panel_ND = operator(panel_ND)
            tokens_NKF[:, hop, start:stop] = panel_ND
    return tokens_NKF
