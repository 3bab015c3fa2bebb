"""What is refused before any work, and what a score means where there is none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.distill.settings import distill_settings
from g2t.errors import G2TError, InputError, IntegrityError, UsageError
from g2t.evaluate import Sources, evaluate
from g2t.graph.bundle import Graph, Parts, write_graph
from g2t.graph.csr import from_pairs
from g2t.graph.splits import make_split
from g2t.metrics import Metric
from g2t.pipeline import check_recipe, run, tabulate
from g2t.recipe import read_recipe
from g2t.runtime import Silent
from g2t.stage import Stage
from g2t.teacher.train import teach

CSBM = {"nodes": 120, "classes": 2, "features": 4, "degree": 6.0}


def ring(metric: Metric = "accuracy") -> Graph:
    """Twenty nodes in a ring, two classes in turn, one stored split."""
    ids = torch.arange(20)
    edges = from_pairs(torch.cat([ids, (ids + 1) % 20]), torch.cat([(ids + 1) % 20, ids]), 20)
    graph = Graph("ring", torch.randn(20, 3), edges, ids % 2, ("a", "b"), "accuracy", False)
    parts = Parts(ids[:8], ids[8:12], ids[12:])
    return replace(graph, metric=metric, splits={"public": parts})


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"split": "cpff"}, "no split is called"),
        ({"split": "random:1/2"}, "no split is called"),
        ({"teach": {"split": "cpf"}}, "split of its own"),
        ({"teach": {"seed": 3}}, "seed"),
        ({"students": {"hop": {"seed": 3}}}, "seed"),
        ({"students": {}}, "students"),
        ({"students": {"../up": {"student": "mlp"}}}, "students"),
        ({"students": {"a/b": {"student": "mlp"}}}, "students"),
        ({"teach": {"teacher": 5}}, "no name of a teacher"),
        ({"students": {"x": {"student": 5}}}, "no name of a student"),
        ({"students": {"x": {"student": "mlp", "preset": []}}}, "no preset"),
    ],
)
def test_a_wrong_recipe_is_refused_before_any_work(recipe: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_recipe(read_recipe({"source": "synthetic:csbm", "import": CSBM, **recipe}))


def test_a_wrong_device_is_refused_before_the_import(tmp_path: Path) -> None:
    recipe = read_recipe({"source": "synthetic:csbm", "import": CSBM, "split": "cpf"})
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="quantum"):
        run(recipe, [0], out, root=None, device="quantum", force=False, progress=Silent())
    assert not out.exists()


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_split_without_nodes_or_labels_is_refused(part: str) -> None:
    graph = ring()
    empty = replace(graph.splits["public"], **{part: torch.empty(0, dtype=torch.int64)})
    with pytest.raises(InputError, match=f"no {part} nodes"):
        make_split(replace(graph, splits={"public": empty}), "public")
    labels = graph.labels.clone()
    labels[getattr(graph.splits["public"], part)[0]] = -1
    with pytest.raises(InputError, match=f"a {part} node has no label"):
        make_split(replace(graph, labels=labels), "public")


def test_roc_auc_needs_both_classes_in_validation() -> None:
    graph = ring("roc_auc")
    make_split(graph, "public")
    labels = graph.labels.clone()
    labels[graph.splits["public"].val] = 1
    with pytest.raises(InputError, match="both classes"):
        make_split(replace(graph, labels=labels), "public")


def test_losses_and_presets_of_the_wrong_type_are_usage_errors() -> None:
    wrong: list[dict[str, Any]] = [
        {"student": 5},
        {"preset": []},
        {"loss": 3},
        {"loss": {"soft": 3}},
    ]
    for values in wrong:
        with pytest.raises(UsageError):
            distill_settings(values)


def test_a_missing_score_is_null_and_has_no_mean() -> None:
    def result(test: float | None) -> dict[str, object]:
        student = {"name": "mlp", "val": 0.5, "test": test, "by_hops": {}}
        split = {"name": "public", "digest": "sha256:0"}
        teacher = {"name": "gcn", "val": 0.5, "test": 0.5}
        facts = {"graph": "ring", "metric": "roc_auc", "split": split}
        return {**facts, "student": student, "teacher": teacher}

    table = tabulate({"mlp": [result(0.5), result(None)]}, [0, 1], "public")
    assert table["rows"][1]["values"] == [0.5, None]
    assert table["rows"][1]["mean"] is None
    json.dumps(table, allow_nan=False)


def test_a_teacher_of_another_split_is_refused(tmp_path: Path) -> None:
    from g2t.distill.train import distill
    from g2t.export import ExportSettings, export

    graph = tmp_path / "graph"
    with Stage(graph, "graph", {}, {}, 0) as stage:
        write_graph(ring(), stage.path)
        stage.commit({})
    few = {"train": {"epochs": 2}}
    teach(graph, tmp_path / "ours", {"split": "public", **few})
    teach(graph, tmp_path / "theirs", {"split": "random:40/20/40:0", **few})
    export(tmp_path / "ours", graph, tmp_path / "cache", ExportSettings())
    distill(tmp_path / "cache", tmp_path / "alone", {"student": "mlp", "preset": "none", **few})
    with pytest.raises(IntegrityError, match="may have learned from test nodes"):
        evaluate(Sources(tmp_path / "alone", graph, None, tmp_path / "theirs"))
    evaluate(Sources(tmp_path / "alone", graph, None, tmp_path / "ours"))


def test_a_refused_stage_leaves_nothing_and_blocks_nothing(tmp_path: Path) -> None:
    graph = tmp_path / "graph"
    with Stage(graph, "graph", {}, {}, 0) as stage:
        write_graph(ring(), stage.path)
        stage.commit({})
    with pytest.raises(G2TError):
        teach(graph, tmp_path / "t", {"train": {"epochs": 2}}, device="cuda:99")
    teach(graph, tmp_path / "t", {"train": {"epochs": 1}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "t"]
