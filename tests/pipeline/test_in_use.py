"""A student in use: what its answers cost, and how it stands worse features and edges."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from g2t.artifact import open_artifact
from g2t.distill.train import distill
from g2t.errors import CheckFailed, MissingExtra
from g2t.evaluate import Setup, Sources, check_scores, evaluate
from g2t.evaluate.answers import Asked, answers_of
from g2t.evaluate.case import open_case
from g2t.evaluate.latency import Rotation, latency_of, quantile
from g2t.evaluate.ready import Served, served
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.serve import load_student
from g2t.serve.near import NARROW
from g2t.serve.nodes import nodes_of_graph
from g2t.student.memory import Memory
from g2t.student.normalize import to_length
from g2t.teacher.train import teach

STUDENTS: dict[str, dict[str, Any]] = {
    "hop": {"student": "hop", "model": {"hops": 2}},
    "rich": {"student": "hop", "model": {"hops": 2, "high_pass": True}},
    "near": {"student": "hop", "model": {"hops": 2, "neighbours": 3, "neighbour_hops": 1}},
    "landmark": {"student": "landmark"},
    "mlp": {"student": "mlp"},
}
CPU = torch.device("cpu")


def family(folder: Path, import_: dict[str, Any], setting: str, names: list[str]) -> Path:
    graph = {"nodes": 140, "degree": 5.0, "classes": 3, "noise": 2.0, **import_}
    import_graph("synthetic:csbm", folder / "graph", graph, None, Silent(), False)
    values = {"split": "random:20/20/60:0", "setting": setting, "train": {"epochs": 12}}
    teach(folder / "graph", folder / "teacher", {**values, "model": {"hidden": 8}})
    export(folder / "teacher", folder / "graph", folder / "cache", ExportSettings(dtype="fp32"))
    for name in names:
        distill(folder / "cache", folder / name, {**STUDENTS[name], "train": {"epochs": 3}})
    return folder


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family(tmp_path_factory.mktemp("dense"), {"features": 6}, "transductive", list(STUDENTS))


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held")
    return family(folder, {"features": 6}, "production", ["hop", "landmark"])


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn for each batch."""
    monkeypatch.setattr("g2t.evaluate.latency.SECONDS", 0.0)


def sources(folder: Path, student: str, teacher: bool = True) -> Sources:
    known = {"teacher": folder / "teacher"} if teacher else {}
    return Sources(folder / student, folder / "graph", folder / "cache", **known)


def command(folder: Path, student: str, *more: str) -> list[str]:
    inputs = [f"--{part}={folder / part}" for part in ("graph", "cache", "teacher")]
    return ["eval", str(folder / student), *inputs, *more]


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("name", STUDENTS)
def test_what_is_timed_are_the_answers_that_are_scored(
    dense: Path, name: str, remembers: bool
) -> None:
    setup = Setup(dense / "graph", dense / "cache", dense / "teacher")
    case = open_case(dense / name, setup)
    student = case.student.model
    if remembers:
        rows = to_length(torch.randn(9, 6), 1.0)
        assert isinstance(rows, Tensor)
        student.memory = Memory(rows, torch.randn(9, 3), 2, 0.5, "multiclass")
    models = served(case, CPU)
    counts = (student.hops, 0) if student.hops else (None,)
    wanted = Asked(student, setup.graph, case.split, None).answers(*counts)
    wanted.append(answers_of(setup.teachers, setup.graph, case.split))
    for place_B in (torch.tensor([5]), torch.randperm(140)[: NARROW + 1], torch.arange(140)):
        for model, known in zip(models[: len(wanted)], wanted, strict=True):
            said, read = model.ask(place_B)
            torch.testing.assert_close(said, known.seen_NC[place_B], atol=1e-5, rtol=1e-4)
            assert read == len(place_B) or model.facts["fetch"] == "full"
    assert [model.facts["fetch"] for model in models[-2:]] == ["full", "drawn"]


@pytest.mark.parametrize("name", ["hop", "rich", "near"])
def test_what_is_timed_is_what_predict_answers(dense: Path, name: str) -> None:
    student = load_student(dense / name)
    full, none = served(open_case(dense / name, Setup(dense / "graph")), CPU)
    for place_B in (torch.tensor([5]), torch.randperm(140)[: NARROW + 1]):
        for model, hops in ((full, None), (none, 0)):
            ids = [str(place) for place in place_B.tolist()]
            known = nodes_of_graph(dense / "graph", student, ids, hops)
            said = torch.cat([answer.logits_NC for _, answer in known.answers(student)])
            torch.testing.assert_close(model.ask(place_B)[0], said, atol=1e-5, rtol=1e-5)


def test_the_student_serves_all_nodes_where_some_were_held_out(held: Path) -> None:
    setup = Setup(held / "graph", held / "cache", held / "teacher")
    case = open_case(held / "landmark", setup)
    held_B = torch.searchsorted(case.split.whole.nodes, case.split.held)
    known = Asked(case.student.model, setup.graph, case.split, None).answers(None)[0].held_UC
    said, _ = served(case, CPU)[0].ask(held_B)
    torch.testing.assert_close(said, known)


def test_latency_follows_its_schema(dense: Path, brief: None) -> None:
    result = evaluate(sources(dense, "hop"), latency="cpu")
    latency = result["latency"]
    assert (latency["schema"], latency["device"]) == ("g2t.latency/1", "cpu")
    assert (latency["threads"], latency["nodes"]) == (torch.get_num_threads(), 140)
    shown = [(model["role"], model["fetch"], model["hops"]) for model in latency["models"]]
    assert shown[:2] == [("student", "full", 2), ("student", "none", 0)]
    assert shown[2:] == [("teacher", "full", 2), ("teacher", "drawn", 2)]
    assert latency["models"][3]["fanouts"] == [10, 10]
    weights = dense / "teacher" / "model.safetensors"
    assert latency["models"][2]["bytes"] == weights.stat().st_size
    assert latency["models"][2]["parameters"] == 6 * 8 + 8 + 8 * 3 + 3
    first = latency["models"][0]["batches"]
    for model in latency["models"]:
        assert [batch["nodes"] for batch in model["batches"]] == [1, 64, 140]
        for batch, rival in zip(model["batches"], first, strict=True):
            assert batch["p50_ms"] > 0
            assert batch["calls"] == 5
            assert batch["p99_ms"] is None  # of five calls it would be the largest
            assert batch["over_student"] == pytest.approx(batch["p50_ms"] / rival["p50_ms"])
            assert batch["reads"] >= batch["nodes"]
            ratio = batch["cpu_p50_ms"] / rival["cpu_p50_ms"]
            assert batch["cpu_over_student"] == pytest.approx(ratio)
    assert "latency" not in evaluate(sources(dense, "hop"))


def test_a_model_beside_is_asked_about_as_many_nodes(dense: Path, brief: None) -> None:
    asked: list[int] = []

    def ask(place_B: Tensor) -> tuple[Tensor, int]:
        asked.append(len(place_B))
        return torch.zeros(len(place_B), 3), 7

    facts = {"role": "student", "name": "elsewhere", "fetch": "none"}
    other = Served(ask, facts, {"parameters": 1, "bytes": 2})
    case = open_case(dense / "landmark", Setup(dense / "graph"))
    own, beside = latency_of(case, "cpu", Silent(), [other])["models"]
    assert (own["name"], beside["name"], beside["bytes"]) == ("landmark", "elsewhere", 2)
    for batch, rival in zip(beside["batches"], own["batches"], strict=True):
        assert (batch["nodes"], batch["calls"]) == (rival["nodes"], rival["calls"])
        assert batch["reads"] == 7
        assert asked.count(batch["nodes"]) > batch["calls"]  # and some that do not count


def test_times_are_in_no_file_that_has_a_digest(dense: Path, tmp_path: Path, brief: None) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    found = evaluate(sources(dense, "mlp"), one, latency="cpu")
    assert found["latency"] == open_artifact(one, "evaluation").record["summary"]["latency"]
    assert evaluate(sources(dense, "mlp"), one, latency="cpu") == found  # done already
    evaluate(sources(dense, "mlp"), two, latency="cpu")
    assert open_artifact(one, "evaluation").digest == open_artifact(two, "evaluation").digest
    assert "latency" not in json.loads((one / "evaluation.json").read_text())


def test_a_slow_answer_fails_and_only_a_student_is_timed(dense: Path, brief: None) -> None:
    from g2t_cli.app import app

    models = [{"batches": [{"p50_ms": 1.5}]}, {"batches": [{"p50_ms": 9.0}]}]
    result = {
        "student": {"test": 1.0},
        "agreement": None,
        "latency": {"models": models},
    }
    check_scores(result, None, None, 1.5)
    with pytest.raises(CheckFailed, match=r"takes 1\.500 ms, not 1\.4 or less"):
        check_scores(result, None, None, 1.4)
    slow = CliRunner().invoke(app, command(dense, "mlp", "--max-p50-ms", "0", "--json"))
    assert slow.exit_code == 6
    assert len(json.loads(slow.stdout)["latency"]["models"]) == 3
    fast = CliRunner().invoke(app, command(dense, "mlp", "--max-p50-ms", "60000"))
    assert fast.exit_code == 0, fast.stderr
    assert "answers for one node at a time, cpu" in fast.stdout
    graph = ["--graph", str(dense / "graph")]
    for option in (["--latency"], ["--robust"], ["--max-p50-ms", "9"]):
        refused = CliRunner().invoke(app, ["eval", str(dense / "teacher"), *graph, *option])
        assert refused.exit_code == 2


def test_a_device_that_is_absent_is_refused_before_anything_is_timed(dense: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    with pytest.raises(MissingExtra, match="cuda is not here"):
        evaluate(sources(dense, "mlp"), latency="cuda")


def test_batches_hold_no_node_twice_and_go_round_all() -> None:
    rotation = Rotation(10, 3)
    batches = [rotation.next().tolist() for _ in range(6)]
    assert all(len(set(batch)) == 3 for batch in batches)
    for turn in (batches[:3], batches[3:]):  # the tenth node is left over
        assert len({node for batch in turn for node in batch}) == 9
    assert batches[:3] != batches[3:]


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(200, 0, -1)]
    assert (quantile(values, 0.99), quantile(values, 0.5), quantile([7.0], 0.99)) == (198, 100, 7)


def means(curve: list[Mapping[str, Any]]) -> list[float]:
    return [point["mean"] for point in curve]


@pytest.mark.parametrize("name", ["landmark", "hop"])
def test_without_corruption_scores_are_the_plain_ones(held: Path, name: str) -> None:
    """In production too, where the score is a mix of observed and held-out nodes."""
    result = evaluate(sources(held, name), robust=2)
    robust = result["robust"]
    assert (robust["schema"], robust["draws"], robust["noise"]) == ("g2t.robust/1", 2, "gaussian")
    assert robust["shares"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert list(robust["curves"]) == ["noise", "missing", "removed", "rewired"]
    for curves in robust["curves"].values():
        assert curves["student"][0]["values"] == [result["student"]["test"]]
        assert curves["teacher"][0]["values"] == [result["teacher"]["test"]]
        for curve in curves.values():
            assert [point["share"] for point in curve] == robust["shares"]
            assert [len(point["values"]) for point in curve] == [1, 2, 2, 2, 2]


def test_who_reads_no_edge_is_unmoved_by_edges_and_who_reads_some_is_not(dense: Path) -> None:
    curves = {
        name: evaluate(sources(dense, name), robust=1)["robust"]["curves"]
        for name in ("landmark", "hop")
    }
    for kind in ("removed", "rewired"):
        assert len(set(means(curves["landmark"][kind]["student"]))) == 1
        assert len(set(means(curves["hop"][kind]["student-0-hops"]))) == 1
        assert len(set(means(curves["hop"][kind]["student"]))) > 1
        assert len(set(means(curves["hop"][kind]["teacher"]))) > 1
    for kind in ("noise", "missing"):
        assert len(set(means(curves["landmark"][kind]["student"]))) > 1
    # Without an edge a teacher, and all hops, know what no hop knows; without a feature nothing.
    for model in ("student", "teacher"):
        gone = curves["landmark"]["missing"][model][-1]["mean"]
        assert gone == pytest.approx(1 / 3, abs=0.12)


def test_robustness_is_shown_with_the_cold_start_and_without_a_teacher(
    dense: Path, tmp_path: Path
) -> None:
    from g2t_cli.app import app

    more = ["--robust", "--robust-draws", "1"]
    shown = CliRunner().invoke(app, command(dense, "hop", *more, "--out", str(tmp_path / "e")))
    assert shown.exit_code == 0, shown.stderr
    assert "cold start, test score by hops at hand: 0: " in shown.stdout
    assert shown.stdout.splitlines()[-1] == str(tmp_path / "e")
    alone = evaluate(sources(dense, "mlp", teacher=False), robust=1)["robust"]["curves"]
    assert all(set(curves) == {"student"} for curves in alone.values())
