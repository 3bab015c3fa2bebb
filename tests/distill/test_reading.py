"""Distilling from a cache: what is read of it, how much at once, and what a batch then holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2

from g2t.cache.check import open_cache
from g2t.cache.format import CODES, EDGE_SCORES, FEATURES, RELIABILITY, TensorEntry, layer_name
from g2t.cache.reader import Cache, Rows
from g2t.cache.stream import PIECE
from g2t.distill import start as start_module
from g2t.distill.losses.align import standardised
from g2t.distill.signals import count_codes, open_signals
from g2t.distill.start import landmark_centres
from g2t.distill.train import distill
from g2t.errors import IntegrityError, UsageError
from g2t.student import STUDENTS
from g2t.student.base import TrainSettings
from g2t.student.store import read_student
from tests.distill.small import BLOCKS, metrics, payload, quick


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
