"""Scalings tried, floors to beat, several teachers, and the least that is asked for."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from g2t.artifact import open_artifact
from g2t.errors import CheckFailed, InputError, UsageError
from g2t.graph.bundle import Graph, Parts, read_graph, write_graph
from g2t.graph.csr import compact
from g2t.graph.importing import import_graph
from g2t.graph.splits import hide_test_labels, make_split
from g2t.runtime import Silent
from g2t.stage import Stage
from g2t.teacher.baseline import compare
from g2t.teacher.members import check_val, members_of, teach_members
from g2t.teacher.settings import teach_settings
from g2t.teacher.store import read_teacher
from g2t.teacher.train import plan_teacher, teach
from g2t_cli.app import app

SPLIT = "random:30/30/40"
CSBM = {"nodes": 120, "degree": 4.0, "classes": 3, "features": 8, "noise": 2.0}
SMALL: dict[str, Any] = {
    "split": SPLIT,
    "features": "raw",
    "model": {"hidden": 8},
    "train": {"epochs": 12},
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graph") / "g"
    return import_graph("synthetic:csbm", out, CSBM, None, Silent(), False).path


def store(graph: Graph, out: Path) -> Path:
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({}).path


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = open_artifact(out, "teacher").record["summary"]
    return found


def files(out: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in out.iterdir() if f.suffix == ".safetensors"}


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize("factor", [1.0, 1e-4])
def test_auto_keeps_the_better_scaling(graph: Path, tmp_path: Path, factor: float) -> None:
    """Raw features so small that nothing is learned from them make row scaling the better one."""
    data = read_graph(graph)
    assert isinstance(data.features, Tensor)
    path = store(replace(data, features=data.features.abs() * factor), tmp_path / "g")
    found: dict[str, Mapping[str, Any]] = {}
    for scaling in ("raw", "row", "auto"):
        teach(path, tmp_path / scaling, {**SMALL, "features": scaling}, device="cpu")
        found[scaling] = summary(tmp_path / scaling)
    tried = found["auto"]["tried"]
    ranks = {}
    for scaling in ("raw", "row"):
        assert tried[scaling] == {k: found[scaling][k] for k in ("epoch", "val", "val_loss")}
        ranks[scaling] = (tried[scaling]["val"], -tried[scaling]["val_loss"])
    best = "row" if ranks["row"] > ranks["raw"] else "raw"
    assert found["auto"]["features"] == best
    if factor < 1:
        assert best == "row"
    assert read_teacher(tmp_path / "auto").facts["features"]["scaling"] == best
    assert files(tmp_path / "auto") == files(tmp_path / best)
    assert not (tmp_path / "auto" / "scratch").exists()


def test_equal_scalings_leave_the_features_raw(graph: Path, tmp_path: Path) -> None:
    """Rows that sum to 1 already are the same under both."""
    data = read_graph(graph)
    features = torch.zeros(data.nodes, 8)
    features[torch.arange(data.nodes), torch.arange(data.nodes) % 8] = 1
    path = store(replace(data, features=compact(features)), tmp_path / "g")
    teach(path, tmp_path / "t", {**SMALL, "features": "auto"}, device="cpu")
    tried = summary(tmp_path / "t")
    assert tried["tried"]["raw"] == tried["tried"]["row"]
    assert tried["features"] == "raw"


def test_lines_of_the_log_name_the_scaling(graph: Path, tmp_path: Path) -> None:
    out = teach(graph, tmp_path / "t", {**SMALL, "features": "auto"}, device="cpu").path
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["features"] for line in lines] == ["raw"] * 12 + ["row"] * 12


def test_the_floors_are_those_of_the_features_and_of_the_commonest_class(graph: Path) -> None:
    """Features that are the label: the MLP knows all; with noise for features it knows nothing."""
    data = read_graph(graph)
    split = make_split(data, SPLIT + ":0")
    labels = data.labels.clone()
    labels[split.parts.train] = torch.arange(len(split.parts.train)) % 3
    labels[split.parts.train[:30]] = 2
    clear = torch.nn.functional.one_hot(labels, 3).float()
    noise = torch.randn(data.nodes, 3, generator=torch.Generator().manual_seed(0))
    found = {}
    for name, features in (("clear", clear), ("sparse", compact(clear)), ("noise", noise)):
        seen = hide_test_labels(replace(data, labels=labels, features=features), split)
        found[name] = compare(seen, split, "raw", 0.75, 0, CPU)
    share = float((labels[split.parts.val] == 2).double().mean())
    for said in found.values():
        assert said["baseline"]["majority"] == pytest.approx(share)
        assert said["val_standard_error"] == pytest.approx((0.75 * 0.25 / 36) ** 0.5)
    assert found["clear"]["baseline"]["mlp"] == found["sparse"]["baseline"]["mlp"] == 1
    assert found["noise"]["baseline"]["mlp"] < 0.6
    assert not found["clear"]["beats_baseline"]
    assert found["noise"]["beats_baseline"]


def test_floors_disturb_no_random_state_and_are_the_same_again(graph: Path) -> None:
    data = read_graph(graph)
    split = make_split(data, SPLIT + ":0")
    state = torch.get_rng_state()
    first, second = (compare(data, split, "row", 0.5, 3, CPU) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)


def test_a_teacher_below_the_floor_is_warned_of(graph: Path, tmp_path: Path) -> None:
    """One epoch at no rate to speak of on features that are the label."""
    data = read_graph(graph)
    clear = torch.nn.functional.one_hot(data.labels, 3).float()
    path = store(replace(data, features=clear), tmp_path / "g")
    values = {**SMALL, "train": {"epochs": 1, "lr": 1e-9}}
    for _ in range(2):  # and again when it is found finished
        notes = Notes()
        out = teach(path, tmp_path / "t", values, device="cpu", progress=notes).path
        assert any("does not beat an MLP without edges (1.000)" in text for text in notes.texts)
    assert not summary(out)["beats_baseline"]


def test_a_teacher_above_it_is_not(graph: Path, tmp_path: Path) -> None:
    notes = Notes()
    values = {**SMALL, "train": {"epochs": 60}}
    out = teach(graph, tmp_path / "t", values, device="cpu", progress=notes).path
    assert summary(out)["beats_baseline"]
    assert summary(out)["val"] > max(summary(out)["baseline"].values())
    assert notes.texts == []


def test_members_share_a_split_and_the_first_is_the_plain_one(graph: Path, tmp_path: Path) -> None:
    values = {**SMALL, "seed": 4}
    made = teach_members(graph, tmp_path / "t", [{**values, "members": 3}], device="cpu")
    assert [teacher.path for teacher in made] == [tmp_path / "t" / str(i) for i in range(3)]
    assert [teacher.record["config"]["member"] for teacher in made] == [0, 1, 2]
    assert {teacher.record["summary"]["split"] for teacher in made} == {SPLIT + ":4"}
    assert len({teacher.record["inputs"]["split"] for teacher in made}) == 1
    assert len({files(teacher.path)["model.safetensors"] for teacher in made}) == 3
    plain = teach(graph, tmp_path / "plain", values, device="cpu")
    assert plain.digest == made[0].digest
    assert plain.record["config"] == made[0].record["config"]


def test_finished_members_stay_and_more_may_follow(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "t"
    teach_members(graph, out, [{**SMALL, "members": 2}], device="cpu")
    stamps = [(out / str(i) / "run.json").stat().st_mtime_ns for i in range(2)]
    assert len(teach_members(graph, out, [{**SMALL, "members": 3}], device="cpu")) == 3
    assert [(out / str(i) / "run.json").stat().st_mtime_ns for i in range(2)] == stamps


def test_members_need_an_ordinary_folder(graph: Path, tmp_path: Path) -> None:
    teach(graph, tmp_path / "t", SMALL, device="cpu")
    with pytest.raises(InputError, match="is no ordinary folder"):
        teach_members(graph, tmp_path / "t", [{**SMALL, "members": 2}], device="cpu")


def test_the_least_is_compared_with_the_validation_score(graph: Path, tmp_path: Path) -> None:
    made = teach_members(graph, tmp_path / "t", [{**SMALL, "members": 2}], device="cpu")
    scores = [teacher.record["summary"]["val"] for teacher in made]
    check_val(made, min(scores))
    with pytest.raises(CheckFailed, match="less than") as caught:
        check_val(made, min(scores) + 0.001)
    assert caught.value.code == 6


def test_the_command_prints_paths_and_leaves_with_6_below_the_least(
    graph: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t"
    command = ["teach", str(graph), "--split", SPLIT, "--out", str(out), "--seeds", "2"]
    command += ["--set", "train.epochs=2", "--set", "features=raw", "--device", "cpu", "--quiet"]
    plan = json.loads(CliRunner().invoke(app, [*command, "--dry-run"]).stdout)
    assert [step["settings"]["member"] for step in plan] == [0, 1]
    assert not out.exists()
    ended = CliRunner().invoke(app, [*command, "--min-val", "1"])
    assert ended.exit_code == 6
    assert ended.stdout.split() == [str(out / "0"), str(out / "1")]
    assert "on the validation nodes, less than 1" in ended.stderr
    again = CliRunner().invoke(app, [*command, "--min-val", "0", "--json"])
    assert again.exit_code == 0
    assert [record["path"] for record in json.loads(again.stdout)] == ended.stdout.split()


def test_the_strong_preset_tries_both_scalings_and_three_seeds(graph: Path, tmp_path: Path) -> None:
    settings = teach_settings({"preset": "strong"})
    assert (settings.features, settings.members) == ("auto", 3)
    own = teach_settings({**SMALL, "preset": "strong", "features": "row", "members": 2})
    assert (own.features, own.members) == ("row", 2)
    strong = members_of(tmp_path / "t", [{**SMALL, "preset": "strong"}])
    assert [member.out.name for member in strong] == ["0", "1", "2"]
    with pytest.raises(UsageError, match=r"preset"):
        teach_settings({**SMALL, "preset": "weak"})


@pytest.mark.filterwarnings("ignore")  # the compiler's own, of what it does
@pytest.mark.parametrize("teacher", ["gcn", "appnp"])
def test_a_compiled_training_is_the_same(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str
) -> None:
    """Traced as on CUDA, though run by the plain operators, whose results are the same bits."""
    values = {**SMALL, "teacher": teacher, "train": {"epochs": 3, "ema": 0.5}}
    plain = teach(graph, tmp_path / "plain", values, device="cpu").path
    traced = torch.nn.Module.compile
    monkeypatch.setattr("g2t.teacher.train.check_device", lambda *_: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: traced(self, backend="eager"))
    values["train"] |= {"compile": True}
    compiled = teach(graph, tmp_path / "compiled", values, device="cpu").path
    assert files(compiled) == files(plain)


def test_members_hold_the_same_nodes_out(graph: Path, tmp_path: Path) -> None:
    """A stored split has no seed in its name: the draw is that of the run, not of the member."""
    data = read_graph(graph)
    ids = torch.arange(data.nodes)
    parts = Parts(ids[::3].clone(), ids[1::3].clone(), ids[2::3].clone())
    with Stage(tmp_path / "g", "graph", {}, {}, 0) as stage:
        write_graph(replace(data, splits={"public": parts}), stage.path)
        stage.commit({})
    values = {"split": "public", "setting": "production", "seed": 5, "members": 3}
    plans = [
        plan_teacher(tmp_path / "g", member.values)
        for member in members_of(tmp_path / "t", [values])
    ]
    assert len(plans[0].split.held) == len(parts.test) // 5
    assert len({plan.split.digest for plan in plans}) == 1
    assert len({plan.settings.initial_seed for plan in plans}) == 3
