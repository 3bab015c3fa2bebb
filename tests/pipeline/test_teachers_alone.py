"""Teachers without students: scored alone, averaged, and walked by a recipe."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from g2t.artifact import read_json
from g2t.evaluate import Sources, evaluate, evaluate_teachers
from g2t.graph.bundle import read_graph
from g2t.metrics import score
from g2t.task import mean_logits
from g2t.teacher.forward import trace
from g2t.teacher.store import read_teacher

RECIPE = """
source = "synthetic:csbm"
split = "random:20/20/60"

[import]
nodes = 200
degree = 6.0
classes = 3
features = 6
noise = 2.0

[teach]
preset = "strong"
members = 2
train = {epochs = 8}
model = {hidden = 16}

[students]
mlp = {train = {epochs = 3}}
"""


def g2t(*words: object) -> Result:
    from g2t_cli.app import app

    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe with two teachers per seed, walked without its student."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    words = ("run", folder / "recipe.toml", "--seeds", "0:2", "--out", folder / "out", "--json")
    result = g2t(*words, "--teachers-only")
    assert result.exit_code == 0, result.stderr
    (folder / "printed.json").write_text(result.stdout)
    return folder


def teachers(walked: Path, seed: int = 0) -> list[Path]:
    return [walked / "out" / f"seed-{seed}" / "teacher" / name for name in ("0", "1")]


def test_a_run_of_teachers_alone_has_their_row_and_no_cache(walked: Path) -> None:
    table = json.loads((walked / "printed.json").read_text())
    assert [row["name"] for row in table["rows"]] == ["teacher"]
    assert table["rows"][0]["minus_teacher"]["mean"] == 0
    assert sorted(path.name for path in (walked / "out" / "seed-0").iterdir()) == [
        "evaluation-teacher",
        "teacher",
    ]
    found = [
        read_json(walked / "out" / f"seed-{seed}" / "evaluation-teacher" / "evaluation.json")
        for seed in (0, 1)
    ]
    assert [result["teacher"]["test"] for result in found] == table["rows"][0]["values"]
    assert all(result["student"] is None for result in found)


def test_several_are_scored_by_their_mean(walked: Path) -> None:
    graph = read_graph(walked / "out" / "graph")
    opened = [read_teacher(path) for path in teachers(walked)]
    logits = mean_logits(graph.task, [trace(one, graph).logits_NC for one in opened])
    test = opened[0].split.parts.test
    wanted = score("accuracy", logits[test], graph.labels[test])
    found = evaluate_teachers(teachers(walked), walked / "out" / "graph")
    assert found["teacher"]["test"] == wanted
    assert found["teacher"]["name"] == "gcn + gcn"
    alone = evaluate_teachers(teachers(walked)[:1], walked / "out" / "graph")
    own = score("accuracy", trace(opened[0], graph).logits_NC[test], graph.labels[test])
    assert alone["teacher"]["test"] == own


def test_the_walk_goes_on_to_students_and_the_teacher_stays_the_same(walked: Path) -> None:
    """The teacher's row of a whole walk is that of its teachers scored alone."""
    before = json.loads((walked / "printed.json").read_text())["rows"][0]
    stamps = [(path / "run.json").stat().st_mtime_ns for path in teachers(walked)]
    words = ("run", walked / "recipe.toml", "--seeds", "0:2", "--out", walked / "out", "--json")
    result = g2t(*words)
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [row["name"] for row in rows] == ["teacher", "mlp"]
    assert rows[0]["values"] == before["values"]
    assert [(path / "run.json").stat().st_mtime_ns for path in teachers(walked)] == stamps
    seed = walked / "out" / "seed-0"
    sources = Sources(seed / "student-mlp", walked / "out" / "graph", seed / "cache")
    from_cache = evaluate(sources)["teacher"]
    assert from_cache["test"] == pytest.approx(rows[0]["values"][0], abs=0.02)  # logits in fp16
    planned = json.loads(g2t(*words, "--dry-run").stdout)
    assert planned["to_do"] == []
    assert "seed-1/teacher/1" in planned["there"]


def command(*words: object) -> tuple[int, dict[str, Any] | None, str]:
    ended = g2t("eval", *words)
    found = json.loads(ended.stdout) if ended.exit_code == 0 and "--json" in words else None
    return ended.exit_code, found, ended.stderr


def test_the_command_takes_a_teacher_or_several(walked: Path) -> None:
    graph = walked / "out" / "graph"
    code, found, _ = command(*teachers(walked), "--graph", graph, "--json")
    assert code == 0
    assert found == evaluate_teachers(teachers(walked), graph)
    shown = g2t("eval", teachers(walked)[0], "--graph", graph)
    assert shown.exit_code == 0
    assert "teacher gcn" in shown.stdout
    assert "student" not in shown.stdout


def test_what_does_not_go_together_is_refused(walked: Path) -> None:
    graph, (first, second) = walked / "out" / "graph", teachers(walked)
    code, _, said = command(first, "--graph", graph, "--teacher", second)
    assert code == 2
    assert "belong to a student" in said
    code, _, said = command(first, teachers(walked, seed=1)[0], "--graph", graph)
    assert code == 4
    assert "one may have learned from the test nodes of the other" in " ".join(said.split())
    code, _, said = command(graph, first, "--graph", graph)
    assert code == 2
    assert "is no teacher" in said
    code, _, said = command(walked / "none", "--graph", graph)
    assert code == 3


def test_a_student_cannot_be_called_teacher(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace("mlp = {", 'teacher = {student = "mlp", '), encoding="utf-8")
    ended = g2t("run", path, "--out", tmp_path / "out")
    assert ended.exit_code == 2
    assert "a student cannot be called 'teacher'" in ended.stderr


def test_a_card_without_a_student_is_refused_before_any_work(tmp_path: Path) -> None:
    words = ("run", "recipe:demo", "--teachers-only", "--card", "--out", tmp_path / "out")
    result = g2t(*words)
    assert result.exit_code == 2
    assert "a card is of a student" in result.stderr
    assert not (tmp_path / "out").exists()
