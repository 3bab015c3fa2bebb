"""Scores beside several teachers: their mean, whoever is named first, and nobody missing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from g2t.artifact import open_artifact
from g2t.cache.check import open_cache
from g2t.distill.train import distill
from g2t.errors import IntegrityError, UsageError
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.bundle import read_graph
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.teacher.forward import trace
from g2t.teacher.store import read_teacher
from g2t.teacher.train import teach
from g2t_cli.app import app

TEACHERS = ("t0", "t1", "t2")


@pytest.fixture(scope="module", params=[2, 3], ids=["binary", "three classes"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph, three teachers, a cache of all, and one of two with the layers of the third."""
    folder = tmp_path_factory.mktemp("several")
    metric = {"metric": "roc_auc"} if request.param == 2 else {}
    csbm = {"nodes": 150, "degree": 6.0, "classes": request.param, "features": 6, "noise": 2.0}
    graph = import_graph(
        "synthetic:csbm", folder / "graph", {**csbm, **metric}, None, Silent(), False
    ).path
    for seed, name in enumerate(TEACHERS):
        kind = ("gcn", "sage", "gcn")[seed]
        values = {"teacher": kind, "split": "random:20/20/60:0", "seed": seed}
        teach(graph, folder / name, {**values, "train": {"epochs": 4}}, device="cpu")
    paths = [folder / name for name in TEACHERS]
    export(paths, graph, folder / "cache", ExportSettings(dtype="fp32"))
    export(paths, graph, folder / "mixed", ExportSettings(dtype="fp32", logits_from=(2, 3)))
    student = {"student": "mlp", "model": {"hidden": 8}, "train": {"epochs": 3}}
    for name in ("cache", "mixed"):
        distill(folder / name, folder / f"of-{name}", student, device="cpu")
    return folder


def sources(home: Path, cache: str = "cache", *teachers: str) -> Sources:
    paths = [home / name for name in teachers]
    return Sources(home / f"of-{cache}", home / "graph", home / cache, paths or None)


def accuracy(home: Path, logits: Tensor) -> float:
    """How many test nodes the mean probability gets right."""
    teacher, graph = read_teacher(home / "t0"), read_graph(home / "graph")
    test = teacher.split.parts.test
    rows = torch.searchsorted(teacher.split.nodes, test)
    return float((logits[rows].argmax(1) == graph.labels[test]).double().mean())


@pytest.mark.parametrize(
    ("cache", "speakers", "name"),
    [("cache", (0, 1, 2), "gcn + sage + gcn"), ("mixed", (1, 2), "sage + gcn")],
)
def test_the_score_is_that_of_the_mean(
    home: Path, cache: str, speakers: tuple[int, ...], name: str
) -> None:
    graph = read_graph(home / "graph")
    shares = [
        trace(read_teacher(home / TEACHERS[i]), graph).logits_NC.double().softmax(1)
        for i in speakers
    ]
    wanted = torch.stack(shares).mean(0)
    torch.testing.assert_close(open_cache(home / cache).logits().exp().double(), wanted)
    found = evaluate(sources(home, cache, "t2", "t0", "t1"))
    assert found["teacher"]["name"] == name
    if found["metric"] == "accuracy":
        assert found["teacher"]["test"] == pytest.approx(accuracy(home, wanted))
    again = evaluate(sources(home, cache))
    assert again["teacher"] == found["teacher"]
    assert again["agreement"] == found["agreement"]


def test_an_evaluation_names_all_of_them_whatever_their_order(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "e"
    evaluate(sources(home, "cache", "t0", "t1", "t2"), out)
    before = open_artifact(out, "evaluation")
    evaluate(sources(home, "cache", "t1", "t2", "t0"), out)  # done already, nothing to refuse
    assert open_artifact(out, "evaluation").record["timings"] == before.record["timings"]
    digests = [open_artifact(home / name, "teacher").digest for name in TEACHERS]
    assert [before.inputs[r] for r in ("teacher", "teacher-2", "teacher-3")] == digests


def test_who_is_missing_or_foreign_is_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"made from 3 teachers, and teacher 2 .* is missing"):
        evaluate(sources(home, "cache", "t0", "t2"))
    values: dict[str, Any] = {"split": "random:20/20/60:0", "seed": 9, "train": {"epochs": 1}}
    foreign = teach(home / "graph", tmp_path / "t", values, device="cpu").path
    with pytest.raises(IntegrityError, match=f"not made from this teacher: {foreign}"):
        evaluate(sources(home, "cache", "t0", "t1", "t2", str(foreign)))


def test_only_a_cache_tells_who_of_several_said_what(home: Path) -> None:
    paths = [home / name for name in TEACHERS]
    with pytest.raises(UsageError, match="only a cache knows"):
        evaluate(Sources(home / "of-cache", home / "graph", None, paths))
    alone = evaluate(Sources(home / "of-cache", home / "graph", None, home / "t0"))
    assert alone["teacher"]["name"] == "gcn"


def g2t(code: int, *arguments: object) -> str:
    """Run the command line and return what it says: on stdout, or the error."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.stderr
    return result.stderr if code else result.stdout


def test_at_the_command_line(home: Path, tmp_path: Path) -> None:
    graph, three, cache = home / "graph", [home / name for name in TEACHERS], tmp_path / "c"
    begin = ("export-features", *three, "--graph", graph, "--logits-from")
    g2t(0, *begin, "2,3", "--dtype", "fp32", "--out", cache)
    wanted = open_cache(home / "mixed").artifact.digest
    assert open_cache(cache).artifact.digest == wanted
    named = [word for path in reversed(three) for word in ("--teacher", path)]
    assert "of the teacher" in g2t(
        0, "cache", "verify", cache, "--deep", *named, "--graph", graph, "--quiet"
    )
    g2t(0, "cache", "add", cache, "--for", "reliability", *named, "--graph", graph)
    lines = [line.split() for line in g2t(0, "cache", "inspect", cache).splitlines()]
    said = {(line[1], *line[4:]) for line in lines if line and line[0] == "teacher"}
    assert said >= {("1", "layers"), ("2", "logits"), ("3", "logits")}
    shown = json.loads(g2t(0, "cache", "inspect", cache, "--json"))
    assert [member["name"] for member in shown["teachers"]] == ["gcn", "sage", "gcn"]
    assert shown["temperature"] == json.loads((cache / "manifest.json").read_text())["temperature"]
    less = ("cache", "verify", cache, "--deep", *named[:4], "--graph", graph, "--quiet")
    assert "teacher 1" in g2t(4, *less)
    assert "names no teachers" in g2t(2, *begin, "two", "--out", tmp_path / "d")
    assert "names teacher 4" in g2t(2, *begin, "4", "--out", tmp_path / "d")
