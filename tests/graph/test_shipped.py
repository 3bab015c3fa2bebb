"""The graphs in `data/`, and the commands of the README and of `docs/`."""

import re
import shlex
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer

from g2t.config import read_config
from g2t.graph.bundle import read_graph
from g2t.graph.importing import import_graph
from g2t.recipe import read_recipe
from g2t.runtime import Silent
from g2t_cli.app import app

TOP = Path(__file__).parents[2]
README = TOP / "README.md"
#: What ends a command's own words.
SHELL = frozenset("|<>&;")


def test_demo_graph_is_written_again_bit_for_bit(tmp_path: Path) -> None:
    recipe = read_recipe(read_config("recipe:demo"))
    made = import_graph(recipe.source, tmp_path / "demo", recipe.import_, None, Silent(), False)
    for name in ("graph.safetensors", "graph.json"):
        assert (made.path / name).read_bytes() == (TOP / "data" / "demo" / name).read_bytes()


def test_demo_graph_is_small_and_opens() -> None:
    folder = TOP / "data" / "demo"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000
    assert read_graph(folder).nodes == 600


def test_karate_club_needs_no_further_option(tmp_path: Path) -> None:
    karate = TOP / "data" / "karate"
    values = {"nodes": str(karate / "nodes.csv"), "edges": str(karate / "edges.csv")}
    made = import_graph("table:", tmp_path / "karate", values, None, Silent(), False)
    assert made.record["summary"] == {"nodes": 34, "edges": 156, "classes": 2}


def commands_in(*pages: Path) -> list[str]:
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("g2t ")]


@pytest.mark.parametrize("line", commands_in(README, *sorted((TOP / "docs").glob("*.md"))))
def test_commands_of_the_pages_are_real_and_have_these_options(line: str) -> None:
    words = list(takewhile(SHELL.isdisjoint, shlex.split(line, comments=True)))[1:]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known


def test_readme_has_the_five_stages() -> None:
    stages = [line.split()[1] for line in commands_in(README)[:5]]
    assert stages == ["import", "teach", "export-features", "distill", "eval"]
