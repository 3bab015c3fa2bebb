"""What is drawn from a graph to be measured: the same for every embedding, so that they are paired.

Every measure is taken on `DRAWS` random parts of the graph. The parts do not overlap where the
graph is large enough, so their spread tells the standard error of the mean. The nodes that a probe
learns from do overlap: `g2t.evaluate.card.estimate` allows for it.

Shape letters: `N` nodes, `B` chosen nodes, `P` pairs, `S` sources of paths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from g2t.evaluate.card.traits import clustering, core_number, pagerank, undirected
from g2t.graph.csr import Csr

DRAWS = 5
#: Nodes that probes learn from and are scored on, and nodes, edges and sources of one draw.
PROBED, GROUP, EDGES, SOURCES = 5000, 400, 2000, 32
#: Targets per source, and the longest path that counts.
TARGETS, FAR = 128, 6
#: Tries per edge to find a pair that is none.
TRIES = 8


@dataclass(frozen=True)
class Draw:
    """One random part of a graph.

    `fit_B` and `score_B` are positions in `Scene.probed_B`; `group_B` are nodes, in random order;
    pairs [2, P] are of nodes: `linked` by an edge, and not linked: any two (`random`), with the
    degrees of linked ones (`matched`), with a common neighbour (`second`). `apart` are pairs of
    nodes with the length of their shortest path, 1 … FAR. `order_N` breaks ties.
    """

    fit_B: Tensor
    score_B: Tensor
    group_B: Tensor
    linked: Tensor
    random: Tensor
    matched: Tensor
    second: Tensor
    apart: Tensor
    length_P: Tensor
    order_N: Tensor


@dataclass(frozen=True)
class Scene:
    """A graph as the card sees it: undirected, without self-loops, and what was drawn from it.

    `labels` are [N] or [N, C], -1 where unknown; `traits` [B, 4] are log(1 + degree), log PageRank,
    clustering coefficient and core number of the nodes `probed_B`.
    """

    edges: Csr
    labels: Tensor
    probed_B: Tensor
    traits: Tensor
    draws: Sequence[Draw]


def make_scene(edges: Csr, labels: Tensor, seed: int = 0) -> Scene:
    """Measure what the edges say of nodes, and draw what embeddings will be measured on."""
    edges = undirected(edges)
    generator = torch.Generator().manual_seed(seed)
    nodes = len(edges)
    probed_B = _shuffled(nodes, generator)[:PROBED]
    traits = [
        edges.counts_N[probed_B].double().log1p(),
        pagerank(edges)[probed_B].log(),
        clustering(edges, probed_B),
        core_number(edges)[probed_B].double(),
    ]
    once_2E = _pairs(edges)
    once_2E = once_2E[:, once_2E[0] < once_2E[1]]
    parts = zip(
        _parts(nodes, GROUP, generator),
        _parts(once_2E.shape[1], EDGES, generator),
        _parts(nodes, SOURCES, generator),
        strict=True,
    )
    draws = [
        _draw(edges, len(probed_B), group_B, once_2E[:, edge_P], source_S, generator)
        for group_B, edge_P, source_S in parts
    ]
    return Scene(edges, labels, probed_B, torch.stack(traits, 1), draws)


def _draw(
    edges: Csr,
    probed: int,
    group_B: Tensor,
    linked: Tensor,
    source_S: Tensor,
    generator: torch.Generator,
) -> Draw:
    nodes, half = len(edges), probed // 2
    order_B = _shuffled(probed, generator)
    turned = torch.rand(linked.shape[1], generator=generator) < 0.5
    linked = torch.where(turned, linked.flip(0), linked)
    from_P, to_P = linked[0], linked[1]

    def anyone() -> Tensor:
        return torch.randint(0, nodes, (len(to_P),), generator=generator)

    def another_end() -> Tensor:
        return to_P[_shuffled(len(to_P), generator)]

    def neighbour_of_end() -> Tensor:
        drawn_P = torch.rand(len(to_P), generator=generator, dtype=torch.float64)
        ahead_P = (drawn_P * edges.counts_N[to_P]).long()
        return edges.column_E[edges.start_N[to_P] + ahead_P].long()

    apart, length_P = _paths(edges, source_S, generator)
    return Draw(
        fit_B=order_B[:half],
        score_B=order_B[half:],
        group_B=group_B,
        linked=linked,
        random=_unlinked(edges, from_P, anyone),
        matched=_unlinked(edges, from_P, another_end),
        second=_unlinked(edges, from_P, neighbour_of_end),
        apart=apart,
        length_P=length_P,
        order_N=_shuffled(nodes, generator),
    )


def _shuffled(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)


def _parts(count: int, most: int, generator: torch.Generator) -> Sequence[Tensor]:
    """Return `DRAWS` parts of `count` things without overlap, each of at most `most`."""
    each = min(most, count // DRAWS)
    order = _shuffled(count, generator)
    return [order[part * each : (part + 1) * each] for part in range(DRAWS)]


def _pairs(edges: Csr) -> Tensor:
    return torch.stack([edges.row_E, edges.column_E.long()])


def _unlinked(edges: Csr, from_P: Tensor, draw: Callable[[], Tensor]) -> Tensor:
    """Return for each of `from_P` a pair with a drawn node that it has no edge to, [2, P].

    A node for which `TRIES` draws find none has no pair.
    """
    row_E, column_E = _pairs(edges)
    key_E = row_E * len(edges) + column_E
    to_P = torch.full_like(from_P, -1)
    for _ in range(TRIES):
        drawn_P = draw()
        key_P = from_P * len(edges) + drawn_P
        place_P = torch.searchsorted(key_E, key_P).clamp(max=len(key_E) - 1)
        free_P = (key_E[place_P] != key_P) & (drawn_P != from_P)
        to_P = torch.where((to_P < 0) & free_P, drawn_P, to_P)
    return torch.stack([from_P, to_P])[:, to_P >= 0]


def _paths(edges: Csr, source_S: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return pairs of a source and some node that it reaches within `FAR` steps, and the steps."""
    matrix, nodes = edges.scipy(), len(edges)
    length_NS = np.full((nodes, len(source_S)), -1, dtype=np.int8)
    front_NS = np.zeros(length_NS.shape, dtype=np.float32)
    front_NS[source_S.numpy(), np.arange(len(source_S))] = 1
    length_NS[front_NS > 0] = 0
    for step in range(1, FAR + 1):
        reached_NS = (matrix @ front_NS > 0) & (length_NS < 0)
        length_NS[reached_NS] = step
        front_NS = reached_NS.astype(np.float32)
    length_SN = torch.from_numpy(length_NS.T.copy()).double()
    draw_SN = torch.rand(length_SN.shape, generator=generator).masked_fill(length_SN < 1, -1)
    score_ST, target_ST = draw_SN.topk(min(TARGETS, nodes), 1)
    pair = torch.stack([source_S[:, None].expand_as(target_ST), target_ST])[:, score_ST >= 0]
    return pair, length_SN.gather(1, target_ST)[score_ST >= 0]
