"""Several labels per node, from a generated graph to the scores of its students."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli
from torchmetrics.functional.classification import multilabel_auroc

from g2t.cache.check import open_cache
from g2t.cache.convert import ConvertSettings, convert
from g2t.cache.outside import OutsideFiles, OutsideSettings, import_cache
from g2t.distill.train import distill
from g2t.errors import UsageError
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.export.source import normal
from g2t.graph.bundle import read_graph
from g2t.graph.importing import import_graph
from g2t.graph.splits import read_split
from g2t.runtime import Silent
from g2t.student.base import predict
from g2t.student.store import read_student
from g2t.teacher.forward import observed, trace
from g2t.teacher.store import read_teacher
from g2t.teacher.train import teach
from tests.conftest import Notes

GRAPH = {"nodes": 300, "degree": 8.0, "classes": 6, "labels": 5, "features": 12, "noise": 1.5}
SIGNALS = ("layers", "pre_layers", "logits", "edge_scores", "reliability", "codes", "clusters")
STUDENTS: dict[str, dict[str, Any]] = {
    "landmark": {"student": "landmark", "preset": "soft"},
    "hop": {"student": "hop", "preset": "paper", "model": {"hops": 2}},
    "mlp": {
        "student": "mlp",
        "loss": {name: {} for name in ("hard", "pseudo", "edge_low", "reliable_edge", "codebook")},
    },
    "alone": {"student": "hop", "preset": "none", "model": {"hops": 2}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph, its teacher and its cache."""
    folder = tmp_path_factory.mktemp("several")
    import_graph("synthetic:csbm", folder / "graph", GRAPH, None, Silent(), False)
    values = {"split": "random:40/20/40:0", "train": {"epochs": 40}}
    teach(folder / "graph", folder / "teacher", values)
    settings = ExportSettings(signals=SIGNALS, dtype="fp32")
    export(folder / "teacher", folder / "graph", folder / "cache", settings)
    return folder


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_beats_a_constant_by_far(folder: Path, tmp_path: Path, name: str) -> None:
    distill(folder / "cache", tmp_path / "s", {**STUDENTS[name], "train": {"epochs": 25}})
    sources = Sources(tmp_path / "s", folder / "graph", folder / "cache", folder / "teacher")
    result = evaluate(sources)
    assert (result["task"], result["metric"]) == ("multilabel", "roc_auc")
    # A constant answer has 1/2.
    assert result["student"]["test"] > 0.85
    assert result["teacher"]["test"] > 0.9
    assert result["agreement"] > 0.75


def test_scores_equal_another_route(folder: Path, tmp_path: Path) -> None:
    distill(folder / "cache", tmp_path / "s", {"student": "mlp", "train": {"epochs": 5}})
    result = evaluate(Sources(tmp_path / "s", folder / "graph", folder / "cache"))
    cache, graph = open_cache(folder / "cache"), read_graph(folder / "graph")
    student = read_student(tmp_path / "s").model
    own = predict(student, student.prepare(cache.features(), cache.edges, None))
    theirs = trace(read_teacher(folder / "teacher"), graph).logits_NC
    test = read_split(folder / "teacher" / "split.safetensors").parts.test
    labels = graph.labels[test].long()
    for model, logits in (("student", own), ("teacher", theirs)):
        wanted = multilabel_auroc(logits[test], labels, num_labels=5)
        assert result[model]["test"] == pytest.approx(float(wanted), abs=1e-6)
    same = ((own[test] > 0) == (theirs[test] > 0)).double().mean()
    assert result["agreement"] == pytest.approx(float(same))


def test_the_cache_says_what_it_holds_and_no_test_label(folder: Path) -> None:
    cache, graph = open_cache(folder / "cache"), read_graph(folder / "graph")
    assert (cache.manifest.task, cache.manifest.metric) == ("multilabel", "roc_auc")
    assert cache.labels.dtype == torch.int8
    seen = torch.cat([cache.parts.train, cache.parts.val])
    assert torch.equal(cache.labels[seen], graph.labels[cache.ids[seen]])
    assert bool((cache.labels[cache.parts.test] == -1).all())


def test_reliability_is_the_entropy_of_all_labels_that_noise_moves(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    teacher, graph = read_teacher(folder / "teacher"), read_graph(folder / "graph")
    scaling = teacher.facts["features"]["scaling"]
    features, structure = observed(graph, teacher.split, scaling, torch.device("cpu"))
    assert isinstance(features, torch.Tensor)
    rows, columns = torch.arange(len(features))[:, None], torch.arange(features.shape[1])
    with torch.inference_mode():
        noisy = teacher.model(features + normal(rows, columns), structure).logits_NC
    clean = trace(teacher, graph).logits_NC
    before, after = (
        Bernoulli(logits=logits.double()).entropy().sum(1)  # type: ignore[no-untyped-call]
        for logits in (clean, noisy)
    )
    moved = (before - after).abs()
    found = cache.whole("teacher-reliability")
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found[:, 0].double(), moved / moved.max(), rtol=0, atol=1e-4)


def test_unknown_labels_teach_nothing(folder: Path, tmp_path: Path) -> None:
    """Labels that a fifth of the entries lacks still make a good teacher."""
    graph = read_graph(folder / "graph")
    draw = np.random.default_rng(0).random(graph.labels.shape) < 0.2
    assert isinstance(graph.features, torch.Tensor)
    ends = graph.edges.column_E, graph.edges.row_E
    np.savez(
        tmp_path / "g.npz",
        node_features=graph.features.numpy(),
        node_labels=np.where(draw, -1, graph.labels.numpy()),
        edges=torch.stack([end.long() for end in ends], 1).numpy(),
    )
    import_graph(
        f"npz:{tmp_path / 'g.npz'}", tmp_path / "g", {"metric": "f1"}, None, Silent(), False
    )
    values = {"split": "random:40/20/40:0", "train": {"epochs": 40}}
    record = teach(tmp_path / "g", tmp_path / "t", values).record["summary"]
    assert record["val"] > 0.85


def test_one_choice_among_classes_is_not_asked_of_several_labels(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="this task has several labels"):
        export(folder / "teacher", folder / "graph", tmp_path / "c", ExportSettings(topk=2))
    with pytest.raises(UsageError, match="this task has several labels"):
        convert(folder / "cache", tmp_path / "c", ConvertSettings(dtype="fp16", topk=2))
    assert not list(tmp_path.iterdir())


def test_a_teacher_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    logits = trace(read_teacher(folder / "teacher"), read_graph(folder / "graph")).logits_NC
    np.save(tmp_path / "logits.npy", logits.numpy())
    np.save(tmp_path / "shares.npy", logits.sigmoid().numpy())
    settings, notes = OutsideSettings(split="random:40/20/40:0"), Notes()
    for name in ("logits", "shares"):
        files = OutsideFiles(folder / "graph", tmp_path / f"{name}.npy")
        import_cache(files, tmp_path / name, settings, progress=notes)
    said = "shares.npy looks like probabilities; logits are log p - log(1 - p)"
    assert [text.endswith(said) for text in notes.texts] == [True]
    cache = open_cache(tmp_path / "logits")
    assert torch.equal(cache.labels, open_cache(folder / "cache").labels)
    distill(tmp_path / "logits", tmp_path / "s", {"student": "mlp", "train": {"epochs": 10}})
    assert evaluate(Sources(tmp_path / "s", folder / "graph"))["student"]["test"] > 0.75
