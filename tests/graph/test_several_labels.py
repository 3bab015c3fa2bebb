"""Several labels per node: every source, the artefact, its summary and its splits."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from g2t.errors import InputError, IntegrityError, UsageError
from g2t.graph.bundle import Graph, Parts, check_graph, read_graph, write_graph
from g2t.graph.inspect import summarize
from g2t.graph.sources.pyg import _labels
from g2t.graph.splits import hide_test_labels, make_split
from g2t.stage import Stage

Bring = Callable[..., tuple[Graph, list[str]]]

LABELS = np.array([[0, 1, 1], [1, 0, -1], [-1, -1, -1], [0, 0, 1]])
MASKS = {f"{part}_masks": np.eye(4, dtype=bool)[[i]] for i, part in enumerate(("train", "val"))}


def save(folder: Path, **change: Any) -> str:
    content = {
        "node_features": np.eye(4, dtype=np.float32),
        "node_labels": LABELS,
        "edges": np.array([[0, 1], [1, 2], [2, 3]]),
    }
    np.savez(folder / "several.npz", **(content | change))
    return f"npz:{folder / 'several.npz'}"


# Sources.


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.astype(np.int8), np.where(LABELS < 0, np.nan, LABELS), LABELS.astype(float)],
)
def test_npz_takes_a_matrix_of_zeros_and_ones(bring: Bring, tmp_path: Path, labels: Any) -> None:
    graph, notes = bring(save(tmp_path, node_labels=labels))
    assert graph.labels.dtype == torch.int8
    assert graph.labels.tolist() == LABELS.tolist()
    assert (graph.task, graph.metric, graph.classes) == ("multilabel", "roc_auc", ("0", "1", "2"))
    assert "1 nodes have no label (-1)" in notes


def test_npz_masks_lose_nodes_of_which_nothing_is_known(bring: Bring, tmp_path: Path) -> None:
    masks = MASKS | {"test_masks": np.array([[False, False, True, True]])}
    graph, notes = bring(save(tmp_path, **masks))
    assert graph.splits["official:0"].test.tolist() == [3]
    assert "1 nodes without a label are left out of split official:0" in notes


def test_boolean_labels_are_zeros_and_ones(bring: Bring, tmp_path: Path) -> None:
    graph, _ = bring(save(tmp_path, node_labels=LABELS == 1), {"metric": "f1"})
    assert graph.labels.tolist() == (LABELS == 1).astype(int).tolist()
    assert graph.metric == "f1"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.where(LABELS == 1, 2, LABELS), "has 2 for label 1 of node 0"),
        (np.where(LABELS == -1, -2, LABELS), "has -2 for label 2 of node 1"),
        (np.where(LABELS == 1, 0.5, LABELS), "has 0.5 for label 1 of node 0"),
        (np.where(LABELS == 1, np.inf, LABELS), "has inf for label 1 of node 0"),
        (np.full((4, 3), -1), "no node has a label"),
        (np.full((4, 3), np.nan), "no node has a label"),
        (LABELS[:, :1], r"int64 \[4, 1\], not numbers \[nodes, labels\]"),
        (LABELS[:, :0], r"int64 \[4, 0\], not numbers"),
        (LABELS[:3], "4 rows of node_features and 3 labels"),
        (LABELS.astype(str), "not numbers"),
        (LABELS[None], "not whole numbers"),
        (np.array([[0, 1], [1], [0], [1]], dtype=object), "cannot be read: Object arrays"),
    ],
)
def test_npz_labels_that_are_none_are_refused(
    bring: Bring, tmp_path: Path, labels: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        bring(save(tmp_path, node_labels=labels))


def test_a_metric_of_another_task_is_refused(bring: Bring, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accuracy does not go with the multilabel task"):
        bring(save(tmp_path), {"metric": "accuracy"})
    with pytest.raises(InputError, match="f1 does not go with the multiclass task"):
        bring("synthetic:csbm", {"metric": "f1"})


NODES = "id,red,round,a\nx,1,0,5\ny,,true,6\nz,-1,NaN,7\n"


def tables(folder: Path, nodes: str = NODES) -> dict[str, Any]:
    (folder / "nodes.csv").write_text(nodes)
    (folder / "edges.csv").write_text("s,t\nx,y\ny,z\nz,w\n")
    files = {"nodes": str(folder / "nodes.csv"), "edges": str(folder / "edges.csv")}
    return {**files, "label_column": "red, round", "unknown_nodes": "add"}


def test_a_table_takes_several_label_columns(bring: Bring, tmp_path: Path) -> None:
    graph, notes = bring("table:", tables(tmp_path))
    assert graph.labels.dtype == torch.int8
    assert graph.labels.tolist() == [[1, 0], [-1, 1], [-1, -1], [-1, -1]]
    assert graph.classes == ("red", "round")
    assert (graph.task, graph.metric, graph.ids) == ("multilabel", "roc_auc", ("x", "y", "z", "w"))
    assert "features: 1 number columns: a" in notes
    assert "2 nodes have no label (-1)" in notes


def test_a_label_column_may_have_a_comma_in_its_name(bring: Bring, tmp_path: Path) -> None:
    values = tables(tmp_path, 'id,"red, round",a\nx,p,5\ny,q,6\nz,p,7\n')
    graph, _ = bring("table:", values)
    assert (graph.task, graph.classes) == ("binary", ("p", "q"))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (NODES.replace("x,1,0", "x,2,0"), "line 2 of .* has '2' for the label 'red'"),
        (NODES.replace("true", "yes"), "line 3 of .* has 'yes' for the label 'round'"),
        (NODES.replace("x,1,0", "x,0.5,0"), "has '0.5' for the label 'red'"),
        (NODES + "v,1\n", "line 5 of .* has 2 cells, the header has 4"),
        ("id,red,round,a\nx,,,5\ny,-1,,6\nz,,,7\n", "no node has a label"),
        (NODES.replace("round", "flat"), "no column 'round' for --label-column"),
    ],
)
def test_label_columns_that_are_none_are_refused(
    bring: Bring, tmp_path: Path, nodes: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        bring("table:", tables(tmp_path, nodes))


def test_a_label_column_named_twice_or_as_a_feature_is_refused(
    bring: Bring, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="red,red names a column twice"):
        bring("table:", tables(tmp_path) | {"label_column": "red,red"})
    with pytest.raises(InputError, match="'round' is the label and cannot be a feature"):
        bring("table:", tables(tmp_path) | {"feature_columns": "a,round"})


def test_pygs_matrix_of_labels_is_kept_and_one_column_is_a_class(tmp_path: Path) -> None:
    several = _labels(torch.tensor([[1.0, 0.0], [torch.nan, 1.0]]), tmp_path)
    assert (several.dtype, several.tolist()) == (torch.int8, [[1, 0], [-1, 1]])
    single = _labels(torch.tensor([[2], [0]]), tmp_path)
    assert (single.dtype, single.tolist()) == (torch.int64, [2, 0])
    with pytest.raises(InputError, match="has 3 for label 1 of node 0"):
        _labels(torch.tensor([[1, 3]]), tmp_path)


def test_a_generated_graph_gives_each_label_to_half_of_the_classes(bring: Bring) -> None:
    values = {"nodes": 120, "classes": 6, "labels": 4}
    graph, _ = bring("synthetic:csbm", values)
    again, _ = bring("synthetic:csbm", values)
    one, _ = bring("synthetic:csbm", {"nodes": 120, "classes": 6})
    assert graph.fingerprints() == again.fingerprints()
    assert (graph.labels == 1).sum(0).tolist() == [60] * 4
    for part in ("features", "edges"):
        assert graph.fingerprints()[part] == one.fingerprints()[part]
    # A class has one row of labels.
    rows = torch.cat([one.labels[:, None], graph.labels.long()], 1).unique(dim=0)  # type: ignore[no-untyped-call]
    assert len(rows) == 6


# The artefact.


@pytest.fixture
def graph(bring: Bring) -> Graph:
    made, _ = bring("synthetic:csbm", {"nodes": 200, "labels": 3, "degree": 4.0})
    labels = made.labels.clone()
    labels[::7] = -1
    labels[1::7, 0] = -1
    return replace(made, labels=labels)


def commit(graph: Graph, out: Path, **facts: Any) -> Path:
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        path = stage.path / "graph.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))
        stage.commit({})
    return out


def test_labels_survive_the_disk_and_have_a_fingerprint(graph: Graph, tmp_path: Path) -> None:
    again = read_graph(commit(graph, tmp_path / "g"))
    assert torch.equal(again.labels, graph.labels)
    assert json.loads((tmp_path / "g" / "graph.json").read_text())["task"] == "multilabel"
    other = replace(graph, labels=graph.labels.clone().index_fill_(0, torch.tensor([3]), 0))
    assert other.fingerprints()["labels"] != again.fingerprints()["labels"]


def test_a_task_that_the_labels_do_not_make_is_refused(graph: Graph, tmp_path: Path) -> None:
    path = commit(graph, tmp_path / "g", task="multiclass")
    with pytest.raises(IntegrityError, match="calls its task 'multiclass'; its labels are multila"):
        read_graph(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": torch.full((200, 3), 2, dtype=torch.int8)}, "label '0' of node 0 is 2"),
        ({"labels": torch.full((200, 3), -2, dtype=torch.int8)}, "label '0' of node 0 is -2"),
        ({"labels": torch.zeros(200, 3)}, r"torch.float32 \[200, 3\] for 3 classes"),
        ({"labels": torch.zeros(200, 4, dtype=torch.int8)}, r"\[200, 4\] for 3 classes"),
        ({"labels": torch.zeros(200, 3, 1, dtype=torch.int8)}, r"\[200, 3, 1\] for 3 classes"),
        ({"metric": "accuracy"}, "accuracy is no score of a multilabel task"),
        (
            {"labels": torch.zeros(200, 1, dtype=torch.int8), "classes": ("a",)},
            r"\[200, 1\] for 1 classes",
        ),
    ],
)
def test_contradictions_are_refused(graph: Graph, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_graph(replace(graph, **change), InputError)


def test_the_summary_counts_labels_and_makes_no_homophily_up(graph: Graph) -> None:
    figures = summarize(graph)
    assert figures["task"] == "multilabel"
    assert figures["classes"] == {
        str(label): int((graph.labels[:, label] == 1).sum()) for label in range(3)
    }
    assert figures["unlabelled"] == 29
    assert figures["homophily"] is None
    said = "\n".join(figures["warnings"])
    assert "29 nodes have no label" in said
    assert "use random:60/20/20:SEED" in said
    assert "cpf" not in said


# Splits.


def test_random_draws_among_nodes_with_a_known_label(graph: Graph) -> None:
    parts = make_split(graph, "random:60/20/20:0").parts
    every = torch.cat([parts.train, parts.val, parts.test])
    assert len(every) == 200 - 29
    assert bool((graph.labels[every] >= 0).any(1).all())


def test_cpf_has_no_classes_to_draw_from(graph: Graph) -> None:
    with pytest.raises(InputError, match="cpf:0 draws nodes class by class") as caught:
        make_split(graph, "cpf:0")
    assert "random:60/20/20" in str(caught.value.hint)


def test_test_labels_are_hidden_whole(graph: Graph) -> None:
    split = make_split(graph, "random:60/20/20:0")
    hidden = hide_test_labels(graph, split).labels
    seen = torch.cat([split.parts.train, split.parts.val])
    assert torch.equal(hidden[seen], graph.labels[seen])
    others = torch.ones(200, dtype=torch.bool)
    others[seen] = False
    assert bool((hidden[others] == -1).all())
    assert bool((graph.labels[split.parts.test] >= 0).any())


@pytest.mark.parametrize(
    ("metric", "known", "said"),
    [
        ("roc_auc", 1, "ROC-AUC needs both classes among the validation"),
        ("f1", 0, "F1 needs a label that is 1 among the validation"),
        ("f1", -1, "a val node has no label"),
    ],
)
def test_a_validation_part_without_a_score_is_refused(
    graph: Graph, metric: Any, known: int, said: str
) -> None:
    parts = Parts(*(torch.arange(i * 7 + 1, i * 7 + 6) for i in range(3)))
    labels = graph.labels.clone()
    labels[parts.val] = known
    stored = replace(graph, labels=labels, metric=metric, splits={"public": parts})
    with pytest.raises(InputError, match=said):
        make_split(stored, "public")
    make_split(replace(stored, labels=graph.labels), "public")
