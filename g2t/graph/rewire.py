"""Controls: the same nodes with other edges, so that what a model knows of edges can be told apart.

`rewired` keeps every degree and destroys who is linked to whom; `relabelled` keeps the whole
structure and destroys which node has which place in it.
"""

from dataclasses import replace

import torch
from torch import Tensor

from g2t.errors import InputError
from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr, from_pairs

#: Swaps tried per edge; a round pairs all edges, so it tries half a swap for each.
TRIES = 10


def rewired(graph: Graph, seed: int, share: float = 1.0) -> Graph:
    """Return the graph with its edges swapped at random, every degree as before.

    Pairs of edges a-b, c-d become a-d, c-b (Maslov & Sneppen 2002), unless that would make a loop
    or an edge that exists; self-loops stay. With a `share` below 1 so many of the edges, drawn at
    random, are swapped among themselves. Raises InputError for a directed graph.
    """
    if graph.directed:
        raise InputError(
            f"graph {graph.name} is directed: rewiring swaps undirected edges",
            "import it with --undirected",
        )
    row_E, column_E = graph.edges.row_E, graph.edges.column_E.long()
    loop_E = row_E == column_E
    edge_2E = torch.stack([row_E, column_E])[:, row_E < column_E]
    fixed_2E = edge_2E[:, :0]
    if share < 1:
        draw_E = torch.rand(edge_2E.shape[1], generator=torch.Generator().manual_seed(seed))
        edge_2E, fixed_2E = edge_2E[:, draw_E < share], edge_2E[:, draw_E >= share]
    fixed_F = _keys(fixed_2E[0], fixed_2E[1], graph.nodes)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(2 * TRIES):
        edge_2E = _swapped(edge_2E, fixed_F, graph.nodes, generator)
    edge_2E = torch.cat([edge_2E, fixed_2E], 1)
    from_E = torch.cat([edge_2E[0], edge_2E[1], row_E[loop_E]])
    to_E = torch.cat([edge_2E[1], edge_2E[0], row_E[loop_E]])
    return replace(graph, edges=from_pairs(from_E, to_E, graph.nodes))


def _swapped(edge_2E: Tensor, fixed_F: Tensor, nodes: int, generator: torch.Generator) -> Tensor:
    """Pair all edges at random and swap the ends of every pair that stays simple, [2, E].

    Swaps of one round may not make an edge that exists before it or is `fixed_F`, nor one that
    another swap makes, so they can be done at once.
    """
    edges = edge_2E.shape[1]
    order_E = torch.randperm(edges, generator=generator)
    turned_E = torch.rand(edges, generator=generator) < 0.5
    edge_2E = torch.where(turned_E, edge_2E.flip(0), edge_2E)
    half = edges // 2
    one_2P, other_2P = edge_2E[:, order_E[:half]], edge_2E[:, order_E[half : 2 * half]]
    new_22P = torch.stack(
        [torch.stack([one_2P[0], other_2P[1]]), torch.stack([other_2P[0], one_2P[1]])]
    )
    key_2P = _keys(new_22P[:, 0], new_22P[:, 1], nodes)
    _, which, count = torch.unique(key_2P, return_inverse=True, return_counts=True)
    taken = torch.cat([_keys(edge_2E[0], edge_2E[1], nodes), fixed_F])
    bad_2P = torch.isin(key_2P, taken) | (count[which] > 1)
    good_P = ~(bad_2P | (new_22P[:, 0] == new_22P[:, 1])).any(0)
    edge_2E = edge_2E.clone()
    edge_2E[:, order_E[:half][good_P]] = new_22P[0][:, good_P]
    edge_2E[:, order_E[half : 2 * half][good_P]] = new_22P[1][:, good_P]
    return edge_2E


def _keys(one: Tensor, other: Tensor, nodes: int) -> Tensor:
    """Return a number for each undirected pair."""
    return torch.minimum(one, other) * nodes + torch.maximum(one, other)


def relabelled(graph: Graph, seed: int) -> Graph:
    """Return the graph with its edges moved to other nodes by one permutation of all of them."""
    generator = torch.Generator().manual_seed(seed)
    new_N = torch.randperm(graph.nodes, generator=generator)
    edges: Csr = from_pairs(
        new_N[graph.edges.column_E.long()], new_N[graph.edges.row_E], graph.nodes
    )
    return replace(graph, edges=edges)
