"""Batches: true edges, no neighbour twice, all of them where all are asked for, the same again."""

import importlib.util
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.sampler import NodeSamplerInput

from g2t.errors import MissingExtra, UsageError
from g2t.graph.bundle import Graph, Parts
from g2t.graph.csr import Csr, compact, from_pairs
from g2t.graph.splits import Split, hide_test_labels, make_split
from g2t.teacher import TEACHERS
from g2t.teacher.batch import Batch
from g2t.teacher.batches import Whole, make_batches
from g2t.teacher.sampled import Clusters, Sampled
from g2t.teacher.sampling import NeighbourSampler, choose
from g2t.teacher.settings import teach_settings
from g2t.teacher.store import build, facts_of

CPU = torch.device("cpu")
NODES = 60


def make_graph(sparse: bool = False) -> Graph:
    """A directed graph with a hub, self-loops and a lone node; every third node trains."""
    generator = torch.Generator().manual_seed(4)
    source, target = torch.randint(0, NODES - 1, (2, 240), generator=generator)
    hub, loops = torch.arange(1, NODES - 1), torch.tensor([3, 7])
    features = torch.rand(NODES, 6, generator=generator)
    features[torch.rand(NODES, 6, generator=generator) > 0.2] = 0
    ids = torch.arange(NODES)
    return Graph(
        name="small",
        features=compact(features) if sparse else features,
        edges=from_pairs(
            torch.cat([source, hub, loops]), torch.cat([target, 0 * hub, loops]), NODES
        ),
        labels=torch.randint(0, 3, (NODES,), generator=generator),
        classes=("a", "b", "c"),
        metric="accuracy",
        directed=True,
        splits={"public": Parts(ids[::3].clone(), ids[1::3].clone(), ids[2::3].clone())},
    )


def draw(edges: Csr, seeds: list[int], fanouts: list[int], seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    sampler = NeighbourSampler(edges, fanouts, generator)
    return sampler.sample_from_nodes(NodeSamplerInput(None, torch.tensor(seeds)))


@given(st.integers(0, 2**20), st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_what_is_drawn_are_true_edges_and_none_twice(seed: int, fanouts: list[int]) -> None:
    edges = make_graph().edges
    drawn = draw(edges, [0, 59, 5, 7], fanouts, seed)
    nodes = drawn.node.tolist()
    assert nodes[:4] == [0, 59, 5, 7]
    assert len(set(nodes)) == len(nodes)
    true = set(zip(edges.column_E.tolist(), edges.row_E.tolist(), strict=True))
    pairs = [(nodes[u], nodes[v]) for u, v in zip(drawn.row, drawn.col, strict=True)]
    assert set(pairs) <= true
    assert len(set(pairs)) == len(pairs)
    counts = Counter(target for _, target in pairs)
    # The seeds' rows are as full as they can be, and no row holds more than the largest fan-out.
    for node in (0, 59, 5, 7):
        assert counts[node] == min(fanouts[0], int(edges.counts_N[node]))
    assert max(counts.values()) <= max(fanouts)
    assert set(nodes[4:]) <= {source for source, _ in pairs}


def test_all_neighbours_are_those_within_so_many_hops() -> None:
    """Breadth-first search by hand, against fan-outs of -1."""
    edges = make_graph().edges
    drawn = draw(edges, [11], [-1, -1])
    wanted, frontier = {11}, {11}
    expected = []
    for _ in range(2):
        step = [
            (int(u), v)
            for v in frontier
            for u in edges.column_E[edges.start_N[v] : edges.start_N[v + 1]]
        ]
        expected += step
        frontier = {u for u, _ in step} - wanted
        wanted |= frontier
    nodes = drawn.node.tolist()
    assert set(nodes) == wanted
    pairs = [(nodes[u], nodes[v]) for u, v in zip(drawn.row, drawn.col, strict=True)]
    assert sorted(pairs) == sorted(expected)


def test_every_set_of_neighbours_is_drawn_equally_often() -> None:
    """Two of four: six sets, 6000 rows, each about 1000 times (5 standard deviations: 145)."""
    generator = torch.Generator().manual_seed(1)
    picks = choose(torch.full((6000,), 4), 2, generator).sort(1).values
    found = Counter(map(tuple, picks.tolist()))
    assert set(found) == {(a, b) for a in range(4) for b in range(a + 1, 4)}
    assert all(abs(count - 1000) < 145 for count in found.values())


@given(st.lists(st.integers(5, 50), min_size=1, max_size=9), st.integers(1, 5))
def test_choices_are_different_and_in_range(counts: list[int], most: int) -> None:
    picks = choose(torch.tensor(counts), most, torch.Generator().manual_seed(0))
    for row, count in zip(picks.tolist(), counts, strict=True):
        assert len(set(row)) == most
        assert all(0 <= pick < count for pick in row)


def batches(graph: Graph, **train: Any) -> Sampled:
    split = make_split(graph, "public")
    options = teach_settings({"train": {"batch": 7, **train}}).train
    found = make_batches(hide_test_labels(graph, split), split, "row", options, 2, 5, CPU)
    assert isinstance(found, Sampled)
    return found


def same(one: Batch, other: Batch) -> bool:
    assert isinstance(one.features, Tensor)
    assert isinstance(other.features, Tensor)
    pairs = [
        (one.structure.edges.start_N, other.structure.edges.start_N),
        (one.structure.edges.column_E, other.structure.edges.column_E),
        (one.structure.degree_N, other.structure.degree_N),
        (one.features, other.features),
        (one.rows_B, other.rows_B),
        (one.labels_B, other.labels_B),
    ]
    return all(torch.equal(a, b) for a, b in pairs)


def test_an_epoch_is_the_same_whenever_it_is_drawn_and_no_other_is() -> None:
    first, second = batches(make_graph(), fanouts=[2, 2]), batches(make_graph(), fanouts=[2, 2])
    state = torch.get_rng_state()
    list(second.train(0))
    epoch, again, other = list(first.train(3)), list(second.train(3)), list(first.train(4))
    assert all(map(same, epoch, again))
    assert not all(map(same, epoch, other))
    assert all(map(same, first.val(), second.val()))
    assert torch.equal(torch.get_rng_state(), state)  # dropout's stream is none of a sampler's


def test_an_epoch_has_every_training_node_once() -> None:
    graph = make_graph()
    found = batches(graph)
    steps = list(found.train(0))
    assert [len(step.rows_B) for step in steps] == [7, 7, 6]
    labels = torch.cat([step.labels_B for step in steps])
    assert sorted(labels.tolist()) == sorted(graph.labels[::3].tolist())
    order = torch.cat([step.labels_B for step in found.val()])
    assert order.tolist() == graph.labels[1::3].tolist()


def test_degrees_are_those_of_the_whole_graph() -> None:
    graph = make_graph()
    loops = torch.tensor(
        [
            int(u in graph.edges.column_E[a:b])
            for u, (a, b) in enumerate(
                zip(
                    graph.edges.start_N[:-1].tolist(), graph.edges.start_N[1:].tolist(), strict=True
                )
            )
        ]
    )
    wanted = graph.edges.counts_N - loops
    split = make_split(graph, "public")
    options = teach_settings({"train": {"batch": 20, "fanouts": [1, 1]}}).train
    found = make_batches(graph, split, "raw", options, 2, 5, CPU)
    (step,) = found.val()
    assert torch.equal(step.structure.degree_N[:20], wanted[1::3])


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("sparse", [False, True])
def test_all_neighbours_give_what_the_whole_graph_gives(name: str, sparse: bool) -> None:
    graph = make_graph(sparse)
    split = make_split(graph, "public")
    settings = teach_settings({"teacher": name, "features": "row"})
    facts = facts_of(graph, settings.model_dump(mode="json"))
    torch.manual_seed(0)
    model = build(facts)
    whole = Whole(graph, split, "row", CPU)
    model.observe(whole.structure)
    model.eval()
    train = {"batch": 7, "fanouts": [-1] * model.reach}
    options = teach_settings({"train": train}).train
    found = make_batches(graph, split, "row", options, model.reach, 0, CPU)
    with torch.no_grad():
        (everything,) = whole.val()
        wanted = model(everything.features, everything.structure).logits_NC[everything.rows_B]
        seeds = [model(b.features, b.structure).logits_NC[b.rows_B] for b in found.val()]
    assert len(seeds) == 3
    torch.testing.assert_close(torch.cat(seeds), wanted, rtol=0, atol=1e-5)


def test_nodes_outside_the_split_are_in_no_batch() -> None:
    """As in `cpf` and `production`: places of the split are not ids of the graph."""
    graph = make_graph()
    graph.features[:, 0] = torch.arange(NODES)  # type: ignore[index]
    kept = torch.arange(NODES)[torch.arange(NODES) % 5 != 0]
    parts = Parts(*(kept[i::3].clone() for i in range(3)))
    split = Split("some", kept, parts)
    options = teach_settings({"train": {"batch": 9, "fanouts": [-1, -1]}}).train
    found = make_batches(graph, split, "raw", options, 2, 0, CPU)
    for batch in (*found.train(0), *found.val()):
        assert isinstance(batch.features, Tensor)
        ids = batch.features[:, 0].long()
        assert torch.isin(ids, kept).all()
        assert torch.equal(graph.labels[ids[batch.rows_B]], batch.labels_B)
        edges = batch.structure.edges
        true = set(zip(graph.edges.column_E.tolist(), graph.edges.row_E.tolist(), strict=True))
        pairs = zip(ids[edges.column_E.long()].tolist(), ids[edges.row_E].tolist(), strict=True)
        assert set(pairs) <= true


def test_the_wrong_number_of_fan_outs_is_said() -> None:
    with pytest.raises(UsageError, match="names 3 hops, this teacher reads 2"):
        batches(make_graph(), fanouts=[1, 1, 1])


needs_metis = pytest.mark.skipif(
    importlib.util.find_spec("pymetis") is None, reason="pymetis is not installed"
)


@needs_metis
def test_clusters_hold_every_training_node_once_and_all_edges_among_their_nodes() -> None:
    graph = make_graph()
    graph.features[:, 0] = torch.arange(NODES)  # type: ignore[index]
    split = make_split(graph, "public")
    options = teach_settings({"train": {"batch": 20, "sampler": "clusters", "parts": 6}}).train
    found = make_batches(graph, split, "raw", options, 2, 0, CPU)
    assert isinstance(found, Clusters)
    true = set(zip(graph.edges.column_E.tolist(), graph.edges.row_E.tolist(), strict=True))
    seen: list[int] = []
    for batch in found.train(0):
        assert isinstance(batch.features, Tensor)
        ids, edges = batch.features[:, 0].long(), batch.structure.edges
        seen += ids[batch.rows_B].tolist()
        inside = set(ids.tolist())
        pairs = zip(ids[edges.column_E.long()].tolist(), ids[edges.row_E].tolist(), strict=True)
        assert set(pairs) == {(u, v) for u, v in true if u in inside and v in inside}
    assert sorted(seen) == split.parts.train.tolist()
    again = make_batches(graph, split, "raw", options, 2, 0, CPU)
    assert all(map(same, found.train(2), again.train(2)))


def test_without_pymetis_clusters_are_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymetis", None)
    found = batches(make_graph(), sampler="clusters", parts=6)
    with pytest.raises(MissingExtra, match="pymetis, which is not installed") as caught:
        next(iter(found.train(0)))
    assert caught.value.code == 69


def test_more_clusters_than_nodes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"train.parts is 100, the graph has 60 nodes"):
        next(iter(batches(make_graph(), sampler="clusters").train(0)))
