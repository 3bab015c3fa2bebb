"""Training a teacher: the same bits again, the best epoch, no test label, and any interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.artifact import open_artifact
from g2t.errors import InputError, TrainingError
from g2t.graph.bundle import Graph, Parts, read_graph, write_graph
from g2t.graph.importing import import_graph
from g2t.graph.splits import make_split
from g2t.metrics import score
from g2t.runtime import Silent
from g2t.stage import Stage
from g2t.teacher.forward import trace
from g2t.teacher.store import read_teacher
from g2t.teacher.train import plan_teacher, teach
from g2t.tensors import load_tensors

SPLIT = "random:30/30/40:0"
CSBM = {"nodes": 120, "degree": 4.0, "classes": 3, "features": 8, "noise": 2.0}
SMALL = {"split": SPLIT, "features": "raw", "model": {"hidden": 8}, "train": {"epochs": 25}}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graph") / "g"
    return import_graph("synthetic:csbm", out, CSBM, None, Silent(), False).path


def store(graph: Graph, out: Path) -> Path:
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({}).path


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def payload(out: Path) -> dict[str, bytes]:
    volatile = ("run.json", "metrics.jsonl")
    return {f.name: f.read_bytes() for f in out.iterdir() if f.name not in volatile}


def train(graph: Path, out: Path, **change: Any) -> Path:
    return teach(graph, out, {**SMALL, **change}, device="cpu").path


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def test_a_teacher_is_complete_and_better_than_chance(graph: Path, tmp_path: Path) -> None:
    out = train(graph, tmp_path / "t")
    assert set(payload(out)) == {"model.json", "model.safetensors", "split.safetensors"}
    record = open_artifact(out, "teacher").record
    split = make_split(read_graph(graph), SPLIT)
    assert record["summary"]["split"] == SPLIT
    assert record["summary"]["split_digest"] == record["inputs"]["split"] == split.digest
    assert record["inputs"]["graph"] == read_graph(graph).fingerprints()["graph"]
    teacher, data = read_teacher(out), read_graph(graph)
    test = teacher.split.parts.test
    assert score("accuracy", trace(teacher, data).logits_NC[test], data.labels[test]) > 0.6


@pytest.mark.parametrize("teacher", ["gcn", "sage", "gat"])
def test_the_same_seed_gives_the_same_bytes(graph: Path, tmp_path: Path, teacher: str) -> None:
    chosen = {"teacher": teacher, "train": {"epochs": 6}}
    first, second, third = (
        payload(train(graph, tmp_path / str(i), seed=seed, **chosen))
        for i, seed in enumerate((1, 1, 2))
    )
    assert first == second
    assert third["model.safetensors"] != first["model.safetensors"]
    assert third["split.safetensors"] == first["split.safetensors"]


def test_test_labels_never_matter(graph: Path, tmp_path: Path) -> None:
    data = read_graph(graph)
    test = make_split(data, SPLIT).parts.test
    labels = data.labels.clone()
    labels[test] = (labels[test] + 1) % 3
    other = store(replace(data, labels=labels), tmp_path / "scrambled")
    assert read_graph(other).fingerprints()["graph"] != data.fingerprints()["graph"]
    first, second = train(graph, tmp_path / "a"), train(other, tmp_path / "b")
    for name in ("model.safetensors", "split.safetensors"):
        assert payload(first)[name] == payload(second)[name]
    timeless = [[{**line} for line in lines(out)] for out in (first, second)]
    assert timeless[0] == timeless[1]


def test_the_plan_that_trains_holds_no_test_label(graph: Path) -> None:
    plan = plan_teacher(graph, SMALL)
    parts = plan.split.parts
    assert bool((plan.graph.labels[parts.test] == -1).all())
    assert bool((plan.graph.labels[torch.cat([parts.train, parts.val])] >= 0).all())


def test_a_validation_label_does_matter_but_never_for_the_gradient(
    graph: Path, tmp_path: Path
) -> None:
    """With other validation labels the losses are the same; only the choice of epoch may change."""
    data = read_graph(graph)
    val = make_split(data, SPLIT).parts.val
    labels = data.labels.clone()
    labels[val] = (labels[val] + 1) % 3
    other = store(replace(data, labels=labels), tmp_path / "scrambled")
    first, second = (lines(train(g, tmp_path / n)) for g, n in ((graph, "a"), (other, "b")))
    assert [line["loss"] for line in first] == [line["loss"] for line in second]
    assert [line["val"] for line in first] != [line["val"] for line in second]


def test_the_weights_are_those_of_the_best_epoch(graph: Path, tmp_path: Path) -> None:
    """Best by validation, the loss breaking ties; kept as they were then, not as they became."""
    chosen = {"train": {"epochs": 40, "lr": 0.3}, "seed": 3}
    out = train(graph, tmp_path / "long", **chosen)
    log, summary = lines(out), open_artifact(out, "teacher").record["summary"]
    best = max(log, key=lambda line: (line["val"], -line["val_loss"], -line["epoch"]))
    assert (summary["epoch"], summary["val"]) == (best["epoch"], best["val"])
    assert 0 < best["epoch"] < 39
    teacher, data = read_teacher(out), read_graph(graph)
    val = teacher.split.parts.val
    logits = trace(teacher, data).logits_NC[val]
    assert score("accuracy", logits, data.labels[val]) == best["val"]
    assert F.cross_entropy(logits, data.labels[val]).item() == pytest.approx(best["val_loss"])
    # A run that ends at that epoch has the same weights as one that went on from it.
    short = {**chosen, "train": {"epochs": best["epoch"] + 1, "lr": 0.3}}
    stopped = train(graph, tmp_path / "short", **short)
    name = "model.safetensors"
    assert (stopped / name).read_bytes() == (out / name).read_bytes()


def test_it_stops_after_epochs_without_a_better_score(graph: Path, tmp_path: Path) -> None:
    chosen = {"train": {"epochs": 200, "patience": 4, "lr": 0.2}}
    out = train(graph, tmp_path / "t", **chosen)
    log, best = lines(out), open_artifact(out, "teacher").record["summary"]["epoch"]
    assert len(log) == best + 4 + 1 < 200


def test_an_enormous_rate_ends_in_a_training_error(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is nan in epoch") as caught:
        train(graph, tmp_path / "t", train={"epochs": 20, "lr": 1e30})
    assert caught.value.code == 5
    assert "lower train.lr" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    train(graph, tmp_path / "t")  # the corrected command is not refused


def test_nan_features_never_become_a_graph(graph: Path, tmp_path: Path) -> None:
    data = read_graph(graph)
    assert isinstance(data.features, Tensor)
    features = data.features.clone()
    features[5, 3] = torch.nan
    with pytest.raises(InputError, match="row 5, column 3 is NaN"):
        store(replace(data, features=features), tmp_path / "g")


def test_a_split_that_the_graph_lacks_is_an_input_error(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'public'; it comes with: none"):
        train(graph, tmp_path / "t", split="public")
    assert list(tmp_path.iterdir()) == []


def test_the_seed_completes_a_split_and_a_named_seed_stays(graph: Path) -> None:
    short = plan_teacher(graph, {**SMALL, "split": "random:30/30/40", "seed": 7})
    assert short.split.name == short.asked["split"] == "random:30/30/40:7"
    assert plan_teacher(graph, {**SMALL, "seed": 7}).split.name == SPLIT


def test_the_timing_of_checkpoints_is_no_setting_of_the_result(graph: Path, tmp_path: Path) -> None:
    out = train(graph, tmp_path / "t")
    stamp = (out / "run.json").stat().st_mtime_ns
    train(graph, out, train={"epochs": 25, "checkpoint_seconds": 0})
    assert (out / "run.json").stat().st_mtime_ns == stamp


def test_a_stored_split_is_used_as_it_is(graph: Path, tmp_path: Path) -> None:
    ids = torch.arange(120)
    parts = Parts(ids[::3].clone(), ids[1::3].clone(), ids[2::3].clone())
    out = store(replace(read_graph(graph), splits={"public": parts}), tmp_path / "g")
    found = read_teacher(train(out, tmp_path / "t", split="public")).split
    wanted = {"nodes": ids, **{n: getattr(parts, n) for n in ("train", "val", "test")}}
    assert same(load_tensors(tmp_path / "t" / "split.safetensors"), wanted)
    assert found.name == "public"


def wait_for_lines(process: subprocess.Popen[bytes], path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    process.kill()
    pytest.fail(f"no {count} epochs: {process.communicate()[1].decode()}")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads wait for each other at every step, which on a busy machine takes most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_training_ends_as_an_unbroken_one(
    graph: Path, tmp_path: Path, number: signal.Signals
) -> None:
    epochs = 120
    model, patience = {"hidden": 8, "norm": "batch"}, {"epochs": epochs, "patience": epochs}
    values = {"split": SPLIT, "features": "raw", "model": model, "train": patience}
    out = tmp_path / "t"
    sets = [f"model.{key}={value}" for key, value in model.items()]
    sets += [f"train.{key}={value}" for key, value in patience.items()]
    sets += ["features=raw", "train.checkpoint_seconds=0"]
    command = [sys.executable, "-m", "g2t_cli", "teach", str(graph), "--out", str(out)]
    command += ["--split", SPLIT, "--device", "cpu", *(f"--set={text}" for text in sets)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, **pipes, env=alone) as process:
        wait_for_lines(process, tmp_path / "t.partial" / "metrics.jsonl", 3)
        process.send_signal(number)
        said, complained = process.communicate(timeout=60)
    assert said == b""
    assert not out.exists()
    if number == signal.SIGTERM:
        assert process.returncode == 75
        assert b"stopped by SIGTERM after a checkpoint" in complained
        assert b"run the same command to go on" in complained
    else:
        assert process.returncode == -signal.SIGKILL
    before = len(lines(tmp_path / "t.partial"))
    assert before < epochs
    teach(graph, out, values, device="cpu")
    log = lines(out)
    assert log[before]["epoch"] > 0  # it went on, it did not begin again
    assert log[-1]["epoch"] == epochs - 1
    whole = teach(graph, tmp_path / "whole", values, device="cpu")
    assert payload(out) == payload(whole.path)
    assert open_artifact(out, "teacher").digest == whole.digest
