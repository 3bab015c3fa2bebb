"""`g2t doctor`: what it finds, what it leaves behind, and how it ends."""

import importlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from g2t import doctor
from g2t_cli.app import app


def ask(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


def test_a_sound_machine_walks_the_whole_pipeline_and_keeps_nothing(tmp_path: Path) -> None:
    result = ask("--folder", tmp_path / "runs", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    found = {(row["group"], row["name"]): row for row in content["findings"]}
    assert content["ok"]
    assert found["versions", "g2t"]["value"]
    assert found["folders", "runs"]["value"] == str(tmp_path / "runs")
    stages = [name for group, name in found if group == "self-test"]
    assert stages == ["import", "teach", "export", "distill", "eval", "pipeline"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_and_ends_with_6(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = ask("--folder", tmp_path / "file" / "runs", "--device", "cpu")
    assert result.exit_code == 6
    assert f"{tmp_path}/file/runs: Not a directory" in result.stderr
    assert "failed   folders    runs" in result.stdout  # all findings stand there nevertheless


def test_a_folder_without_locks_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(doctor, "FileLock", refuse)
    assert [f.state for f in doctor._folders(tmp_path)] == ["warning", "failed"]


def test_absent_extras_come_with_their_command_and_broken_packages_fail(monkeypatch: Any) -> None:
    asked = ["torch>=2.7", 'nothing-such>=1; extra == "parquet"', "scipy"]
    monkeypatch.setattr(metadata, "requires", lambda name: asked)

    def load(name: str) -> None:
        if name == "scipy":
            raise OSError("libfoo.so: wrong ELF class")

    extras = list(doctor._extras())
    assert [(f.state, f.hint) for f in extras] == [("absent", "pip install 'g2t[parquet]'")]
    monkeypatch.setattr(importlib, "import_module", load)
    states = {f.name: f for f in doctor._versions()}
    assert states["torch"].state == "ok"
    assert states["scipy"].state == "failed"
    assert "wrong ELF class" in states["scipy"].value
    assert "nothing-such" not in states


def test_more_threads_than_cores_are_warned_of(monkeypatch: Any) -> None:
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(doctor, "_cores", lambda: 2)
    first = next(doctor._threads())
    assert (first.state, first.hint) == ("warning", "export OMP_NUM_THREADS=2")
