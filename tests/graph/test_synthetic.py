"""The block model keeps its promises, at any corner of its settings."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from g2t.errors import UsageError
from g2t.graph.bundle import Graph
from g2t.graph.inspect import summarize

Bring = Callable[..., tuple[Graph, list[str]]]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"nodes": 300, "degree": 3.5, "homophily": 0.1, "classes": 7},
        {"nodes": 12, "degree": 11.0, "classes": 3, "homophily": 3 / 11},  # the complete graph
        {"nodes": 40, "degree": 19.0, "classes": 2, "homophily": 1.0},  # two complete halves
        {"nodes": 40, "degree": 20.0, "classes": 2, "homophily": 0.0},  # complete bipartite
        {"nodes": 9, "degree": 2.0, "classes": 9, "homophily": 0.0},
    ],
)
def test_degree_homophily_and_balance_come_out(bring: Bring, values: dict[str, Any]) -> None:
    graph, _ = bring("synthetic:csbm", values)
    wanted = {"nodes": 1000, "degree": 10.0, "homophily": 0.8, "classes": 5} | values
    figures = summarize(graph)
    assert figures["degree"]["mean"] == pytest.approx(wanted["degree"], rel=0.01)
    assert figures["homophily"] == pytest.approx(wanted["homophily"], abs=0.01)
    assert figures["self_loops"] == 0
    counts = list(figures["classes"].values())
    assert len(counts) == wanted["classes"]
    assert max(counts) - min(counts) <= 1
    dense = graph.edges.dense()
    assert torch.equal(dense, dense.T)
    assert graph.splits == {}


def test_the_same_seed_gives_the_same_bits_and_another_does_not(bring: Bring) -> None:
    prints = [
        bring("synthetic:csbm", {"seed": seed})[0].fingerprints()["graph"] for seed in (0, 0, 1)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_features_are_the_class_mean_plus_noise(bring: Bring) -> None:
    still, _ = bring("synthetic:csbm", {"noise": 0.0})
    loud, _ = bring("synthetic:csbm", {"noise": 2.0, "nodes": 5000})
    assert isinstance(still.features, torch.Tensor)
    assert isinstance(loud.features, torch.Tensor)
    assert len(still.features.unique(dim=0)) == 5  # type: ignore[no-untyped-call]
    inside = loud.features[loud.labels == 0]
    assert inside.std(0).mean().item() == pytest.approx(2.0, rel=0.05)
    assert loud.features.dtype == torch.float32


@pytest.mark.parametrize(
    ("source", "values", "said"),
    [
        ("synthetic:sbm", {}, "no synthetic graph is called 'sbm'"),
        (
            "synthetic:csbm",
            {"nodes": 10, "degree": 10.0},
            "degree 10 is not possible with 10 nodes",
        ),
        ("synthetic:csbm", {"nodes": 20, "degree": 15.0}, "edges within classes, and only 30"),
        ("synthetic:csbm", {"nodes": 4, "classes": 5}, "4 nodes cannot have 5 classes"),
        ("synthetic:csbm", {"nodes": 4, "degree": 0.1, "classes": 2}, "no edge"),
        ("synthetic:csbm", {"homophily": 1.2}, "setting homophily"),
        ("synthetic:csbm", {"degree": -1.0}, "setting degree"),
        ("synthetic:csbm", {"degree": float("nan")}, "setting degree"),
        ("synthetic:csbm", {"directed": True}, "setting directed: the block model is undirected"),
        ("synthetic:csbm", {"node": 5}, "unknown setting node"),
    ],
)
def test_impossible_settings_are_refused(
    bring: Bring, source: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        bring(source, values)
