"""Scores of a student beside its teacher: the schema, the figures, and who belongs to whom."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from g2t.artifact import open_artifact
from g2t.cache.check import open_cache
from g2t.distill.train import distill
from g2t.errors import CheckFailed, InputError, IntegrityError
from g2t.evaluate import Sources, check_scores, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.bundle import read_graph
from g2t.graph.importing import import_graph
from g2t.graph.splits import read_split
from g2t.runtime import Silent
from g2t.student.base import predict
from g2t.student.store import read_student
from g2t.teacher.forward import trace
from g2t.teacher.store import read_teacher
from g2t.teacher.train import teach

FIELDS = {
    *("schema", "graph", "graph_digest", "task", "metric", "split", "seed"),
    *("student", "teacher", "agreement"),
}
GRAPH = {"nodes": 150, "degree": 6.0, "classes": 3, "features": 6, "noise": 2.0}
STUDENTS: dict[str, dict[str, Any]] = {
    "hop": {"student": "hop", "model": {"hops": 2}},
    "mlp": {"student": "mlp"},
    "alone": {"student": "mlp", "preset": "none"},
}


@dataclass(frozen=True)
class Family:
    """A folder with a graph, its teacher, cache and students."""

    folder: Path

    def sources(self, student: str, *parts: str, **other: Path) -> Sources:
        paths: dict[str, Path] = {part: self.folder / part for part in parts} | other
        graph = paths.pop("graph", self.folder / "graph")
        return Sources(self.folder / student, graph, **paths)

    def test_nodes(self) -> torch.Tensor:
        return read_split(self.folder / "teacher" / "split.safetensors").parts.test


def family(folder: Path, graph: dict[str, Any], split: str = "random:20/20/60:0") -> Family:
    folder.mkdir(parents=True, exist_ok=True)
    import_graph("synthetic:csbm", folder / "graph", graph, None, Silent(), False)
    values = {"split": split, "train": {"epochs": 15}, "model": {"hidden": 16}}
    teach(folder / "graph", folder / "teacher", values)
    settings = ExportSettings(dtype="fp32")
    export(folder / "teacher", folder / "graph", folder / "cache", settings)
    for name, student in STUDENTS.items():
        distill(folder / "cache", folder / name, {**student, "train": {"epochs": 4}})
    return Family(folder)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return family(tmp_path_factory.mktemp("three"), GRAPH)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Family:
    values = {**GRAPH, "classes": 2, "metric": "roc_auc"}
    return family(tmp_path_factory.mktemp("binary"), values)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """The same graph, another split: another teacher, another cache."""
    return family(tmp_path_factory.mktemp("stranger"), GRAPH, "random:20/20/60:1")


def fractions(result: Any) -> list[float]:
    if isinstance(result, dict):
        return [value for inner in result.values() for value in fractions(inner)]
    return [result] if isinstance(result, float) else []


@pytest.mark.parametrize("student", STUDENTS)
def test_the_result_follows_its_schema(three: Family, student: str) -> None:
    result = evaluate(three.sources(student, "cache", "teacher"))
    assert set(result) == FIELDS
    assert result["graph_digest"] == read_graph(three.folder / "graph").fingerprints()["graph"]
    assert result["seed"] == 0
    assert result["schema"] == "g2t.evaluation/1"
    assert (result["task"], result["metric"]) == ("multiclass", "accuracy")
    assert set(result["split"]) == {"name", "digest"}
    assert result["split"]["name"] == "random:20/20/60:0"
    assert set(result["student"]) == {"name", "val", "test", "by_hops"}
    assert set(result["teacher"]) == {"name", "val", "test"}
    assert result["teacher"]["name"] == "gcn"
    assert result["student"]["name"] == STUDENTS[student]["student"]
    figures = fractions(result)
    assert len(figures) >= 5
    assert all(0 <= value <= 1 for value in figures)


def test_by_hops_counts_from_zero_to_all_and_ends_with_the_score_itself(three: Family) -> None:
    student = evaluate(three.sources("hop", "cache"))["student"]
    assert list(student["by_hops"]) == ["0", "1", "2"]
    assert student["by_hops"]["2"] == {"val": student["val"], "test": student["test"]}
    assert evaluate(three.sources("mlp", "cache"))["student"]["by_hops"] == {}


@pytest.mark.parametrize("name", STUDENTS)
def test_scores_equal_a_hand_computation(three: Family, name: str) -> None:
    result = evaluate(three.sources(name, "cache", "teacher"))
    cache, graph = open_cache(three.folder / "cache"), read_graph(three.folder / "graph")
    model = read_student(three.folder / name).model
    inputs = model.prepare(cache.features(), cache.edges, None)
    answers = predict(model, inputs).argmax(1)
    teacher = trace(read_teacher(three.folder / "teacher"), graph).logits_NC.argmax(1)
    for part, nodes in (("val", cache.parts.val), ("test", three.test_nodes())):
        right = [int(answers[n]) == int(graph.labels[n]) for n in nodes.tolist()]
        assert result["student"][part] == pytest.approx(sum(right) / len(right))
        known = [int(teacher[n]) == int(graph.labels[n]) for n in nodes.tolist()]
        assert result["teacher"][part] == pytest.approx(sum(known) / len(known))
    same = [int(answers[n]) == int(teacher[n]) for n in three.test_nodes().tolist()]
    assert result["agreement"] == pytest.approx(sum(same) / len(same))


def test_teacher_and_exact_cache_speak_alike_and_neither_is_needed(three: Family) -> None:
    both = evaluate(three.sources("hop", "cache", "teacher"))
    assert evaluate(three.sources("hop", "cache")) == both
    assert evaluate(three.sources("hop", "teacher")) == both
    alone = evaluate(three.sources("hop"))
    assert alone["teacher"] is None
    assert alone["agreement"] is None
    assert alone["student"] == both["student"]


def test_roc_auc_is_the_share_of_pairs_in_the_right_order(binary: Family) -> None:
    result = evaluate(binary.sources("mlp", "cache", "teacher"))
    assert (result["task"], result["metric"]) == ("binary", "roc_auc")
    cache, graph = open_cache(binary.folder / "cache"), read_graph(binary.folder / "graph")
    model = read_student(binary.folder / "mlp").model
    logits = predict(model, model.prepare(cache.features(), cache.edges, None)).numpy()
    nodes = binary.test_nodes().numpy()
    margin, labels = (logits[:, 1] - logits[:, 0])[nodes], graph.labels.numpy()[nodes]
    above, below = margin[labels == 1][:, None], margin[labels == 0][None]
    expected = np.mean((above > below) + 0.5 * (above == below))
    assert result["student"]["test"] == pytest.approx(expected)
    assert result["student"]["test"] > 0.6


def test_another_graph_is_refused(three: Family, binary: Family) -> None:
    for parts in ((), ("cache",), ("cache", "teacher")):
        sources = three.sources("mlp", *parts, graph=binary.folder / "graph")
        with pytest.raises(IntegrityError, match="learned from graph csbm"):
            evaluate(sources)


@pytest.mark.parametrize("student", ["hop", "mlp", "alone"])
def test_another_cache_is_refused(three: Family, stranger: Family, student: str) -> None:
    sources = three.sources(student, cache=stranger.folder / "cache")
    with pytest.raises(IntegrityError, match="was not distilled from cache"):
        evaluate(sources)


def test_another_teacher_is_refused(three: Family, stranger: Family) -> None:
    other = stranger.folder / "teacher"
    with pytest.raises(IntegrityError, match="did not learn from teacher"):
        evaluate(three.sources("hop", teacher=other))
    for student in ("hop", "alone"):
        with pytest.raises(IntegrityError, match="was not made from this teacher"):
            evaluate(three.sources(student, "cache", teacher=other))


def test_what_is_missing_or_no_student_is_named(three: Family) -> None:
    with pytest.raises(InputError, match="there is no student at"):
        evaluate(three.sources("nobody"))
    with pytest.raises(InputError, match="is a cache, not a student"):
        evaluate(three.sources("cache"))


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def command(three: Family, *more: str) -> list[str]:
    folder = three.folder
    paths = {"--graph": "graph", "--cache": "cache", "--teacher": "teacher"}
    options = [text for key, name in paths.items() for text in (key, str(folder / name))]
    return ["eval", str(folder / "hop"), *options, *more]


def test_without_out_nothing_is_written_and_with_it_an_artefact(
    three: Family, tmp_path: Path
) -> None:
    from g2t_cli.app import app

    before = contents(three.folder)
    printed = CliRunner().invoke(app, command(three, "--json"))
    assert printed.exit_code == 0, printed.stderr
    assert contents(three.folder) == before
    out = tmp_path / "evaluation"
    expected = evaluate(three.sources("hop", "cache", "teacher"), out)
    assert json.loads(printed.stdout) == expected
    artifact = open_artifact(out, "evaluation")
    assert json.loads((out / "evaluation.json").read_text()) == expected
    assert set(artifact.inputs) == {"student", "graph", "cache", "teacher"}
    assert evaluate(three.sources("hop", "cache", "teacher"), out) == expected
    with pytest.raises(InputError, match="was made with other settings or inputs"):
        evaluate(three.sources("mlp", "cache", "teacher"), out)


def test_the_table_is_in_percent_and_errors_have_their_code(
    three: Family, stranger: Family, tmp_path: Path
) -> None:
    from g2t_cli.app import app

    result = evaluate(three.sources("hop", "cache", "teacher"))
    printed = CliRunner().invoke(app, command(three, "--out", str(tmp_path / "e")))
    assert printed.exit_code == 0, printed.stderr
    assert f"{100 * result['student']['test']:.2f}" in printed.stdout
    assert "with 0 hops" in printed.stdout
    assert printed.stdout.splitlines()[-1] == str(tmp_path / "e")
    other = str(stranger.folder / "cache")
    refused = CliRunner().invoke(app, command(three, "--cache", other))
    assert refused.exit_code == 4
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: ")


def test_a_breakdown_sums_up_to_the_scores(three: Family, tmp_path: Path) -> None:
    sources = three.sources("hop", "cache", "teacher")
    result = evaluate(sources, tmp_path / "e", breakdown=True)
    found, plain = result["breakdown"], evaluate(sources)
    assert {key: value for key, value in result.items() if key != "breakdown"} == plain
    assert (found["schema"], found["nodes"]) == ("g2t.breakdown/1", len(three.test_nodes()))
    for part in ("degree", "homophily"):
        groups = [group for group in found[part] if group["nodes"]]
        assert sum(group["nodes"] for group in groups) == found["nodes"]
        for model in ("student", "teacher"):
            right = sum(group["nodes"] * group[model] for group in groups)
            assert right / found["nodes"] == pytest.approx(plain[model]["test"])
        alike = sum(group["nodes"] * group["agreement"] for group in groups)
        assert alike / found["nodes"] == pytest.approx(plain["agreement"])
    recalled = sum(row["nodes"] * row["student"]["recall"] for row in found["classes"])
    assert recalled / found["nodes"] == pytest.approx(plain["student"]["test"])
    # Degrees counted another way, as the range of each bin says.
    graph = read_graph(three.folder / "graph")
    degrees = graph.edges.counts_N[three.test_nodes()].tolist()  # csbm has no self-loops
    for group in found["degree"]:
        counted = sum(group["low"] <= degree <= group["high"] for degree in degrees)
        assert counted == group["nodes"]
    # With it an artefact is another one.
    assert evaluate(sources, tmp_path / "e", breakdown=True) == result
    with pytest.raises(InputError, match="other settings or inputs"):
        evaluate(sources, tmp_path / "e")


def test_a_breakdown_of_a_teacher_alone_and_for_people(three: Family) -> None:
    from g2t_cli.app import app

    alone = ["eval", str(three.folder / "teacher"), "--graph", str(three.folder / "graph")]
    printed = CliRunner().invoke(app, [*alone, "--breakdown", "--json"])
    found = json.loads(printed.stdout)["breakdown"]
    beside = evaluate(three.sources("hop", "teacher"), breakdown=True)["breakdown"]
    for part in ("degree", "homophily", "classes"):
        assert [row["teacher"] for row in found[part]] == [row["teacher"] for row in beside[part]]
        assert all(row["student"] is None for row in found[part])
    assert found["calibration"] == {**beside["calibration"], "student": None}
    shown = CliRunner().invoke(app, [*alone, "--breakdown"]).stdout
    assert "% neighbours of its class" in shown
    assert "calibration error of the teacher" in shown
    assert "student" not in shown
    both = CliRunner().invoke(app, command(three, "--breakdown")).stdout
    assert "agreement" in both
    assert f"{100 * beside['calibration']['student']['before']:.2f} %" in both


def test_bounds_are_kept_or_named(three: Family) -> None:
    from g2t_cli.app import app

    result = evaluate(three.sources("hop", "cache", "teacher"))
    test, alike = result["student"]["test"], result["agreement"]
    kept = ["--min-test", f"{test - 1e-6:.9f}", "--min-agreement", f"{alike - 1e-6:.9f}"]
    assert CliRunner().invoke(app, command(three, *kept)).exit_code == 0
    failed = CliRunner().invoke(
        app, command(three, "--min-test", f"{test + 1e-3:.9f}", "--min-agreement", "1", "--json")
    )
    assert failed.exit_code == 6
    assert json.loads(failed.stdout) == result
    assert f"the student's test score is {test:.6f}, not {test + 1e-3:g} or more" in failed.stderr
    assert f"agreement with the teacher is {alike:.6f}, not 1 or more" in failed.stderr
    alone = ["eval", str(three.folder / "teacher"), "--graph", str(three.folder / "graph")]
    of_teacher = CliRunner().invoke(app, [*alone, "--min-test", "1"])
    assert of_teacher.exit_code == 6
    assert "the teacher's test score is" in of_teacher.stderr
    for words in ([*alone, "--min-agreement", "0.5"], [*alone, "--min-test", "nan"]):
        assert CliRunner().invoke(app, words).exit_code == 2


@pytest.mark.parametrize("least", [0.5, 0.0, float("nan")])
def test_a_score_that_is_not_defined_passes_no_bound(least: float) -> None:
    result = {"student": None, "teacher": {"test": None}, "agreement": None}
    with pytest.raises(CheckFailed, match="test score is not defined"):
        check_scores(result, least, None)
    check_scores(result, None, None)
    whole = {"student": {"test": 0.5}, "teacher": None, "agreement": None}
    if least == least:
        check_scores(whole, least, None)
    else:
        with pytest.raises(CheckFailed, match=r"is 0.500000, not nan"):
            check_scores(whole, least, None)
