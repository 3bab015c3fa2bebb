"""Wrong input at the command line: one sentence, the right code, and nothing left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph, read_graph, write_graph
from g2t.stage import Stage
from g2t_cli.app import app

SPLIT = "random:40/20/40:0"
TEACH = ("--split", SPLIT, "--set", "model.hidden=8", "--set", "train.epochs=3", "--device", "cpu")
CSBM = tuple(f"--set={k}={v}" for k, v in (("nodes", 60), ("classes", 3), ("degree", 4.0)))


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def g2t(*arguments: object) -> Outcome:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return Outcome(result.exit_code, result.stdout, result.stderr)


def refused(outcome: Outcome, code: int, said: str) -> None:
    """One sentence that says `said`, with a hint at most; nothing for the next program to read."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    lines = outcome.err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, outcome.err
    assert said in errors[0]
    assert all(line.startswith(("error: ", "  hint: ")) for line in lines[lines.index(errors[0]) :])
    assert "Traceback" not in outcome.err
    assert "unexpected" not in outcome.err


def usage(outcome: Outcome, said: str) -> None:
    """An error that Typer itself found: exit 2, its box on stderr."""
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished walk: graph, teacher, cache, student."""
    home = tmp_path_factory.mktemp("home")
    steps: Sequence[Sequence[object]] = (
        ("import", "synthetic:csbm", *CSBM, "--out", home / "graph"),
        ("teach", home / "graph", *TEACH, "--out", home / "teacher"),
        ("export-features", home / "teacher", "--graph", home / "graph", "--out", home / "cache"),
        ("distill", home / "cache", "--student", "mlp", "--set", "train.epochs=2", "--out",
         home / "student"),
    )  # fmt: skip
    for step in steps:
        outcome = g2t(*step, "--quiet")
        assert (outcome.code, outcome.err) == (0, "")
        assert Path(outcome.out.strip()) == Path(str(step[-1]))
    return home


@pytest.mark.parametrize("command", ["teach", "export-features", "distill", "eval", "inspect"])
def test_a_missing_folder(home: Path, tmp_path: Path, command: str) -> None:
    none, out = tmp_path / "none", ("--out", tmp_path / "out")
    graph = ("--graph", home / "graph")
    outcome = {
        "teach": lambda: g2t("teach", none, *out),
        "export-features": lambda: g2t("export-features", none, *graph, *out),
        "distill": lambda: g2t("distill", none, *out),
        "eval": lambda: g2t("eval", none, *graph, *out),
        "inspect": lambda: g2t("data", "inspect", none),
    }[command]()
    refused(outcome, 3, f"at {none}")
    assert list(tmp_path.iterdir()) == []


def table(folder: Path, nodes: str, edges: str) -> tuple[object, ...]:
    (folder / "nodes.csv").write_text(nodes)
    (folder / "edges.csv").write_text(edges)
    return (
        "import", "table:", "--nodes", folder / "nodes.csv", "--edges", folder / "edges.csv",
        "--out", folder / "out",
    )  # fmt: skip


NODES = "id,label,x\na,0,1.0\nb,1,2.0\nc,0,3.0\n"


@pytest.mark.parametrize(
    ("nodes", "edges", "said"),
    [
        (NODES, "", "edges.csv"),
        (NODES, "source,target\n", "edge"),
        (NODES, "source,target\na,b\nb,z\n", "'z'"),
        (NODES.replace("2.0", "nan"), "source,target\na,b\n", "NaN"),
        ("", "source,target\na,b\n", "nodes.csv"),
    ],
)
def test_bad_tables(tmp_path: Path, nodes: str, edges: str, said: str) -> None:
    refused(g2t(*table(tmp_path, nodes, edges)), 3, said)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["edges.csv", "nodes.csv"]


def spoil(home: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **change: Any) -> Path:
    """Write a graph past the check that every writer makes."""
    graph: Graph = replace(read_graph(home / "graph"), **change)
    with monkeypatch.context() as patch, Stage(out, "graph", {}, {}, 0) as stage:
        patch.setattr("g2t.graph.bundle.check_graph", lambda graph, error: None)
        write_graph(graph, stage.path)
        stage.commit({})
    return out


def test_a_graph_artifact_that_contradicts_itself(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = read_graph(home / "graph")
    assert isinstance(graph.features, torch.Tensor)
    labels, features = graph.labels.clone(), graph.features.clone()
    labels[3], features[2, 1] = 3, torch.nan
    wrong = spoil(home, tmp_path / "labels", monkeypatch, labels=labels)
    missing = spoil(home, tmp_path / "features", monkeypatch, features=features)
    said = "label 3 of node 3 is out of range"
    for source, code in ((wrong, IntegrityError.code), (missing, IntegrityError.code)):
        outcome = g2t("teach", source, *TEACH, "--out", tmp_path / "out")
        refused(outcome, code, said if source == wrong else "row 2, column 1 is NaN")
    assert not (tmp_path / "out").exists()


def test_a_label_out_of_range_in_an_import(tmp_path: Path) -> None:
    """A table's labels are names; numbers without a class come from npz files."""
    import numpy as np

    edges = np.array([[0, 1], [1, 2], [2, 3]])
    arrays = {"node_features": np.eye(4), "node_labels": np.array([0, 1, -7, 1]), "edges": edges}
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    outcome = g2t("import", f"npz:{tmp_path / 'bad.npz'}", "--out", tmp_path / "out")
    refused(outcome, 3, "label")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.npz"]


@pytest.mark.parametrize("command", ["import", "teach", "export-features", "distill", "run"])
def test_an_output_that_cannot_be_written(home: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    out = ("--out", tmp_path / "file" / "out", "--quiet")
    outcome = {
        "import": lambda: g2t("import", "synthetic:csbm", *CSBM, *out),
        "teach": lambda: g2t("teach", home / "graph", *TEACH, *out),
        "export-features": lambda: g2t(
            "export-features", home / "teacher", "--graph", home / "graph", *out
        ),
        "distill": lambda: g2t("distill", home / "cache", *out),
        "run": lambda: g2t("run", "recipe:demo", *out),
    }[command]()
    refused(outcome, 3, "cannot write")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("teach", "graph", "--split", "foo"), "no split is called 'foo'"),
        (("teach", "graph", "--split", "cpf:x"), "cpf:x"),
        (("teach", "graph", "--teacher", "foo"), "no teacher is called 'foo'"),
        (("teach", "graph", "--set", "train.epohs=3"), "unknown setting train.epohs"),
        (("teach", "graph", "--set", "train.epochs"), "is not KEY=VALUE"),
        (("teach", "graph", "--set", "train.epochs=0"), "setting train.epochs"),
        (("teach", "graph", "--config", "recipe:corra"), "no recipe is called 'corra'"),
        (("export-features", "teacher", "--dtype", "foo"), "setting dtype"),
        (("export-features", "teacher", "--set", "shard_row=5"), "unknown setting shard_row"),
        (("distill", "cache", "--student", "foo"), "no student is called 'foo'"),
        (("distill", "cache", "--preset", "foo"), "no preset is called 'foo'"),
        (("distill", "cache", "--set", "loss.sotf.weight=1"), "no loss is called 'sotf'"),
        (("distill", "cache", "--set", "model.hiden=1"), "unknown setting model.hiden"),
        (("import", "sintetic:csbm"), "no source is called 'sintetic'"),
        (("import", "csbm"), "is not KIND:ARGUMENT"),
        (("import", "synthetic:csbm", "--set", "node=5"), "unknown setting node"),
        (("import", "synthetic:csbm", "--metric", "foo"), "setting metric"),
        (("run", "recipe:corra"), "no recipe is called 'corra'"),
        (("run", "recipe:demo", "--seeds", "x"), "--seeds 'x'"),
        (("run", "recipe:demo", "--seeds", "3:3"), "--seeds '3:3'"),
        (("run", "recipe:demo", "--set", "tech.seed=1"), "unknown setting tech"),
        (("run", "recipe:demo", "--set", "teach.train.epocs=1"), "unknown setting train.epocs"),
    ],
)
def test_an_unknown_value_or_key(
    home: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    parts = [home / a if (home / a).exists() else a for a in arguments]
    graph = ("--graph", home / "graph") if arguments[0] == "export-features" else ()
    refused(g2t(*parts, *graph, "--out", tmp_path / "out"), 2, said)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_none_or_not_here(home: Path, tmp_path: Path) -> None:
    for command, part in (("teach", "graph"), ("distill", "cache")):
        split = ("--split", SPLIT) if command == "teach" else ()
        start = (command, home / part, *split, "--out", tmp_path / "out", "--device")
        refused(g2t(*start, "foo"), 2, "no device is called 'foo'")
        refused(g2t(*start, "cuda:99"), 69, "device cuda:99 is not here")
        assert list(tmp_path.iterdir()) == []


def test_a_typo_in_a_settings_file_names_key_and_remedy(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[train]\nepohs = 3\n")
    outcome = g2t("teach", home / "graph", "--config", file, "--out", tmp_path / "out")
    refused(outcome, 2, "unknown setting train.epohs")
    assert "hint: did you mean train.epochs?" in outcome.err
    file.write_text("[train\n")
    refused(g2t("teach", home / "graph", "--config", file, "--out", tmp_path / "out"), 3, "line 1")
    assert [path.name for path in tmp_path.iterdir()] == ["settings.toml"]


def test_options_that_typer_refuses(home: Path) -> None:
    usage(g2t("teach"), "Missing argument 'GRAPH'")
    usage(g2t("teach", home / "graph", "--epochs", "3"), "No such option")
    usage(g2t("teach", home / "graph", "--seed", "-1"), "greater than or equal to 0")
    usage(g2t("export-features", home / "teacher"), "Missing option '--graph'")
    usage(g2t("exprot"), "No such command 'exprot'")


def test_an_output_is_missing(home: Path) -> None:
    refused(g2t("teach", home / "graph"), 2, "--out DIR is missing")


def test_done_refused_and_forced(home: Path) -> None:
    out = home / "again"
    first = g2t("teach", home / "graph", *TEACH, "--out", out)
    assert (first.code, first.out) == (0, f"{out}\n")
    stamp = (out / "run.json").stat().st_mtime_ns
    again = g2t("teach", home / "graph", *TEACH, "--out", out)
    assert (again.code, again.out) == (0, f"{out}\n")
    assert (out / "run.json").stat().st_mtime_ns == stamp
    other = g2t("teach", home / "graph", *TEACH, "--seed", "5", "--out", out)
    refused(other, 3, f"{out} was made with other settings or inputs: seed is 0, now 5")
    assert "--force" in other.err
    assert (out / "run.json").stat().st_mtime_ns == stamp
    forced = g2t("teach", home / "graph", *TEACH, "--seed", "5", "--out", out, "--force")
    assert (forced.code, forced.out) == (0, f"{out}\n")
    assert json.loads((out / "run.json").read_text())["seed"] == 5


def test_a_damaged_artifact(home: Path, tmp_path: Path) -> None:
    import shutil

    cache = shutil.copytree(home / "cache", tmp_path / "cache")
    shard = cache / "teacher-logits-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-3])
    refused(g2t("distill", cache, "--out", tmp_path / "out"), 4, shard.name)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_training_that_fails(home: Path, tmp_path: Path) -> None:
    arguments = (*TEACH, "--set", "train.lr=1e30", "--out", tmp_path / "out", "--quiet")
    refused(g2t("teach", home / "graph", *arguments), 5, "the loss is nan in epoch")
    assert list(tmp_path.iterdir()) == []


def test_debugging_shows_where(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G2T_DEBUG", "1")
    result = CliRunner().invoke(
        app, ["teach", str(tmp_path / "none"), "--out", str(tmp_path / "o")]
    )
    assert type(result.exception).__name__ == "InputError"


def test_a_real_process_leaves_with_the_same_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "g2t_cli", "teach", "none", "--out", "out"]
    environment = {key: text for key, text in os.environ.items() if not key.startswith("G2T_")}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "error: there is no graph at none\n  hint: make it with g2t import\n"
    assert list(tmp_path.iterdir()) == []
