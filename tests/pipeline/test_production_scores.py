"""The production setting: scores of seen nodes, and of held-out ones from the whole graph."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import multilabel_auroc

from g2t.artifact import read_json
from g2t.distill.train import distill
from g2t.evaluate import Setup, Sources, evaluate, open_case, scores_of
from g2t.evaluate.answers import Asked
from g2t.export import ExportSettings, export
from g2t.graph.bundle import read_graph
from g2t.graph.csr import from_pairs
from g2t.graph.splits import make_split, read_split
from g2t.student.base import Inputs, predict
from g2t.student.store import read_student
from g2t.teacher.frame import structure_of
from g2t.teacher.store import read_teacher
from g2t.teacher.train import teach
from tests.pipeline.held import STUDENTS, g2t, made, sources, split_of, store, walk


@pytest.mark.parametrize("name", STUDENTS)
def test_scores_equal_a_hand_computation(production: Path, name: str) -> None:
    result = evaluate(sources(production, name, "cache", "teacher"))
    graph, split = read_graph(production / "graph"), split_of(production)
    features_NF = graph.features
    assert isinstance(features_NF, Tensor)
    model = read_student(production / name).model

    def answers(nodes: Tensor, hops: int | None) -> Tensor:
        """What the student says with the edges among some nodes, Â made densely; [N, C]."""
        adjacency = torch.zeros(graph.nodes, graph.nodes)
        adjacency[graph.edges.row_E, graph.edges.column_E.long()] = 1
        adjacency = adjacency[nodes][:, nodes]
        scale = (adjacency.sum(1) + 1).rsqrt()
        operator = scale[:, None] * (adjacency + torch.eye(len(nodes))) * scale
        tokens = [features := features_NF[nodes]]
        for _ in range(model.hops):
            tokens.append(operator @ tokens[-1])
        inputs = Inputs(model.normalize(features if model.hops == 0 else torch.stack(tokens, 1)))
        if model.hops:
            inputs = Inputs(features, tokens=model.normalize(torch.stack(tokens, 1)))
        said = torch.full((graph.nodes,), -1)
        said[nodes] = predict(model, inputs, hops).argmax(1)
        return said

    def right(said: Tensor, nodes: Tensor) -> float:
        return sum(int(said[n]) == int(graph.labels[n]) for n in nodes.tolist()) / len(nodes)

    for hops, scores in [(None, result["student"]), *result["student"]["by_hops"].items()]:
        seen = answers(split.nodes, None if hops is None else int(hops))
        every = answers(torch.arange(graph.nodes), None if hops is None else int(hops))
        tran, ind = right(seen, split.parts.test), right(every, split.held)
        assert scores["val"] == pytest.approx(right(seen, split.parts.val))
        assert scores["settings"] == pytest.approx(
            {"tran": tran, "ind": ind, "prod": 0.8 * tran + 0.2 * ind}
        )
        assert scores["test"] == scores["settings"]["prod"]
    teacher = read_teacher(production / "teacher").model
    with torch.inference_mode():
        structure = structure_of(graph.edges, torch.device("cpu"))
        whole = teacher(features_NF, structure).logits_NC.argmax(1)
    assert result["teacher"]["settings"]["ind"] == pytest.approx(right(whole, split.held))
    seen, every = answers(split.nodes, None), answers(torch.arange(graph.nodes), None)
    observed = evaluate(sources(production, name, "cache"))["agreement"] * len(split.parts.test)
    same = observed + sum(int(every[n]) == int(whole[n]) for n in split.held.tolist())
    assert result["agreement"] == pytest.approx(same / 96)


def test_without_the_teacher_its_share_is_unknown_and_said_so(production: Path) -> None:
    folder = ("--graph", production / "graph", "--cache", production / "cache")
    printed = g2t("eval", production / "hop", *folder, "--json")
    assert printed.exit_code == 0, printed.stderr
    result, both = (
        json.loads(printed.stdout),
        evaluate(sources(production, "hop", "cache", "teacher")),
    )
    assert "without --teacher" in printed.stderr
    teacher = result["teacher"]
    assert teacher["settings"] == {**both["teacher"]["settings"], "ind": None, "prod": None}
    assert teacher["test"] is None
    assert (teacher["val"], result["student"]) == (both["teacher"]["val"], both["student"])
    quiet = g2t("eval", production / "hop", *folder, "--teacher", production / "teacher")
    assert quiet.exit_code == 0
    assert "without --teacher" not in quiet.stderr
    assert "tran" in quiet.stdout
    assert "production" in quiet.stdout
    assert evaluate(sources(production, "hop"))["teacher"] is None


def test_without_a_hop_an_unseen_node_is_answered_by_its_features_alone(production: Path) -> None:
    student, setup = production / "hop", Setup(production / "graph")
    case, graph = open_case(student, setup), setup.graph
    connected = scores_of(case)["student"]
    row_E, column_E = graph.edges.row_E, graph.edges.column_E.long()
    apart = ~(torch.isin(row_E, case.split.held) | torch.isin(column_E, case.split.held))
    cut = replace(graph, edges=from_pairs(column_E[apart], row_E[apart], graph.nodes))
    setup.graph = cut
    isolated = scores_of(case)["student"]
    assert isolated["by_hops"]["0"] == connected["by_hops"]["0"]
    said = [
        Asked(case.student.model, whole, case.split, None).answers(None)[0].held_UC
        for whole in (graph, cut)
    ]
    assert said[0] is not None
    assert said[1] is not None
    assert not said[0].equal(said[1])
    assert isolated["settings"]["tran"] == connected["settings"]["tran"]


def test_one_class_among_the_held_out_gives_no_roc_auc(tmp_path: Path) -> None:
    graph = made(tmp_path, classes=2, metric="roc_auc")
    name = "random:20/20/60:1"
    labels = graph.labels.clone()
    labels[make_split(graph, name, "production").held] = 1
    store(replace(graph, labels=labels), tmp_path / "graph")
    walk(tmp_path, name, ExportSettings(), {"mlp": STUDENTS["mlp"]})
    result = evaluate(sources(tmp_path, "mlp", "cache", "teacher"))
    for model in ("student", "teacher"):
        assert result[model]["test"] is None
        assert result[model]["settings"]["tran"] > 0.5
        assert (result[model]["settings"]["ind"], result[model]["settings"]["prod"]) == (None, None)


RECIPE = """
source = "synthetic:csbm"
split = "random:20/20/60"
setting = "production"

[import]
nodes = 160
degree = 6.0
classes = 3
features = 6
noise = 2.0

[teach]
train = {epochs = 8}
model = {hidden = 16}

[students]
hop = {train = {epochs = 3}, model = {hops = 1}}
mlp = {train = {epochs = 3}}
"""


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    result = g2t("run", folder / "recipe.toml", "--seeds", "0:2", "--out", folder / "out", "--json")
    assert result.exit_code == 0, result.stderr
    assert "without --teacher" not in result.stderr
    (folder / "printed.json").write_text(result.stdout)
    return folder


def test_the_table_of_a_run_has_the_parts_of_every_score(walked: Path) -> None:
    table = json.loads((walked / "printed.json").read_text())
    assert table["split"]["setting"] == "production"
    folders = [walked / "out" / f"seed-{seed}" for seed in (0, 1)]
    teacher, hop, mlp = table["rows"]
    for row, student, part in ((teacher, "hop", "teacher"), (hop, "hop", "student")):
        results = [read_json(f / f"evaluation-{student}" / "evaluation.json") for f in folders]
        check(row, [result[part] for result in results])
    for hops in ("0", "1"):
        results = [read_json(f / "evaluation-hop" / "evaluation.json") for f in folders]
        check(hop["by_hops"][hops], [result["student"]["by_hops"][hops] for result in results])
    assert "by_hops" not in mlp
    assert len(set(mlp["settings"]["ind"]["values"] + mlp["settings"]["tran"]["values"])) > 2


def check(row: Mapping[str, Any], scores: list[Mapping[str, Any]]) -> None:
    assert set(row["settings"]) == {"tran", "ind", "prod"}
    assert row["values"] == row["settings"]["prod"]["values"]
    for key, figures in row["settings"].items():
        values = [score["settings"][key] for score in scores]
        assert figures["values"] == values
        assert figures["mean"] == pytest.approx(statistics.mean(values))
        assert figures["std"] == pytest.approx(statistics.stdev(values))


def test_people_see_the_parts_too_and_a_plan_says_how_many_are_held_out(walked: Path) -> None:
    table = json.loads((walked / "printed.json").read_text())
    again = g2t("run", walked / "recipe.toml", "--seeds", "0:2", "--out", walked / "out")
    assert again.exit_code == 0, again.stderr
    ind = table["rows"][1]["settings"]["ind"]
    assert f"{100 * ind['mean']:.2f} ± {100 * ind['std']:.2f}" in again.stdout
    words = ("--split", "random:20/20/60:0", "--setting", "production", "--dry-run")
    plan = g2t("teach", walked / "out" / "graph", *words, "--out", walked / "no")
    assert json.loads(plan.stdout)["held"] == 19
    assert json.loads(plan.stdout)["nodes"] == 160 - 19
    part = g2t(
        "teach", walked / "out" / "graph", "--config", walked / "recipe.toml", "--print-config"
    )
    assert 'setting = "production"' in part.stdout


@pytest.mark.parametrize(
    ("key", "said"),
    [("setting=inductive", "setting"), ("teach.setting=production", "setting of its own")],
)
def test_a_wrong_setting_fails_before_any_work(tmp_path: Path, key: str, said: str) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    out = tmp_path / "out"
    result = g2t("run", tmp_path / "recipe.toml", "--set", key, "--out", out)
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert not out.exists()


def test_two_teachers_of_several_labels_answer_unseen_nodes_by_their_mean(tmp_path: Path) -> None:
    store(made(tmp_path, labels=4), tmp_path / "graph")
    protocol = {"split": "random:20/20/60:0", "setting": "production", "train": {"epochs": 15}}
    paths = [tmp_path / kind for kind in ("gcn", "sage")]
    for path in paths:
        teach(tmp_path / "graph", path, {**protocol, "teacher": path.name, "seed": 5})
    export(paths, tmp_path / "graph", tmp_path / "cache", ExportSettings(dtype="fp32"))
    distill(tmp_path / "cache", tmp_path / "hop", STUDENTS["hop"])
    folders = (tmp_path / "hop", tmp_path / "graph", tmp_path / "cache")
    result = evaluate(Sources(*folders, paths))
    graph, split = read_graph(tmp_path / "graph"), read_split(paths[0] / "split.safetensors")
    assert isinstance(graph.features, Tensor)
    structure = structure_of(graph.edges, torch.device("cpu"))
    with torch.inference_mode():
        answers = [read_teacher(path).model(graph.features, structure) for path in paths]
    mean = torch.stack([answer.logits_NC.double().sigmoid() for answer in answers]).mean(0)
    truth = graph.labels[split.held].int()
    assert (truth >= 0).all()
    expected = multilabel_auroc(mean[split.held], truth, num_labels=4)
    assert result["teacher"]["settings"]["ind"] == pytest.approx(float(expected), abs=1e-6)
    assert result["student"]["settings"]["ind"] > 0.5
    assert 0 < result["agreement"] < 1


def test_a_breakdown_tells_seen_from_never_seen(production: Path) -> None:
    result = evaluate(sources(production, "hop", "cache", "teacher"), breakdown=True)
    split, found = split_of(production), result["breakdown"]
    for group, part, nodes in zip(
        found["seen"], ("tran", "ind"), (split.parts.test, split.held), strict=True
    ):
        assert group["nodes"] == len(nodes)
        for model in ("student", "teacher"):
            assert group[model] == pytest.approx(result[model]["settings"][part])
    assert found["nodes"] == sum(group["nodes"] for group in found["seen"])
    # A cache speaks for the teacher where it can.
    cached = evaluate(sources(production, "hop", "cache"), breakdown=True)["breakdown"]
    assert [group["teacher"] for group in cached["seen"]] == [found["seen"][0]["teacher"], None]
