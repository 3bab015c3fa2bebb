"""The report card of trained students: lineage, schema, controls, and who stands where."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from g2t.distill.train import distill
from g2t.errors import InputError, IntegrityError, UsageError
from g2t.evaluate import CardSources, Setup, Sources, evaluate
from g2t.evaluate.answers import Asked
from g2t.evaluate.card.case import embeddings, tokens
from g2t.evaluate.card.measures import MEASURES
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.student.hop import Hop
from g2t.student.store import read_student
from g2t.teacher.train import teach
from g2t_cli.app import app

GRAPH = {"nodes": 200, "degree": 6.0, "classes": 3, "features": 6, "noise": 2.0}
SPLIT = "random:20/20/60:0"


def family(folder: Path, source: str, values: dict[str, Any], split: str = SPLIT) -> Path:
    folder.mkdir()
    import_graph(source, folder / "graph", values, None, Silent(), False)
    settings = {"split": split, "train": {"epochs": 15}, "model": {"hidden": 16}}
    teach(folder / "graph", folder / "teacher", settings)
    settings_of_cache = ExportSettings(dtype="fp32")
    export(folder / "teacher", folder / "graph", folder / "cache", settings_of_cache)
    students: dict[str, dict[str, Any]] = {
        "hop": {"student": "hop", "model": {"hops": 2}},
        "alone": {"student": "mlp", "preset": "none"},
    }
    for name, student in students.items():
        distill(folder / "cache", folder / name, {**student, "train": {"epochs": 4}})
    return folder


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family(tmp_path_factory.mktemp("cards") / "true", "synthetic:csbm", GRAPH)


@pytest.fixture(scope="module")
def rewired(true: Path) -> Path:
    return family(true.parent / "rewired", f"folder:{true / 'graph'}", {"rewire": 0})


def sources(folder: Path, student: str = "hop") -> Sources:
    return Sources(folder / student, folder / "graph", folder / "cache", folder / "teacher")


def test_a_card_has_a_row_per_student_and_a_figure_per_measure(true: Path) -> None:
    result = evaluate(sources(true), card=CardSources(baseline=true / "alone"))
    plain = evaluate(sources(true))
    card = result.pop("card")
    assert result == plain
    assert (card["schema"], card["nodes"], card["draws"]) == ("g2t.card/1", 200, 5)
    assert card["teacher"] == "gcn, layer 1 of 1"
    rows = [(row["role"], row["name"], row["hops"]) for row in card["students"]]
    ours = [("student", "hop", None), ("student", "hop", 0), ("tokens", "hop", None)]
    assert rows == [*ours, ("baseline", "mlp", None)]
    for figures in (card["floor"], card["ceiling"], card["students"][0]["values"]):
        assert list(figures) == list(MEASURES)
    assert len(card["students"][0]["cka"]) == 1
    json.dumps(card, allow_nan=False)


def test_an_embedding_is_the_sum_over_the_tokens(true: Path) -> None:
    setup = Setup(true / "graph", true / "cache", [])
    student = read_student(true / "hop")
    model = student.model
    assert isinstance(model, Hop)
    asked = Asked(model, setup.graph, setup.split_of(student), setup.tokens(model.hops))
    sides, sums = tokens(asked)[-1], embeddings(asked)[-1]
    with torch.inference_mode():
        found = model._gather(sides.view(len(sums), model.hops + 1, -1), None)
    torch.testing.assert_close(found, sums)


def test_a_card_is_the_same_at_every_call(true: Path) -> None:
    once, again = (evaluate(sources(true), card=CardSources())["card"] for _ in range(2))
    assert once == again


def test_a_card_needs_a_teacher_and_its_own_split(true: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ceiling"):
        evaluate(Sources(true / "hop", true / "graph", true / "cache"), card=CardSources())
    other = family(tmp_path / "other", f"folder:{true / 'graph'}", {}, "random:20/20/60:1")
    with pytest.raises(IntegrityError, match="split"):
        evaluate(sources(true), card=CardSources(baseline=other / "alone"))


def test_a_rewired_student_is_held_against_the_true_graph(true: Path, rewired: Path) -> None:
    beside = CardSources(structure=true / "graph", ceiling=true / "teacher")
    control = evaluate(sources(rewired), card=beside)["card"]
    own = evaluate(sources(true), card=CardSources())["card"]
    # Floor and ceiling are those of the true graph, on the same draws.
    assert control["floor"] == own["floor"]
    assert control["ceiling"] == own["ceiling"]
    measured = [card["students"][0]["values"]["recall"]["value"] for card in (control, own)]
    assert measured[0] < 0.7 * measured[1]


def test_another_structure_is_of_the_same_nodes_and_has_its_own_teacher(
    true: Path, rewired: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="edges of another graph"):
        evaluate(sources(rewired), card=CardSources(structure=true / "graph"))
    beside = CardSources(structure=true / "graph", ceiling=rewired / "teacher")
    with pytest.raises(IntegrityError, match="learned from"):
        evaluate(sources(rewired), card=beside)
    foreign = import_graph(
        "synthetic:csbm", tmp_path / "graph", {**GRAPH, "seed": 1}, None, Silent(), False
    ).path
    beside = CardSources(structure=foreign, ceiling=true / "teacher")
    with pytest.raises(IntegrityError, match="only edges may differ"):
        evaluate(sources(rewired), card=beside)


def test_an_artefact_with_a_card_is_another_one(true: Path, tmp_path: Path) -> None:
    first = evaluate(sources(true), tmp_path / "kept", card=CardSources())
    assert evaluate(sources(true), tmp_path / "kept", card=CardSources()) == first
    with pytest.raises(InputError, match="other settings or inputs"):
        evaluate(sources(true), tmp_path / "kept")


def test_the_command_prints_a_table_or_json(true: Path) -> None:
    line = [
        *(
            "eval",
            str(true / "hop"),
            "--graph",
            str(true / "graph"),
            "--cache",
            str(true / "cache"),
        ),
        *("--teacher", str(true / "teacher"), "--card"),
    ]
    shown = CliRunner().invoke(app, line)
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in MEASURES)
    assert max(map(len, shown.stdout.splitlines())) <= 120
    beside = CliRunner().invoke(app, [*line, "--card-baseline", str(true / "alone")])
    assert all(beside.stdout.count(f" {name} ") == 2 for name in MEASURES)
    assert max(map(len, beside.stdout.splitlines())) <= 120
    as_json = CliRunner().invoke(app, [*line, "--json"])
    assert json.loads(as_json.stdout)["card"]["schema"] == "g2t.card/1"
    refused = CliRunner().invoke(app, [*line[:-1], "--card-baseline", str(true / "alone")])
    assert refused.exit_code == 2


def test_a_run_has_the_means_of_its_cards(tmp_path: Path) -> None:
    line = ["run", "recipe:demo", "--out", str(tmp_path / "run"), "--card", "--seeds", "0:2"]
    quick = ["--set", "teach.train.epochs=5", "--set", "students={hop={train={epochs=2}}}"]
    plain = [word for word in line if word != "--card"]
    for words in (plain, line, plain, line):  # what is scored gets a card when asked, and keeps it
        result = CliRunner().invoke(app, [*words, *quick, "--json", "-q"])
        assert result.exit_code == 0, result.stderr
    (row,) = [row for row in json.loads(result.stdout)["rows"] if row["name"] == "hop"]
    kept = [
        json.loads((tmp_path / f"run/seed-{seed}/evaluation-hop/evaluation.json").read_text())
        for seed in (0, 1)
    ]
    values = [result["card"]["students"][0]["values"]["edge"]["value"] for result in kept]
    assert row["card"]["edge"]["values"]["values"] == values
    assert row["card"]["edge"]["values"]["mean"] == pytest.approx(sum(values) / 2)
