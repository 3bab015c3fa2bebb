"""The summary of a graph, by hand and against PyG."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from g2t.graph.bundle import Graph, Parts
from g2t.graph.csr import compact, from_pairs
from g2t.graph.inspect import summarize

Bring = Callable[..., tuple[Graph, list[str]]]

KARATE = Path(__file__).parents[2] / "data" / "karate"


def awkward() -> Graph:
    """Directed, with a self-loop, an isolated node, a missing label and a class without nodes."""
    ends = torch.tensor([[0, 1], [1, 2], [2, 0], [3, 2], [1, 1]])
    return Graph(
        name="awkward",
        features=compact(torch.eye(5, 8)),
        edges=from_pairs(ends[:, 0], ends[:, 1], 5),
        labels=torch.tensor([0, 0, 1, -1, 1]),
        classes=("a", "b", "c"),
        metric="accuracy",
        directed=True,
    )


def test_every_figure_by_hand() -> None:
    figures = summarize(awkward())
    assert json.loads(json.dumps(figures)) == figures
    assert figures["schema"] == "g2t.graph-summary/1"
    assert (figures["nodes"], figures["edges"], figures["directed"]) == (5, 5, True)
    assert (figures["self_loops"], figures["isolated"]) == (1, 1)
    assert figures["degree"] == {"mean": 0.8, "median": 1.0, "max": 2}
    assert figures["components"] == {"count": 2, "largest": 4}
    assert figures["features"] == {"kind": "csr", "width": 8, "density": 0.125, "empty_rows": 0}
    assert figures["classes"] == {"a": 2, "b": 2, "c": 0}
    assert figures["unlabelled"] == 1
    assert figures["homophily"] == pytest.approx(1 / 3)
    assert (figures["task"], figures["metric"]) == ("multiclass", "accuracy")


def test_every_surprise_is_a_warning() -> None:
    graph = replace(awkward(), features=torch.zeros(5, 2))
    said = "\n".join(summarize(graph)["warnings"])
    for text in (
        "1 self-loops",
        "1 isolated nodes",
        "directed",
        "5 nodes have no feature",
        "no split comes",
        "1 nodes have no label",
        "classes without a node: c",
        "so no cpf split: a, b, c",
    ):
        assert text in said


def test_an_unlabelled_graph_has_no_homophily_and_splits_are_counted() -> None:
    parts = Parts(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([], dtype=torch.int64))
    graph = replace(awkward(), labels=torch.full((5,), -1), splits={"public": parts})
    figures = summarize(graph)
    assert figures["homophily"] is None
    assert figures["splits"] == {"public": [2, 1, 0]}


def test_karate_is_zacharys_club(bring: Bring) -> None:
    from torch_geometric.datasets import KarateClub

    tables = {"nodes": str(KARATE / "nodes.csv"), "edges": str(KARATE / "edges.csv")}
    graph, notes = bring("table:", tables)
    figures = summarize(graph)
    assert (figures["nodes"], figures["edges"]) == (34, 156)
    assert figures["classes"] == {"Mr. Hi": 17, "Officer": 17}
    assert graph.ids is None
    assert notes[0].startswith("features: 34 number columns: n0, n1")
    theirs = KarateClub()[0].edge_index
    expected = from_pairs(theirs[0], theirs[1], 34)
    assert torch.equal(graph.edges.column_E, expected.column_E)
    assert torch.equal(graph.edges.start_N, expected.start_N)


def test_homophily_and_isolated_nodes_equal_pygs(bring: Bring, datasets: Path) -> None:
    from torch_geometric.utils import contains_isolated_nodes, homophily

    graph, _ = bring("amazon:Photo", root=datasets)
    edge_index = torch.stack([graph.edges.column_E.long(), graph.edges.row_E])
    figures = summarize(graph)
    assert figures["homophily"] == pytest.approx(homophily(edge_index, graph.labels), abs=1e-6)
    assert (figures["isolated"] > 0) == contains_isolated_nodes(edge_index, graph.nodes)
