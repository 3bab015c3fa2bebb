"""Distilling from a cache: what is logged, what is chosen, and the same bytes every time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from g2t.artifact import open_artifact
from g2t.cache.check import open_cache
from g2t.cache.reader import Cache
from g2t.distill.settings import PRESETS
from g2t.distill.train import distill
from g2t.errors import InputError, UsageError
from g2t.network import WEIGHTS
from g2t.runtime import Silent
from g2t.student import STUDENTS
from g2t.student.base import predict
from g2t.student.store import read_student
from tests.distill.small import BLOCKS, TEACH, cache_of, metrics, payload, quick

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("student", STUDENTS)
def test_every_student_learns_and_the_same_seed_gives_the_same_bytes(
    cache_path: Path, tmp_path: Path, student: str
) -> None:
    made = [distill(cache_path, tmp_path / f"{i}", quick(student, seed=i // 2)) for i in range(3)]
    assert payload(made[0].path) == payload(made[1].path)
    assert made[0].digest == made[1].digest != made[2].digest
    assert set(payload(made[0].path)) == {"model.json", "model.safetensors"}
    again = read_student(made[0].path)
    assert again.name == student
    assert 0 <= made[0].record["summary"]["val"] <= 1
    assert [line["epoch"] for line in metrics(made[0].path)] == [0, 1, 2]
    first, *_, last = (line["loss.soft"] for line in metrics(made[0].path))
    assert last < first


@pytest.mark.parametrize("preset", PRESETS)
def test_every_term_is_logged_in_every_epoch(cache_path: Path, tmp_path: Path, preset: str) -> None:
    made = distill(cache_path, tmp_path / "s", quick("landmark", preset))
    terms = {f"{kind}.{name}" for kind in ("loss", "factor") for name in PRESETS[preset]}
    for line in metrics(made.path):
        assert set(line) - {"revived"} == terms | {"epoch", "val", "val_loss"}
    assert set(read_student(made.path).facts["losses"]) == set(PRESETS[preset])


def test_a_log_tells_what_a_hop_student_scores_with_all_hops(
    cache_path: Path, tmp_path: Path
) -> None:
    made = distill(cache_path, tmp_path / "s", quick("hop"))
    lines, best = metrics(made.path), made.record["summary"]["epoch"]
    cache, student = open_cache(cache_path), read_student(made.path).model
    student.votes = False
    inputs = student.prepare(cache.features(), cache.edges, None)
    said, labels = [predict(student, inputs, hops) for hops in range(4)], cache.labels
    val = cache.parts.val
    right = [float((answer[val].argmax(1) == labels[val]).double().mean()) for answer in said]
    assert lines[best]["val_all"] == pytest.approx(right[-1])
    assert lines[best]["val"] == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("preset", ["none", "paper"])
def test_validation_labels_choose_an_epoch_and_teach_nothing(
    cache_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    # With a single epoch there is nothing to choose but whether hops vote: no weight may differ.
    before = distill(cache_path, tmp_path / "a", quick("hop", preset, epochs=1))
    true = Cache.labels.fget  # type: ignore[attr-defined]

    def scrambled(self: Cache) -> torch.Tensor:
        labels: torch.Tensor = true(self).clone()
        labels[self.parts.val] = (labels[self.parts.val] + 1) % 3
        return labels

    monkeypatch.setattr(Cache, "labels", property(scrambled))
    after = distill(cache_path, tmp_path / "b", quick("hop", preset, epochs=1))
    assert payload(before.path)[WEIGHTS] == payload(after.path)[WEIGHTS]
    assert before.record["summary"]["val"] != after.record["summary"]["val"]


def test_the_weights_are_those_of_the_best_epoch_and_patience_ends_the_run(
    cache_path: Path, tmp_path: Path
) -> None:
    train = {"epochs": 60, "patience": 7, "lr": 0.05, "ema": 0.0}
    values = {"student": "mlp", "preset": "none", "train": train}
    made = distill(cache_path, tmp_path / "long", values)
    lines, best = metrics(made.path), made.record["summary"]
    assert len(lines) == best["epoch"] + 7 + 1 < 60
    rank: list[float] = []
    for line in lines:
        score = line["val"] - 0.01 * line["val_loss"]
        rank.append(score if not rank else 0.8 * rank[-1] + 0.2 * score)
    assert rank.index(max(rank)) == best["epoch"]
    assert (lines[best["epoch"]]["val"]) == best["val"]
    # Nothing but the number of epochs differs, and with `none` no term depends on it.
    values["train"] = {**train, "epochs": best["epoch"] + 1}
    short = distill(cache_path, tmp_path / "short", values)
    assert payload(short.path) == payload(made.path)


def test_a_run_is_done_once_and_refused_with_other_settings(
    cache_path: Path, tmp_path: Path
) -> None:
    made = distill(cache_path, tmp_path / "s", quick("mlp"))
    stamp = (made.path / "run.json").stat().st_mtime_ns
    assert distill(cache_path, tmp_path / "s", quick("mlp")).digest == made.digest
    assert (made.path / "run.json").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match=r"train\.epochs is 3, now 4"):
        distill(cache_path, tmp_path / "s", quick("mlp", epochs=4))
    assert open_artifact(tmp_path / "s", "student").digest == made.digest


def test_losses_on_layers_ask_for_a_teacher_with_layers(graph_path: Path, tmp_path: Path) -> None:
    cache = cache_of(graph_path, tmp_path / "flat", {**TEACH, "model": {"layers": 1}})
    assert open_cache(cache).manifest.teacher.layers == 0
    with pytest.raises(UsageError, match="need hidden layers"):
        distill(cache, tmp_path / "s", quick("mlp", "paper"))
    distill(cache, tmp_path / "s", quick("landmark"))  # its landmarks start at random


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


ONLY_THE_CACHE = """
import sys
from g2t_cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = [n for n in sys.modules if n.startswith(("torch_geometric", "g2t.teacher"))]
assert "g2t.distill.train" in sys.modules
assert not loaded, loaded
"""


def test_distill_never_imports_torch_geometric_or_a_teacher(
    cache_path: Path, tmp_path: Path
) -> None:
    asked = [str(cache_path), "--student", "hop", "--preset", "paper", "--set", "train.epochs=1"]
    command = [
        sys.executable,
        "-c",
        ONLY_THE_CACHE,
        "distill",
        *asked,
        "--out",
        str(tmp_path / "s"),
    ]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == str(tmp_path / "s")


def start(cache: Path, out: Path) -> "subprocess.Popen[str]":
    sets = ("train.epochs=30", "train.patience=30", "train.checkpoint_seconds=0")
    options = [part for text in sets for part in ("--set", text)]
    command = [sys.executable, "-m", "g2t_cli", "distill", str(cache), "--student", "hop"]
    return subprocess.Popen(
        [*command, "--preset", "paper", *options, "--out", str(out)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, said = process.communicate(timeout=120)
    return process.returncode, said


def test_a_run_stopped_by_a_signal_goes_on_to_the_same_bytes(
    cache_path: Path, tmp_path: Path
) -> None:
    whole, out = start(cache_path, tmp_path / "whole"), tmp_path / "stopped"
    process, partial = start(cache_path, out), tmp_path / "stopped.partial"
    log, deadline = partial / "metrics.jsonl", time.monotonic() + 100
    while not (log.exists() and log.read_text().count("\n") >= 3):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 75, said
    assert "run the same command to go on" in said
    assert not out.exists()
    assert (partial / "scratch/checkpoint.safetensors").is_file()
    code, said = finish(start(cache_path, out))
    assert code == 0, said
    assert "going on after epoch" in said
    assert finish(whole)[0] == 0
    assert payload(out) == payload(tmp_path / "whole")
    assert metrics(out) == metrics(tmp_path / "whole")
    assert not partial.exists()


class Crash(Silent):
    """A progress that ends the run in some epoch, as a crash would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        if done == self.at:
            raise RuntimeError("crash")


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize("preset", ["none", "paper"])
@pytest.mark.parametrize("reading", [{}, BLOCKS])
def test_a_crashed_run_goes_on_to_the_same_bytes(
    cache_path: Path, tmp_path: Path, preset: str, seconds: float, reading: dict[str, object]
) -> None:
    values = {**quick("hop", preset), "train": {"epochs": 12, **reading}}
    whole = distill(cache_path, tmp_path / "whole", values)
    values = {**values, "train": {"epochs": 12, **reading, "checkpoint_seconds": seconds}}
    for at in (1, 4, 9):
        with pytest.raises(RuntimeError, match="crash"):
            distill(cache_path, tmp_path / "s", values, progress=Crash(at))
    assert payload(distill(cache_path, tmp_path / "s", values).path) == payload(whole.path)
