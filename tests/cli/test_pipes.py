"""Where the output goes: pipes that close, files that are no terminal, and the log."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
G2T = (sys.executable, "-m", "g2t_cli")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{TOP}:{TOP / 'cli'}", **more}


@pytest.mark.parametrize("command", ["--version", "recipe ls", "recipe show cora", "data ls"])
def test_a_pipe_that_is_closed_ends_without_a_traceback(command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*G2T, *command.split()], stdout=write, stderr=subprocess.PIPE, text=True, check=False,
        env=environment(),
    )  # fmt: skip
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_stage_is_finished_though_nobody_reads_its_path(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = ["import", "synthetic:csbm", "--set", "nodes=60", "--out", str(tmp_path / "graph")]
    ended = subprocess.run(
        [*G2T, *words], stdout=write, stderr=subprocess.PIPE, check=False, env=environment()
    )
    os.close(write)
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
    again = subprocess.run(
        [*G2T, *words], capture_output=True, text=True, check=True, env=environment()
    )
    assert again.stdout == f"{tmp_path / 'graph'}\n"


def test_colours_are_only_for_terminals_and_only_if_wanted(tmp_path: Path) -> None:
    """NO_COLOR wins over FORCE_COLOR, and a pipe has none without either."""
    words = [*G2T, "data", "inspect", str(TOP / "data" / "demo")]
    ended = subprocess.run(
        words, capture_output=True, text=True, check=True,
        env=environment(NO_COLOR="1", FORCE_COLOR="1"),
    )  # fmt: skip
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", ended.stdout)
    plain = subprocess.run(words, capture_output=True, text=True, check=True, env=environment())
    assert "\x1b" not in plain.stdout


def test_the_log_keeps_what_goes_to_stderr_and_what_quiet_keeps_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = ["import", "synthetic:csbm", "--set", "nodes=60", "--out", str(tmp_path / "graph")]
    for more in ([], ["--json"], ["--set", "nodes=70"]):
        ended = subprocess.run(
            [*G2T, *words, *more], capture_output=True, text=True, check=False,
            env=environment(G2T_LOG_FILE=str(log)),
        )  # fmt: skip
    assert ended.returncode == 3
    lines = log.read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} .*\S", line) for line in lines)
    said = [line.partition(" ")[2] for line in lines]
    assert sum(line.startswith("g2t import synthetic:csbm") for line in said) == 3
    assert any("is done already" in line for line in said)
    assert said[-2].startswith("error: ")
    assert said[-2] == ended.stderr.splitlines()[-2]
    assert said[-1].startswith("  hint: ")


def test_a_log_that_cannot_be_written_is_an_error_and_not_silence(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*G2T, "--log-file", str(tmp_path / "no" / "log"), "recipe", "ls"],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "cannot write" in ended.stderr


def test_json_is_one_object_with_nothing_beside_it(tmp_path: Path) -> None:
    words = ["import", "synthetic:csbm", "--set", "nodes=60", "--out", str(tmp_path / "g")]
    ended = subprocess.run(
        [*G2T, *words, "--json"], capture_output=True, text=True, check=True, env=environment()
    )
    assert json.loads(ended.stdout)["path"] == str(tmp_path / "g")
