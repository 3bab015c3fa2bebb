"""What users type and what programs read: options, stdout, settings that come back.

After a wanted change of the options, write the snapshot anew:

    G2T_TEST_WRITE_SURFACE=1 python -m pytest tests/cli/test_surface.py
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import g2t as library
from g2t.artifact import open_artifact
from g2t.config import recipe_names, recipe_text
from g2t_cli.app import app

SURFACE = Path(__file__).with_name("surface.txt")
SPLIT = ("--split", "random:40/20/40:0")
HEAVY = ("torch", "torch_geometric", "pydantic", "numpy", "scipy", "safetensors")


def g2t(*arguments: object) -> str:
    """Run a command in this process; it must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    csbm = ("--set", "nodes=60", "--set", "classes=3", "--set", "degree=4.0")
    g2t("import", "synthetic:csbm", *csbm, "--out", home / "graph")
    small = ("--set", "train.epochs=3", "--device", "cpu")
    g2t("teach", home / "graph", *SPLIT, *small, "--out", home / "teacher")
    graph = ("--graph", home / "graph")
    g2t("export-features", home / "teacher", *graph, "--out", home / "cache")
    g2t("distill", home / "cache", "--student", "mlp", *small, "--out", home / "student")
    return home


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner, below in sorted(getattr(command, "commands", {}).items()):
        yield from commands(below, f"{name} {inner}")


def describe(parameter: Any) -> str:
    names = "/".join([*parameter.opts, *parameter.secondary_opts])
    kind = "argument" if parameter.param_type_name == "argument" else "option"
    shape = "flag" if getattr(parameter, "is_flag", False) else parameter.metavar or "value"
    facts = [kind, names, shape, "required" if parameter.required else ""]
    facts += ["repeatable" if parameter.multiple else "", f"env {parameter.envvar}"]
    return " ".join(fact for fact in facts if fact and fact != "env None")


def surface() -> str:
    lines = []
    for name, command in commands(typer.main.get_command(app), "g2t"):
        lines.append(name)
        lines += sorted(f"  {describe(parameter)}" for parameter in command.params)
    return "\n".join(lines) + "\n"


def test_the_options_are_those_that_were_promised() -> None:
    if os.environ.get("G2T_TEST_WRITE_SURFACE"):
        SURFACE.write_text(surface(), encoding="utf-8")
    assert surface() == SURFACE.read_text(encoding="utf-8")


def test_every_command_and_option_is_explained() -> None:
    for name, command in commands(typer.main.get_command(app), "g2t"):
        assert command.help, name
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)
        out = g2t(*name.split()[1:], "--help")
        assert "Usage: " in out
        assert out == g2t(*name.split()[1:], "-h")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom g2t_cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as leave:\n    code = leave.code\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('heavy', code, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "heavy 0 []"
    assert "export-features" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("teach", "graph"),
        ("teach", "graph", "--teacher", "gat", "--set", "model.heads=4", "--seed", "3"),
        ("export-features", "teacher", "--graph", "graph", "--dtype", "bf16", "--hops", "2"),
        ("distill", "cache", "--student", "landmark"),
        ("distill", "cache", "--student", "hop", "--preset", "paper", "--set", "train.lr=0.1"),
        ("distill", "cache", "--student", "mlp", "--set", "loss.soft.weight=0.5"),
        ("import", "synthetic:csbm", "--set", "nodes=50", "--seed", "2"),
    ],
)
def test_printed_settings_are_settings_again(
    home: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    parts = [home / a if (home / a).is_dir() else a for a in arguments]
    printed = g2t(*parts, "--print-config")
    file = tmp_path / "settings.toml"
    file.write_text(printed, encoding="utf-8")
    keep = 4 if arguments[0] == "export-features" else 2
    assert g2t(*parts[:keep], "--config", file, "--print-config") == printed
    content = tomllib.loads(printed)
    for option, key in (("--seed", "seed"), ("--hops", "hops"), ("--teacher", "teacher")):
        if option in arguments:
            assert str(content[key]) == arguments[arguments.index(option) + 1]
    assert list(tmp_path.iterdir()) == [file]


def test_a_printed_recipe_is_a_recipe_again(tmp_path: Path) -> None:
    sets = ("--set", "teach.train.epochs=7", "--set", "split=cpf")
    printed = g2t("run", "recipe:demo", *sets, "--print-config")
    file = tmp_path / "recipe.toml"
    file.write_text(printed, encoding="utf-8")
    assert g2t("run", file, "--print-config") == printed
    content = tomllib.loads(printed)
    assert (content["teach"]["train"]["epochs"], content["split"]) == (7, "cpf")


def test_every_stage_takes_a_recipe(home: Path) -> None:
    config = ("--config", "recipe:photo-cpf", "--print-config")
    assert tomllib.loads(g2t("teach", home / "graph", *config))["split"] == "cpf"
    g2t("export-features", home / "teacher", "--graph", home / "graph", *config)
    printed = g2t("distill", home / "cache", "--student", "hop", *config)
    assert tomllib.loads(printed)["student"] == "hop"


@pytest.mark.parametrize(
    ("arguments", "stage"),
    [
        (("import", "synthetic:csbm"), "graph"),
        (("teach", "graph", *SPLIT), "teacher"),
        (("export-features", "teacher", "--graph", "graph"), "cache"),
        (("distill", "cache"), "student"),
        (("run", "recipe:demo", "--seeds", "0:2"), "run"),
    ],
)
def test_a_dry_run_plans_and_writes_nothing(
    home: Path, tmp_path: Path, arguments: tuple[str, ...], stage: str
) -> None:
    parts = [home / a if (home / a).is_dir() else a for a in arguments]
    plan = json.loads(g2t(*parts, "--dry-run", "--out", tmp_path / "deep" / "out"))
    assert (plan["schema"], plan["stage"]) == ("g2t.plan/1", stage)
    assert plan["out"] == str(tmp_path / "deep" / "out")
    assert plan["settings"]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_what_is_there(home: Path) -> None:
    small = ("--set", "train.epochs=3")
    start = ("teach", home / "graph", *SPLIT, *small, "--dry-run", "--out")
    assert json.loads(g2t(*start, home / "teacher"))["standing"] == "done"
    assert json.loads(g2t(*start, home / "new"))["standing"] == "new"


def test_a_stage_prints_its_path_or_one_object(home: Path, tmp_path: Path) -> None:
    start = ("teach", home / "graph", *SPLIT, "--set", "train.epochs=3", "--device", "cpu")
    assert g2t(*start, "--out", tmp_path / "a") == f"{tmp_path / 'a'}\n"
    printed = g2t(*start, "--out", tmp_path / "b", "--json")
    record = json.loads(printed)
    assert printed.count("\n") == 1
    assert (record["schema"], record["kind"]) == ("g2t.artifact/1", "teacher")
    assert record["path"] == str(tmp_path / "b")
    assert record["digest"] == open_artifact(tmp_path / "a", "teacher").digest


def test_an_evaluation_is_one_object_of_fractions(home: Path) -> None:
    sources = ("--graph", home / "graph", "--cache", home / "cache", "--teacher", home / "teacher")
    before = sorted(home.rglob("*"))
    result = json.loads(g2t("eval", home / "student", *sources, "--json"))
    assert result["schema"] == "g2t.evaluation/1"
    assert {"task", "metric", "split", "student", "teacher", "agreement"} <= result.keys()
    assert set(result["split"]) == {"name", "digest"}
    assert set(result["student"]) == {"name", "val", "test", "by_hops"}
    assert set(result["teacher"]) == {"name", "val", "test"}
    scores = [result[who][part] for who in ("student", "teacher") for part in ("val", "test")]
    assert all(0 <= score <= 1 for score in [*scores, result["agreement"]])
    assert sorted(home.rglob("*")) == before


def test_quiet_says_nothing_and_plain_says_lines(home: Path, tmp_path: Path) -> None:
    start = ["teach", str(home / "graph"), *SPLIT, "--set", "train.epochs=3", "--out"]
    quiet = CliRunner().invoke(app, [*start, str(tmp_path / "a"), "--quiet"])
    plain = CliRunner().invoke(app, [*start, str(tmp_path / "b")])
    assert (quiet.stderr, quiet.stdout) == ("", f"{tmp_path / 'a'}\n")
    assert "teach raw step=3/3 loss=" in plain.stderr
    assert "teach row step=3/3 loss=" in plain.stderr
    assert plain.stdout == f"{tmp_path / 'b'}\n"


def test_a_quiet_evaluation_says_nothing_on_stderr_and_the_same_on_stdout(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("g2t.evaluate.latency.SECONDS", 0.0)
    words = ["eval", str(home / "student"), "--graph", str(home / "graph")]
    plain = CliRunner().invoke(app, [*words, "--latency"])
    quiet = CliRunner().invoke(app, [*words, "--latency", "--quiet"])
    assert "latency step=2/2" in plain.stderr
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    assert g2t(*words, "-q", "--json") == g2t(*words, "--json")
    slow = CliRunner().invoke(app, [*words, "-q", "--max-p50-ms", "0"])
    assert (slow.exit_code, slow.stderr.startswith("error: ")) == (6, True)


def test_recipes_are_listed_shown_and_copied(tmp_path: Path) -> None:
    assert g2t("recipe", "ls").split() == recipe_names()
    assert g2t("recipe", "show", "cora") == recipe_text("cora")
    file = tmp_path / "mine.toml"
    assert g2t("recipe", "copy", "cora", file) == f"{file}\n"
    assert file.read_text() == recipe_text("cora")
    file.write_text("mine")
    again = CliRunner().invoke(app, ["recipe", "copy", "cora", str(file)])
    assert (again.exit_code, again.stdout, file.read_text()) == (3, "", "mine")
    assert again.stderr.startswith(f"error: {file} exists\n")
    unknown = CliRunner().invoke(app, ["recipe", "show", "corra"])
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "did you mean cora?" in unknown.stderr


def test_sources_are_listed() -> None:
    assert "synthetic: csbm" in g2t("data", "ls").splitlines()
    listed = json.loads(g2t("data", "ls", "--json"))
    assert listed["schema"] == "g2t.sources/1"
    assert "Cora" in listed["sources"]["planetoid"]


def test_the_version_names_what_counts() -> None:
    assert g2t("--version").startswith(f"g2t {library.__version__} (torch ")
    facts = json.loads(g2t("--version", "--json"))
    assert (facts["schema"], facts["g2t"]) == ("g2t.version/1", library.__version__)
    assert {"torch", "numpy"} <= facts["packages"].keys()
