"""The graph artefact: what goes in comes out, and what is wrong is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.artifact import Artifact, open_artifact
from g2t.errors import InputError, IntegrityError
from g2t.graph.bundle import Graph, Parts, check_graph, read_graph
from g2t.graph.csr import Csr, compact, from_pairs
from g2t.graph.importing import import_graph, resolve_import
from g2t.runtime import Silent


def small() -> Graph:
    ring = torch.arange(6)
    return Graph(
        name="ring",
        features=compact(torch.eye(6)),
        edges=from_pairs(ring, (ring + 1) % 6, 6),
        labels=torch.tensor([0, 1, 0, 1, -1, 0]),
        classes=("left", "right"),
        metric="roc_auc",
        directed=True,
        splits={"public": Parts(*(torch.tensor([i]) for i in range(3)))},
        ids=("ä", "b", "", "d", "e", "f"),
    )


def commit(graph: Graph, out: Path) -> Artifact:
    from g2t.graph.bundle import write_graph
    from g2t.stage import Stage

    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({})


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("ids", [None, small().ids])
def test_a_graph_survives_the_disk(
    tmp_path: Path, dense: bool, ids: tuple[str, ...] | None
) -> None:
    graph = replace(small(), ids=ids)
    if dense:
        graph = replace(graph, features=torch.eye(6))
    commit(graph, tmp_path / "g")
    again = read_graph(tmp_path / "g")
    assert again.fingerprints() == graph.fingerprints()
    for field in ("name", "classes", "metric", "directed", "ids", "task"):
        assert getattr(again, field) == getattr(graph, field)
    assert isinstance(again.features, torch.Tensor) is dense
    assert again.splits["public"].test.tolist() == [2]


def test_every_part_has_its_own_fingerprint() -> None:
    graph = small()
    prints = graph.fingerprints()
    changed = replace(graph, labels=graph.labels.clone().fill_(1)).fingerprints()
    assert {part for part in prints if prints[part] != changed[part]} == {"labels", "graph"}
    assert replace(graph, metric="accuracy").fingerprints()["graph"] != prints["graph"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": torch.tensor([0, 1, 0, 1, -1, 2])}, "label 2 of node 5 is out of range"),
        ({"labels": torch.tensor([0, 1, -2, 1, -1, 0])}, "label -2 of node 2 is out of range"),
        ({"features": torch.full((6, 2), torch.nan)}, "row 0, column 0 is NaN"),
        ({"features": torch.ones(5, 2)}, "5 feature rows"),
        (
            {"edges": Csr(torch.zeros(7, dtype=torch.int64), torch.empty(0).int(), None, 6)},
            "no edges",
        ),
        ({"edges": Csr(torch.arange(7), torch.full((6,), 9).int(), None, 6)}, "outside 0 … 5"),
        ({"splits": {"s": Parts(*[torch.tensor([1])] * 3)}}, "into two of its parts"),
        ({"splits": {"s": Parts(*(torch.tensor([i]) for i in (0, 1, 6)))}}, "outside 0 … 5"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_graph(replace(small(), **change), InputError)


def test_nan_in_sparse_features_is_named() -> None:
    features = compact(torch.eye(6))
    assert isinstance(features, Csr)
    values = torch.tensor([1, 1, 1, torch.inf, 1, 1])
    with pytest.raises(InputError, match="row 3, column 3"):
        check_graph(replace(small(), features=replace(features, value_E=values)), InputError)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = commit(small(), tmp_path / "g").path
    facts = json.loads((path / "graph.json").read_text())
    (path / "graph.json").write_text(json.dumps(facts | {"name": "king"}, indent=2) + "\n")
    with pytest.raises(IntegrityError, match="does not match its recorded digest"):
        read_graph(path)


def settings_for(seed: int) -> dict[str, Any]:
    return {"nodes": 60, "degree": 4.0, "classes": 2, "seed": seed}


def test_an_import_is_done_once_refused_when_other_and_replaced_by_force(tmp_path: Path) -> None:
    out = tmp_path / "g"
    first = import_graph("synthetic:csbm", out, settings_for(0), None, Silent(), False)
    stamp = (out / "run.json").stat().st_mtime_ns
    again = import_graph("synthetic:csbm", out, settings_for(0), None, Silent(), False)
    assert (again.digest, (out / "run.json").stat().st_mtime_ns) == (first.digest, stamp)
    with pytest.raises(InputError, match="seed is 0, now 1"):
        import_graph("synthetic:csbm", out, settings_for(1), None, Silent(), False)
    forced = import_graph("synthetic:csbm", out, settings_for(1), None, Silent(), True)
    assert forced.digest != first.digest
    assert open_artifact(out, "graph").record["summary"] == {
        "nodes": 60, "edges": 240, "classes": 2,
    }  # fmt: skip


def test_settings_are_resolved_without_reading_anything() -> None:
    assert resolve_import("synthetic:csbm", {"nodes": 7}).model_dump()["nodes"] == 7
