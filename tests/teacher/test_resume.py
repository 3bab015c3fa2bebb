"""Killed in the middle, with every option on and in either half of a trial: the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from g2t.graph.importing import import_graph
from g2t.runtime import Silent

CSBM = {"nodes": 90, "degree": 4.0, "classes": 2, "features": 6, "noise": 2.0}
EPOCHS = 40
EVERYTHING = {
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup": 5,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "clip": 0.5,
    "ema": 0.9,
}
BATCHES = {"batch": 10, "fanouts": [2, 3]}
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graph") / "g"
    return import_graph("synthetic:csbm", out, CSBM, None, Silent(), False).path


def command(graph: Path, out: Path, features: str, train: dict[str, Any]) -> list[str]:
    chosen = {"epochs": EPOCHS, "patience": EPOCHS, "checkpoint_seconds": 0, **train}
    sets = [f"train.{key}={value}" for key, value in chosen.items()]
    sets += [f"features={features}", "model.hidden=8", "model.norm=batch"]
    start = [sys.executable, "-m", "g2t_cli", "teach", str(graph), "--out", str(out), "--quiet"]
    return [*start, "--split=random:40/30/30", "--device=cpu", *(f"--set={text}" for text in sets)]


def payload(out: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in out.iterdir() if f.name != "run.json"}


def kill_after(run: list[str], log: Path, lines: int) -> None:
    """Start a training, and kill it when it has logged so many epochs."""
    with subprocess.Popen(run, env=ALONE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_bytes().count(b"\n") >= lines):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("features", "train", "kills"),
    [
        ("raw", EVERYTHING, [7]),
        ("row", EVERYTHING | BATCHES, [7]),
        ("auto", EVERYTHING | BATCHES, [7, EPOCHS + 7]),
    ],
    ids=["options", "batches", "both halves"],
)
def test_a_killed_training_ends_as_an_unbroken_one(
    graph: Path, tmp_path: Path, features: str, train: dict[str, Any], kills: list[int]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "t"
    subprocess.run(command(graph, whole, features, train), env=ALONE, check=True)
    for lines in kills:
        kill_after(
            command(graph, out, features, train), tmp_path / "t.partial/metrics.jsonl", lines
        )
        assert not out.exists()
    subprocess.run(command(graph, out, features, train), env=ALONE, check=True)
    # The log too: every epoch once, in order, with the same figures.
    assert payload(out) == payload(whole)
    epochs = [
        json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()
    ]
    assert epochs == [*range(EPOCHS)] * (2 if features == "auto" else 1)
    summaries = [json.loads((o / "run.json").read_text())["summary"] for o in (out, whole)]
    assert summaries[0] == summaries[1]
