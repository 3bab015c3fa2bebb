"""From a user's table to answers: names travel, and new rows are answered as g2t eval answers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from g2t import load_student
from g2t.cache.check import open_cache
from g2t.cache.rules import fault_of
from g2t.distill.train import distill
from g2t.evaluate.answers import Asked
from g2t.export import ExportSettings, export
from g2t.graph.bundle import read_graph
from g2t.graph.importing import import_graph
from g2t.graph.splits import read_split
from g2t.runtime import Silent
from g2t.student.store import read_student
from g2t.task import decide
from g2t.teacher.train import teach
from g2t_cli.app import app
from tests.serve.conftest import NAMES, Make

TOP = Path(__file__).parents[2]
FEW = {"train": {"epochs": 3}}


def write_tables(folder: Path) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    kinds = np.arange(80) % 2
    rows = random.normal(size=(80, 4)) + kinds[:, None]
    nodes, edges = folder / "nodes.csv", folder / "edges.csv"
    with nodes.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "word", *NAMES, "label"])
        writer.writerows([f"p{i}", "x", *rows[i].round(3), "ab"[kinds[i]]] for i in range(80))
    with edges.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["u", "v"], *([f"p{i}", f"p{(i + 2) % 80}"] for i in range(80))]
        )
    return nodes, edges


@pytest.mark.parametrize("student", ["landmark", "hop"])
def test_unseen_nodes_are_answered_as_by_eval(tmp_path: Path, student: str) -> None:
    nodes, edges = write_tables(tmp_path)
    tables = {"nodes": str(nodes), "edges": str(edges), "id_column": "who"}
    import_graph("table:", tmp_path / "graph", tables, None, Silent(), False)
    held = {"split": "random:40/20/40:0", "setting": "production", **FEW}
    teach(tmp_path / "graph", tmp_path / "teacher", held, device="cpu")
    export(tmp_path / "teacher", tmp_path / "graph", tmp_path / "cache", ExportSettings())
    distill(tmp_path / "cache", tmp_path / "out", {"student": student, **FEW}, device="cpu")

    manifest = open_cache(tmp_path / "cache").manifest
    assert manifest.feature_names == load_student(tmp_path / "out").feature_names == NAMES
    lost = manifest.model_copy(update={"feature_names": NAMES[1:]})
    assert "3 names, some maybe twice, to 4" in str(fault_of(lost))

    graph, split = (
        read_graph(tmp_path / "graph"),
        read_split(tmp_path / "teacher/split.safetensors"),
    )
    model = read_student(tmp_path / "out").model
    told = Asked(model, graph, split, None).answers(None)[0].held_UC
    assert told is not None
    assert graph.ids is not None
    expected = {
        graph.ids[node]: graph.classes[index]
        for node, index in zip(split.held.tolist(), decide(graph.task, told).tolist(), strict=True)
    }
    words = ["predict", tmp_path / "out", nodes, "--id-column", "who"]
    if student == "hop":
        words += ["--edges", edges]
    done = CliRunner().invoke(app, [str(word) for word in words])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 80
    assert {row["id"]: row["class"] for row in rows if row["id"] in expected} == expected


def test_the_example_of_the_readme_runs(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    assert len(example.splitlines()) == 15
    made = make("hop")
    (tmp_path / "runs" / "cora").mkdir(parents=True)
    made.rename(tmp_path / "runs" / "cora" / "student")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "hop" in said
    assert said.count("%") == 6
