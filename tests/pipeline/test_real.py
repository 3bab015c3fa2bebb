"""The five commands on real data, in the order a user types them, with few epochs."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from g2t.artifact import open_artifact


def g2t(*words: object) -> list[str]:
    """Run a command that has to succeed; returns the lines of its stdout."""
    from g2t_cli.app import app

    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def walk(
    folder: Path, imported: list[object], split: str, teacher: list[str], epochs: int
) -> dict[str, Any]:
    """Walk all stages after the source into a folder; returns the evaluation."""
    graph, taught, cache, student = (folder / n for n in ("graph", "teacher", "cache", "student"))
    few = ("--set", f"train.epochs={epochs}")
    commands: list[tuple[Path, list[object]]] = [
        (graph, ["import", *imported]),
        (taught, ["teach", graph, "--teacher", "gcn", "--split", split, "--seed", 0, *teacher]),
        (cache, ["export-features", taught, "--graph", graph]),
        (student, ["distill", cache, "--student", "landmark", "--seed", 0, *few]),
    ]
    for out, words in commands:
        assert g2t(*words, "--out", out)[-1] == str(out)
    paths = ["--graph", graph, "--cache", cache, "--teacher", taught]
    lines = g2t("eval", student, *paths, "--json")
    assert len(lines) == 1
    result: dict[str, Any] = json.loads(lines[0])
    return result


def test_cora_stage_by_stage(datasets: Path, tmp_path: Path) -> None:
    epochs = ["--set", "train.epochs=30"]
    result = walk(tmp_path, ["planetoid:Cora", "--root", datasets], "public", epochs, 15)
    assert result["schema"] == "g2t.evaluation/1"
    assert (result["task"], result["metric"]) == ("multiclass", "accuracy")
    assert result["split"]["name"] == "public"
    assert result["teacher"]["test"] > 0.75
    assert 0.4 < result["student"]["test"] <= 1
    cache = open_artifact(tmp_path / "cache", "cache")
    assert cache.record["summary"]["rows"] == 2708


def test_musae_github_through_tables(datasets: Path, tmp_path: Path) -> None:
    folder = datasets / "musae_github"
    options = {
        "--nodes": folder / "musae_git_target.csv",
        "--edges": folder / "musae_git_edges.csv",
        "--features": folder / "musae_git_features.json",
        "--id-column": "id",
        "--label-column": "ml_target",
    }
    words = [word for pair in options.items() for word in pair]
    small = ["--set", "train.epochs=5", "--set", "model.hidden=32"]
    result = walk(tmp_path, ["table:", *words], "random:60/20/20", small, 3)
    assert result["task"] == "binary"
    assert result["split"]["name"] == "random:60/20/20:0"
    assert 0.5 < result["teacher"]["test"] <= 1
    assert 0.5 < result["student"]["test"] <= 1
    graph = open_artifact(tmp_path / "graph", "graph").record["summary"]
    assert graph == {"nodes": 37_700, "edges": 2 * 289_003, "classes": 2}
    assert open_artifact(tmp_path / "cache", "cache").record["summary"]["bytes"] < 60 << 20
