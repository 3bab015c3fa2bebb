"""The measures of the card: one function from a view to a number, one line in the table.

A number is nan where it is not defined: a trait without spread, a graph without the pairs.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from g2t.evaluate.card.alignment import debiased_cka
from g2t.evaluate.card.ranks import auc, spearman
from g2t.evaluate.card.view import View


def trait(which: int, view: View) -> float:
    """Return R² of a linear probe for one of the traits."""
    return float(view.explained[which])


def edge_auc(rivals: str, view: View) -> float:
    """Return how often the cosine of linked nodes is above that of nodes without an edge."""
    return auc(view.linked, view.space.cosines(getattr(view.draw, rivals)))


def recall(view: View) -> float:
    """Return Σ |nearest k ∩ neighbours| / Σ min(k, degree) over nodes."""
    group_B, nearest_BK, edges = view.draw.group_B, view.nearest, view.scene.edges
    if not len(group_B):
        return math.nan
    rows = edges.rows(group_B)
    linked_E = rows.row_E * len(edges) + rows.column_E
    near_BK = torch.arange(len(group_B))[:, None] * len(edges) + nearest_BK
    found = int(torch.isin(near_BK, linked_E).sum())
    possible = int(rows.counts_N.clamp(max=nearest_BK.shape[1]).sum())
    return found / possible if possible else math.nan


def homophily(view: View) -> float:
    """Return how often the nearest nodes have a node's label; of several labels, over all known."""
    labels = view.scene.labels
    if not len(view.draw.group_B):
        return math.nan
    own, near = labels[view.draw.group_B][:, None], labels[view.nearest]
    known = (own >= 0) & (near >= 0)
    return float((own == near)[known].double().mean())


def distance(view: View) -> float:
    """Return Spearman's correlation of the shortest path and 1 - cosine."""
    return spearman(view.draw.length_P, 1 - view.space.cosines(view.draw.apart))


def distance_matched(view: View) -> float:
    """Return the same correlation with the degrees of both ends taken out.

    Paths to nodes of many links are short whoever they are linked to.
    """
    apart, degree_N = view.draw.apart, view.scene.edges.counts_N
    far_P = 1 - view.space.cosines(apart)
    return spearman(view.draw.length_P, far_P, (degree_N[apart[0]], degree_N[apart[1]]))


def dirichlet(view: View) -> float:
    """Return tr(Hᵀ L̃ H) / ‖H‖² over the rows of the group, L̃ = I - D^-½ (A + I) D^-½."""
    group_B, edges = view.draw.group_B, view.scene.edges
    rows = edges.rows(group_B)
    degree_N = edges.counts_N + 1.0
    one_E, other_E = group_B[rows.row_E], rows.column_E.long()
    size_B = view.space.products(torch.stack([group_B, group_B]))
    own = float((size_B * (1 - 1 / degree_N[group_B])).sum())
    across_E = view.space.products(torch.stack([one_E, other_E]))
    across = float((across_E * (degree_N[one_E] * degree_N[other_E]).rsqrt()).sum())
    whole = float(size_B.sum())
    return (own - across) / whole if whole > 0 else math.nan


def cka(view: View) -> float:
    """Return the debiased linear CKA with the teacher's last layer."""
    group_B = view.draw.group_B
    return debiased_cka(view.space.gram(group_B), view.ideal.gram(group_B))


def gap(view: View) -> float:
    """Return ‖S - S_T‖ / ‖S_T‖ of the cosines among the group and those of the teacher's."""
    ours_BB: Tensor = view.space.cosine_gram(view.draw.group_B)
    theirs_BB: Tensor = view.ideal.cosine_gram(view.draw.group_B)
    size = float(theirs_BB.norm())
    return float((ours_BB - theirs_BB).norm()) / size if size > 0 else math.nan


@dataclass(frozen=True)
class Measure:
    """One number of the card. `overlap`: nodes scored per node that all draws learn from."""

    level: str
    of: Callable[[View], float]
    overlap: float = 0.0


MEASURES: Mapping[str, Measure] = {
    "degree": Measure("node", partial(trait, 0), overlap=1.0),
    "pagerank": Measure("node", partial(trait, 1), overlap=1.0),
    "clustering": Measure("node", partial(trait, 2), overlap=1.0),
    "core": Measure("node", partial(trait, 3), overlap=1.0),
    "edge": Measure("edge", partial(edge_auc, "random")),
    "edge-matched": Measure("edge", partial(edge_auc, "matched")),
    "edge-second": Measure("edge", partial(edge_auc, "second")),
    "recall": Measure("edge", recall),
    "distance": Measure("path", distance),
    "distance-matched": Measure("path", distance_matched),
    "dirichlet": Measure("subgraph", dirichlet),
    "homophily": Measure("subgraph", homophily),
    "cka": Measure("layer", cka),
    "gap": Measure("graph", gap),
}
