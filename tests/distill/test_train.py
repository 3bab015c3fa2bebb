"""Distilling from a cache: what is read, what is logged, and the same bits every time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2

from g2t.artifact import open_artifact
from g2t.cache.check import open_cache
from g2t.cache.format import (
    CODES,
    EDGE_SCORES,
    FEATURES,
    RELIABILITY,
    SIGNALS,
    Signal,
    TensorEntry,
    layer_name,
)
from g2t.cache.reader import Cache, Rows
from g2t.cache.stream import PIECE
from g2t.distill import start as start_module
from g2t.distill.losses.align import standardised
from g2t.distill.settings import PRESETS
from g2t.distill.signals import count_codes, open_signals
from g2t.distill.start import landmark_centres
from g2t.distill.train import distill
from g2t.errors import InputError, IntegrityError, UsageError
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.network import WEIGHTS
from g2t.runtime import Silent
from g2t.student import STUDENTS
from g2t.student.base import TrainSettings, predict
from g2t.student.store import read_student
from g2t.teacher.train import teach

ROOT = Path(__file__).parents[2]
GRAPH = {"nodes": 160, "degree": 6.0, "classes": 3, "features": 6, "noise": 1.5}
#: Far too small a buffer for any cache here, so that it is read by blocks.
BLOCKS = {"batch": 32, "block": 16, "buffer": "16KiB"}
TEACH = {"split": "random:20/20/60:0", "train": {"epochs": 10}, "model": {"hidden": 16}}


@pytest.fixture(scope="module")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("distill") / "graph"
    return import_graph("synthetic:csbm", out, GRAPH, None, Silent(), False).path


@pytest.fixture(scope="module")
def cache_path(graph_path: Path) -> Path:
    """A cache with every signal."""
    return cache_of(graph_path, graph_path.with_name("cache"), TEACH, SIGNALS)


def cache_of(
    graph: Path, out: Path, values: dict[str, Any], signals: tuple[Signal, ...] = ("logits",)
) -> Path:
    teacher = out.with_name(out.name + "-teacher")
    teach(graph, teacher, values)
    made = export(teacher, graph, out, ExportSettings(dtype="fp32", signals=signals))
    assert made is not None
    return made.path


def quick(student: str, preset: str = "soft", epochs: int = 3, **values: Any) -> dict[str, Any]:
    return {"student": student, "preset": preset, "train": {"epochs": epochs}, **values}


def payload(path: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in path.iterdir()
        if file.name not in ("run.json", "metrics.jsonl")
    }


def metrics(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


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


def refuse_teacher(monkeypatch: pytest.MonkeyPatch, stem: str) -> None:
    """Let no tensor be opened whose name begins so, in whatever way."""
    entry = Cache.entry

    def refuse(self: Cache, name: str) -> TensorEntry:
        assert not name.startswith(stem), "a tensor of the teacher was opened"
        return entry(self, name)

    monkeypatch.setattr(Cache, "entry", refuse)


@pytest.mark.parametrize("student", STUDENTS)
def test_without_a_teacher_none_of_its_tensors_is_opened_or_recorded(
    cache_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: str
) -> None:
    refuse_teacher(monkeypatch, "teacher-")
    made = distill(cache_path, tmp_path / "s", quick(student, "none"))
    assert set(made.inputs) == {"cache/graph", "cache/features"}
    assert read_student(made.path).facts["teacher"] is None


def test_layers_that_no_loss_needs_are_not_opened(
    cache_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_teacher(monkeypatch, "teacher-h")
    made = distill(cache_path, tmp_path / "s", quick("mlp"))
    assert set(made.inputs) == {"cache/graph", "cache/features", "cache/teacher-logits"}
    facts = read_student(made.path).facts
    assert facts["teacher"]["digest"] == open_cache(cache_path).manifest.teacher.digest


def test_what_is_read_is_recorded_by_digest(cache_path: Path, tmp_path: Path) -> None:
    made = distill(cache_path, tmp_path / "s", quick("landmark", "paper"))
    cache = open_cache(cache_path)
    layers = {f"cache/teacher-h{i}" for i in range(1, cache.manifest.teacher.layers + 1)}
    known = {"cache/graph", "cache/features", "cache/teacher-logits", "cache/teacher-edge-scores"}
    assert set(made.inputs) == known | layers
    for name, digest in made.inputs.items():
        assert cache.manifest.digest_of(name.removeprefix("cache/")) == digest


def test_only_training_rows_have_a_label_in_training(cache_path: Path) -> None:
    cache = open_cache(cache_path)
    needs = frozenset({"labels"})
    labels_N = open_signals(cache, needs, frozenset(), TrainSettings()).labels_N
    labelled = (labels_N >= 0).nonzero().flatten()
    assert torch.equal(labelled, cache.parts.train)
    assert torch.equal(labels_N[labelled], cache.labels[labelled])


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


def test_what_fits_into_the_buffer_is_shuffled_as_a_whole_whatever_its_size(
    cache_path: Path, tmp_path: Path
) -> None:
    fits = cache_bytes(cache_path)
    sizes = {"fits": fits, "plenty": "1GiB", "blocks": fits - 1}
    made = {}
    for name, size in sizes.items():
        train = {"epochs": 3, "batch": 16, "block": 8, "buffer": size}
        made[name] = distill(cache_path, tmp_path / name, {"student": "mlp", "train": train})
    assert payload(made["fits"].path) == payload(made["plenty"].path)
    assert payload(made["fits"].path) != payload(made["blocks"].path)


def cache_bytes(path: Path) -> int:
    """Return the bytes of the logits, which is all that `soft` reads of the teacher."""
    logits = open_cache(path).logits()
    return logits.numel() * logits.element_size()


@pytest.mark.parametrize("student", STUDENTS)
def test_a_student_learns_from_blocks_of_a_cache_that_does_not_fit(
    cache_path: Path, tmp_path: Path, student: str
) -> None:
    losses: dict[str, Any] = {name: {} for name in ("reliable_edge", "codebook", "edge_low", "cka")}
    values = {"student": student, "preset": "paper", "loss": losses}
    made = [
        distill(cache_path, tmp_path / name, {**values, "train": {"epochs": 4, **BLOCKS}})
        for name in ("a", "b")
    ]
    assert payload(made[0].path) == payload(made[1].path)
    first, *_, last = (line["loss.soft"] for line in metrics(made[0].path))
    assert last < first
    assert set(made[0].inputs) > {f"cache/{name}" for name in (EDGE_SCORES, RELIABILITY, CODES)}


def test_a_buffer_too_small_for_a_batch_is_refused(cache_path: Path, tmp_path: Path) -> None:
    values = {"student": "mlp", "train": {"buffer": "1KiB"}}
    with pytest.raises(UsageError, match="a buffer of 1KiB cannot hold two batches of 40 rows"):
        distill(cache_path, tmp_path / "s", values)


def test_landmarks_start_where_whole_layers_would_place_them(cache_path: Path) -> None:
    cache = open_cache(cache_path)
    names = (layer_name(1), FEATURES)  # any two tensors will do
    found = landmark_centres([cache.open(name) for name in names], 2, 8, seed=3)
    for name, centres in zip(names, found, strict=True):
        whole_ND = cache.whole(name)
        rows = torch.randperm(cache.rows, generator=torch.Generator().manual_seed(3))
        data = standardised(whole_ND[rows].float()).numpy()
        wanted, _ = kmeans2(data, 8, minit="++", rng=3)
        assert torch.equal(centres, torch.from_numpy(wanted))


def test_the_landmark_start_reads_a_sample_of_a_layer(
    cache_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, read = open_cache(cache_path), 0
    layer = cache.open(layer_name(1))
    read_into = Rows.read_into

    def watched(self: Rows, start: int, rows: torch.Tensor) -> None:
        nonlocal read
        read += len(rows)
        read_into(self, start, rows)

    monkeypatch.setattr(start_module, "SAMPLE", 2)
    monkeypatch.setattr(Rows, "read_into", watched)
    (centres,) = landmark_centres([layer], 1, 8, seed=0)
    assert len(centres) == 2
    assert read <= 2 * PIECE


def test_codes_are_counted_over_all_shards(
    cache_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache(cache_path)
    codes_NL = cache.whole(CODES).long()
    monkeypatch.setattr("g2t.distill.signals.CHUNK", 7)
    assert count_codes(cache) == tuple((codes_NL.amax(0) + 1).tolist())


def test_a_negative_code_is_no_code(cache_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, read = open_cache(cache_path), Rows.read
    monkeypatch.setattr(Rows, "read", lambda self, *span: read(self, *span) - 1)
    with pytest.raises(IntegrityError, match="holds a negative code"):
        count_codes(cache)


def test_cached_edge_scores_are_the_cosines_of_the_last_layer(cache_path: Path) -> None:
    cache, needs = open_cache(cache_path), frozenset({"edges", "edge_scores", "layers"})
    signals, pairs = open_signals(cache, needs, needs, TrainSettings()), 0
    for _, _, batch in signals.batches(40):
        last_BD = batch.layers[-1]
        wanted = F.cosine_similarity(last_BD[batch.source_P], last_BD[batch.target_P])
        assert torch.allclose(batch.score_P, wanted, atol=1e-5)
        pairs += len(wanted)
    assert pairs > 300
