"""Edges in rows on disk: as observed, with self-loops, and with the degrees of the whole graph."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file, save_file
from torch import Tensor

from g2t.artifact import SCRATCH
from g2t.errors import IntegrityError
from g2t.export import edges as on_disk
from g2t.export import walk
from g2t.export.edges import Edges, looped_edges, observed_edges
from g2t.graph.bundle import read_graph
from g2t.graph.csr import Csr, from_pairs
from g2t.graph.lazy import open_graph
from g2t.graph.structure import induced, propagation
from g2t.stored import open_stored
from g2t.tensors import save_tensors
from tests.export.graphs import (
    PLAIN,
    errors,
    features_of,
    graph_of,
    odd_graph,
    store,
    write_teacher,
)


def read(edges: Edges, step: int = 1000) -> Csr:
    """Read all rows, some at a time."""
    parts = [edges.block(at, min(at + step, len(edges))) for at in range(0, len(edges), step)]
    counts = torch.cat([start.diff() for start, _ in parts])
    start = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    return Csr(start, torch.cat([column for _, column in parts]), None, len(edges))


def same(found: Csr, wanted: Csr) -> bool:
    return torch.equal(found.start_N, wanted.start_N) and torch.equal(
        found.column_E, wanted.column_E
    )


def stored(graph: Csr, path: Path) -> Edges:
    save_tensors(path, {"start": graph.start_N, "column": graph.column_E})
    tensors = open_stored(path)
    return Edges(tensors["start"], tensors["column"])


@pytest.mark.parametrize("rows", [1, 7, on_disk.ROWS])
@pytest.mark.parametrize("nodes", ["all", "some", "one", "first and last"])
def test_observed_edges_are_the_induced_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, nodes: str
) -> None:
    monkeypatch.setattr(on_disk, "ROWS", rows)
    graph = odd_graph(97)
    kept = {
        "all": torch.arange(97),
        "some": torch.arange(97)[torch.arange(97) % 3 != 1],
        "one": torch.tensor([int(graph.edges.column_E[5])]),
        "first and last": torch.tensor([0, 96]),
    }[nodes]
    path = store(graph, tmp_path / "g")
    found = observed_edges(open_graph(path), kept, tmp_path)
    assert same(read(found), induced(graph.edges, kept))
    assert (found.column_E.path.parent == path) == (nodes == "all")  # nothing is copied


@settings(max_examples=30)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40),
    rows=st.integers(1, 13),
)
def test_looped_edges_have_every_self_loop_once(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("looped")
    ends = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    graph = from_pairs(ends[0], ends[1], 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_disk, "ROWS", rows)
        found = read(looped_edges(stored(graph, folder / "edges"), folder), step=5)
    for node in range(12):
        begin, end = int(found.start_N[node]), int(found.start_N[node + 1])
        others = set(pairs_into(graph, node)) - {node}
        row = found.column_E[begin:end].tolist()
        assert row == [*sorted(others), node]


def pairs_into(graph: Csr, node: int) -> list[int]:
    found: list[int] = graph.column_E[graph.start_N[node] : graph.start_N[node + 1]].tolist()
    return found


def test_looped_edges_and_their_degrees_are_those_of_the_operator(tmp_path: Path) -> None:
    graph = odd_graph()
    found = read(looped_edges(stored(graph.edges, tmp_path / "edges"), tmp_path), step=50)
    scale = found.counts_N.double().rsqrt()
    value = scale[found.row_E] * scale[found.column_E.long()]
    dense = torch.zeros(len(found), len(found), dtype=torch.float64)
    dense[found.row_E, found.column_E.long()] = value
    wanted = propagation(graph.edges).matrix.to_dense().double()
    torch.testing.assert_close(dense, wanted, rtol=1e-6, atol=1e-7)


def test_what_is_in_the_scratch_folder_is_used_again_and_halves_are_not(tmp_path: Path) -> None:
    graph = odd_graph(50)
    edges = stored(graph.edges, tmp_path / "edges")
    folder = tmp_path / SCRATCH
    folder.mkdir()
    (folder / "looped.columns").write_bytes(b"half")  # killed before the starts were written
    (folder / "looped.4711.tmp").write_bytes(b"half")
    first = looped_edges(edges, tmp_path)
    whole = read(first)
    stamp = first.column_E.path.stat().st_mtime_ns
    assert same(read(looped_edges(edges, tmp_path)), whole)
    assert first.column_E.path.stat().st_mtime_ns == stamp


def test_an_edge_out_of_the_graph_is_found_when_its_row_is_read(tmp_path: Path) -> None:
    for wrong in (-1, 12):
        column = torch.tensor([0, wrong], dtype=torch.int32)
        graph = Csr(torch.tensor([0, 1] + [2] * 11), column, None, 12)
        edges = stored(graph, tmp_path / "edges")
        assert edges.block(0, 1)[1].tolist() == [0]
        with pytest.raises(IntegrityError, match="an edge leads to a node that is not there"):
            edges.block(1, 12)


@pytest.mark.parametrize("start", [[0, 2, 1, 3], [0, 1, 2, 9], [-1, 1, 2, 3]])
def test_starts_that_are_none_are_found_when_they_are_read(
    tmp_path: Path, start: list[int]
) -> None:
    graph = Csr(torch.tensor(start), torch.zeros(3, dtype=torch.int32), None, 3)
    with pytest.raises(IntegrityError, match="the edges are no sparse rows"):
        stored(graph, tmp_path / "edges").block(0, 3)


def normalised(pairs: Csr, degree: Tensor) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 in float64 with given degrees."""
    matrix = pairs.dense().double().fill_diagonal_(1)
    scale: Tensor = degree.double().rsqrt()
    return scale[:, None] * matrix * scale


def test_degrees_count_the_whole_graph_and_not_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks see a neighbour's row as a source only; its degree is known from elsewhere."""
    nodes = 200
    ring = torch.arange(nodes)
    pairs = torch.cat([torch.stack([ring, (ring + step) % nodes]) for step in (1, 61, 130)], 1)
    pairs = torch.cat([pairs, torch.stack([ring[ring % 4 == 0], ring[ring % 4 == 0] // 2])], 1)
    features = features_of(nodes, "dense")
    graph = store(graph_of(pairs, features), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", "gcn", **PLAIN)
    monkeypatch.setattr(walk, "BLOCK_ROWS", 64)
    cache = taught.export(tmp_path / "c", hops=1, shard_rows=64)

    edges = read_graph(graph).edges
    assert isinstance(features, Tensor)
    wanted = normalised(edges, propagation_degree(edges)) @ features.double()
    token = cache.whole("tokens-1")
    torch.testing.assert_close(token.double(), wanted, rtol=1e-5, atol=1e-5)
    # What PyG's `inference()` does to GCN: degrees within the rows and their in-neighbours' edges.
    block = torch.arange(64)
    near = torch.unique(torch.cat([block, edges.rows(block).column_E.long()]))
    within = edges.rows(near).dense()[:, near].fill_diagonal_(1)
    within[64:] = 0
    within.fill_diagonal_(1)
    scale = within.sum(1).rsqrt()
    naive = (scale[:, None] * within * scale) @ features[near]
    assert float((naive[:64] - token[:64]).abs().max()) > 0.1
    assert max(errors(cache, taught.wanted).values()) < 1e-5


def propagation_degree(edges: Csr) -> Tensor:
    return edges.dense().fill_diagonal_(1).sum(1)


def test_the_graph_file_holds_the_observed_edges(tmp_path: Path) -> None:
    graph = store(odd_graph(), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", "sage", split="cpf:1", **PLAIN)
    cache = taught.export(tmp_path / "c")
    wanted = induced(read_graph(graph).edges, cache.ids)
    assert same(cache.edges, wanted)
    held = load_file(tmp_path / "c" / "graph.safetensors")
    assert torch.equal(held["degrees"], wanted.counts_N)
    save_file(held, tmp_path / "again.safetensors")  # as the safetensors library would write it
    again = (tmp_path / "again.safetensors").read_bytes()
    assert again == (tmp_path / "c" / "graph.safetensors").read_bytes()
