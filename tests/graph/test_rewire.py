"""Controls: what rewiring and moving edges keep, and what they destroy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from g2t.errors import InputError
from g2t.evaluate.card.traits import clustering, core_number
from g2t.graph.bundle import Graph, check_graph
from g2t.graph.csr import from_pairs
from g2t.graph.rewire import relabelled, rewired


def graph(pairs: list[tuple[int, int]], nodes: int, directed: bool = False) -> Graph:
    ends = torch.tensor(pairs, dtype=torch.int64).T
    both = ends if directed else torch.cat([ends, ends.flip(0)], 1)
    edges = from_pairs(both[0], both[1], nodes)
    labels = torch.arange(nodes) % 2
    return Graph("small", torch.rand(nodes, 3), edges, labels, ("a", "b"), "accuracy", directed)


def blocks(nodes: int = 400) -> Graph:
    """Two halves, each a ring with chords: many triangles, no edge across."""
    node = torch.arange(nodes)
    half = nodes // 2
    pairs = [
        (int(a), int(a) // half * half + (int(a) + step) % half) for a in node for step in (1, 2, 3)
    ]
    return graph(pairs, nodes)


pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40)


@given(pairs, st.integers(0, 5))
def test_rewiring_keeps_degrees_loops_and_a_simple_symmetric_graph(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    before = graph(pairs, 10)
    after = rewired(before, seed)
    check_graph(after, InputError)
    assert after.edges.counts_N.tolist() == before.edges.counts_N.tolist()
    kept = {
        (a, b)
        for a, b in zip(after.edges.row_E.tolist(), after.edges.column_E.tolist(), strict=True)
    }
    assert kept == {(b, a) for a, b in kept}
    loops = [(a, a) for a in range(10)]
    assert [loop in kept for loop in loops] == [loop in pairs for loop in loops]


def test_rewiring_destroys_links_triangles_and_blocks() -> None:
    before = blocks()
    after = rewired(before, 0)

    def across(made: Graph) -> float:
        return float(((made.edges.row_E < 200) != (made.edges.column_E < 200)).double().mean())

    def keys(made: Graph) -> set[int]:
        return set((made.edges.row_E * 400 + made.edges.column_E).tolist())

    assert across(before) == 0
    assert across(after) == pytest.approx(0.5, abs=0.05)
    assert len(keys(before) & keys(after)) < 0.05 * len(keys(before))
    assert clustering(before.edges, torch.arange(400)).mean() == pytest.approx(0.6)
    assert clustering(after.edges, torch.arange(400)).mean() < 0.05


def test_the_seed_decides_and_the_rest_of_the_graph_stays() -> None:
    before = blocks()
    one, same, other = (rewired(before, seed).fingerprints() for seed in (1, 1, 2))
    assert one == same
    assert one["edges"] != other["edges"]
    for part in ("features", "labels", "splits", "ids"):
        assert one[part] == before.fingerprints()[part]


def test_a_complete_graph_has_nothing_to_swap() -> None:
    before = graph([(a, b) for a in range(6) for b in range(a)], 6)
    assert rewired(before, 0).fingerprints() == before.fingerprints()


def test_directed_graphs_are_refused() -> None:
    with pytest.raises(InputError, match="directed"):
        rewired(graph([(0, 1), (1, 2)], 3, directed=True), 0)


def test_moved_edges_keep_the_structure_and_lose_their_nodes() -> None:
    before = graph(
        [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (5, 4)] + [(6, a) for a in range(5)], 40
    )
    after = relabelled(before, 3)
    assert sorted(core_number(after.edges).tolist()) == sorted(core_number(before.edges).tolist())
    degrees = before.edges.counts_N.tolist()
    assert after.edges.counts_N.tolist() != degrees
    assert sorted(after.edges.counts_N.tolist()) == sorted(degrees)
    assert relabelled(before, 3).fingerprints() == after.fingerprints()
    assert relabelled(before, 4).fingerprints() != after.fingerprints()
