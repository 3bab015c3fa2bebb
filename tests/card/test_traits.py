"""Node properties: by hand on small graphs, and as networkx says on random ones."""

import networkx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from g2t.evaluate.card.traits import clustering, core_number, pagerank, undirected
from g2t.graph.csr import Csr, from_pairs


def graph(pairs: list[tuple[int, int]], nodes: int) -> Csr:
    ends = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    return undirected(from_pairs(ends[0], ends[1], nodes))


#: A triangle 0 1 2, a tail 2-3, and 4 alone.
PAIRS = [(0, 1), (1, 2), (2, 0), (2, 3)]
random_pairs = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=50)


def peer(pairs: list[tuple[int, int]], nodes: int) -> networkx.Graph:
    made = networkx.Graph()
    made.add_nodes_from(range(nodes))
    made.add_edges_from((a, b) for a, b in pairs if a != b)
    return made


def test_edges_run_both_ways_once_and_without_loops() -> None:
    edges = graph([(0, 1), (1, 0), (0, 1), (2, 2)], 3)
    assert edges.counts_N.tolist() == [1, 1, 0]


def test_clustering_and_core_number_by_hand() -> None:
    edges = graph(PAIRS, 5)
    # Node 2 has three pairs of neighbours, of which one is linked.
    assert clustering(edges, torch.arange(5)).tolist() == pytest.approx([1, 1, 1 / 3, 0, 0])
    assert clustering(edges, torch.tensor([2, 0])).tolist() == pytest.approx([1 / 3, 1])
    assert core_number(edges).tolist() == [2, 2, 2, 1, 0]


def test_pagerank_of_a_star_by_hand() -> None:
    # The hub h and four leaves l: l = 0.15 / 5 + 0.85 h / 4, h + 4 l = 1, so h = 0.88 / 1.85.
    rank = pagerank(graph([(0, 1), (0, 2), (0, 3), (0, 4)], 5))
    assert rank.tolist() == pytest.approx([0.88 / 1.85] + 4 * [0.97 / 1.85 / 4])


@given(random_pairs)
def test_all_agree_with_networkx(pairs: list[tuple[int, int]]) -> None:
    edges, other = graph(pairs, 12), peer(pairs, 12)
    ranks = networkx.pagerank(other, alpha=0.85, tol=1e-12, max_iter=1000)
    assert pagerank(edges).tolist() == pytest.approx([ranks[node] for node in range(12)])
    shares = networkx.clustering(other)
    assert clustering(edges, torch.arange(12)).tolist() == pytest.approx(
        [shares[node] for node in range(12)]
    )
    cores = networkx.core_number(other)
    assert core_number(edges).tolist() == [cores[node] for node in range(12)]
