"""Communities of the observed edges: found, numbered, written, and bounded in memory."""

from pathlib import Path

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from g2t.cache.verify import verify
from g2t.errors import UsageError
from g2t.export import communities as module
from g2t.export.add import add
from g2t.export.communities import communities
from tests.export.graphs import EVERYTHING, PLAIN, ROWS, Teach, digests

#: A clique of three, one of two, a node with a self-loop alone and one with nothing.
PAIRS = [(4, 0), (0, 2), (2, 4), (1, 5), (3, 3)]


def found_in(pairs: list[tuple[int, int]], nodes: int) -> list[int]:
    ends_2E = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    numbers: list[int] = communities(ends_2E[0], ends_2E[1], nodes).tolist()
    return numbers


def test_the_largest_comes_first_and_of_equals_the_one_with_the_first_row() -> None:
    assert found_in(PAIRS, 7) == [0, 1, 0, 2, 0, 1, 3]


def test_an_edge_counts_once_whatever_its_direction_and_a_self_loop_never() -> None:
    both = PAIRS + [(v, u) for u, v in PAIRS]
    assert found_in(both, 7) == found_in(PAIRS, 7)
    draw = torch.Generator().manual_seed(0)
    many = [(int(u), int(v)) for u, v in torch.randint(0, 60, (150, 2), generator=draw)]
    assert found_in(many, 60) == found_in([(v, u) for u, v in reversed(many)] + many, 60)
    assert found_in(many, 60) == found_in([*many, *((u, u) for u in range(60))], 60)


@given(st.integers(1, 4), st.integers(3, 6))
def test_cliques_on_a_ring_are_communities(rings: int, size: int) -> None:
    pairs = [
        (c * size + i, c * size + j) for c in range(rings) for i in range(size) for j in range(i)
    ]
    bridges = [(c * size, ((c + 1) % rings) * size + 1) for c in range(rings) if rings > 1]
    cluster = found_in(pairs + bridges, rings * size)
    assert len(set(cluster)) == rings
    for c in range(rings):
        assert len(set(cluster[c * size : (c + 1) * size])) == 1


def test_a_cache_has_those_of_its_own_edges(teach: Teach, tmp_path: Path) -> None:
    taught = teach("gcn", **PLAIN)
    cache = taught.export(tmp_path / "c", signals=("clusters",), shard_rows=131)
    found = cache.whole("clusters")
    assert (found.dtype, tuple(found.shape)) == (torch.int32, (ROWS, 1))
    edges = cache.edges
    wanted = communities(edges.column_E.long(), edges.row_E, cache.rows)
    assert torch.equal(found[:, 0], wanted)
    graph = nx.Graph()
    graph.add_nodes_from(range(cache.rows))
    ends = zip(edges.column_E.tolist(), edges.row_E.tolist(), strict=True)
    graph.add_edges_from((u, v) for u, v in ends if u != v)
    parts = [set((wanted == c).nonzero().flatten().tolist()) for c in wanted.unique().tolist()]  # type: ignore[no-untyped-call]
    assert nx.community.modularity(graph, parts) > 0.2
    verify(cache)


def test_how_the_rows_are_read_changes_no_byte(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = teach("sage", **EVERYTHING)
    whole = taught.export(tmp_path / "a", signals=("clusters",), shard_rows=131)
    monkeypatch.setattr(module, "ROWS", 17)
    parts = taught.export(tmp_path / "b", signals=("clusters",), shard_rows=131)
    assert digests(whole.artifact) == digests(parts.artifact)


def test_a_graph_that_does_not_fit_is_refused_before_anything_is_written(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = teach("gcn", **PLAIN)
    cache = taught.export(tmp_path / "c", signals=("logits",)).artifact.path
    monkeypatch.setattr(module, "EDGE_BYTES", 1 << 40)
    with pytest.raises(UsageError, match="too small"):
        taught.export(tmp_path / "d", signals=("clusters",))
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    with pytest.raises(UsageError, match="too small"):
        add(cache, ("clusters",))
