"""Edge scores, codes, reliability and its noise, each against a direct computation."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.cache.reader import Cache
from g2t.errors import InputError
from g2t.export import layer, signals, walk
from g2t.export.signals import _centres
from g2t.export.source import normal
from g2t.graph.bundle import read_graph
from g2t.graph.csr import Csr, Features
from g2t.teacher.forward import observed
from g2t.teacher.store import read_teacher
from tests.export.graphs import (
    EVERYTHING,
    PLAIN,
    ROWS,
    Taught,
    Teach,
    digests,
    features_of,
    graph_of,
    store,
    write_teacher,
)

SIGNALS = ("layers", "logits", "edge_scores", "reliability", "codes", "clusters")


def entropy(logits: Tensor) -> Tensor:
    share = logits.double().softmax(1)
    return -torch.xlogy(share, share).sum(1)


def cosines(cache: Cache, name: str) -> Tensor:
    """The cosine of the ends of every edge, one by one."""
    rows, edges = cache.whole(name).double(), cache.edges
    return F.cosine_similarity(rows[edges.column_E.long()], rows[edges.row_E], eps=1e-12)


@pytest.mark.parametrize(
    ("dtype", "precision", "most"),
    [
        ("fp32", "fp32", 1e-6),
        ("fp16", "fp32", 6e-4),
        ("int8", "fp32", 6e-4),
        ("bf16", "fp32", 5e-3),
        ("fp16", "fp16", 2e-3),
    ],
)
def test_edge_scores_are_cosines_of_the_last_layer_as_it_is_stored(
    teach: Teach, tmp_path: Path, dtype: str, precision: str, most: float
) -> None:
    taught = teach("sage", **EVERYTHING)
    asked: dict[str, Any] = {"dtype": dtype, "precision": precision, "shard_rows": 131}
    cache = taught.export(tmp_path / "c", signals=("layers", "edge_scores"), **asked)
    wanted, found = cosines(cache, "teacher-h3"), cache.edge_scores()
    assert found.shape == wanted.shape
    assert float((found.double() - wanted).abs().max()) <= most
    assert float(found.abs().max()) <= 1
    entry = cache.entry("teacher-edge-scores")
    assert entry.dtype == {"int8": "fp16"}.get(dtype, dtype)
    assert entry.relative_error <= 2**-8
    assert (entry.relative_error == 0) == (dtype == "fp32")


def test_a_row_of_zeros_has_score_zero_and_a_self_loop_one(tmp_path: Path, teach: Teach) -> None:
    taught = teach("gcn", **PLAIN)
    cache = taught.export(tmp_path / "c", signals=("layers", "edge_scores"))
    rows, edges, score = cache.layer(1), cache.edges, cache.edge_scores()
    dead = (rows == 0).all(1)
    ends = edges.column_E.long()
    assert bool((score[dead[ends] | dead[edges.row_E]] == 0).all())
    loops = (ends == edges.row_E) & ~dead[ends]
    assert int(loops.sum()) > 5
    torch.testing.assert_close(score[loops], torch.ones(int(loops.sum())))


def test_edge_scores_do_not_depend_on_panels_held_nor_much_on_their_width(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, found = teach("gcn", **EVERYTHING), []
    asked: dict[str, Any] = {"signals": ("layers", "edge_scores"), "shard_rows": 131}
    whole = taught.export(tmp_path / "whole", **asked)
    monkeypatch.setattr(layer, "PANEL", 11)
    monkeypatch.setattr(signals, "EDGES", 13)
    monkeypatch.setattr(walk, "BLOCK_EDGES", 101)  # many blocks in a shard
    for held in (1, 2, 3, 4):
        monkeypatch.setattr(walk, "panels_held", lambda *sizes, held=held: min(held, sizes[2]))
        cache = taught.export(tmp_path / str(held), **asked)
        found.append(digests(cache.artifact))
        torch.testing.assert_close(cache.edge_scores(), whole.edge_scores(), rtol=0, atol=1e-6)
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize(("codes", "dtype"), [(5, "fp32"), (5, "int8"), (1000, "fp16")])
def test_a_code_is_the_nearest_centre_of_its_layer(
    teach: Teach, tmp_path: Path, codes: int, dtype: str
) -> None:
    taught = teach("gat", **(PLAIN if codes > ROWS else EVERYTHING))
    layers = len(taught.trace.layers)
    cache = taught.export(
        tmp_path / "c", signals=("layers", "codes"), dtype=dtype, codes=codes, shard_rows=131
    )
    found = cache.whole("teacher-codes")
    assert (found.dtype, tuple(found.shape)) == (torch.int16, (ROWS, layers))
    for index in range(layers):
        rows = cache.layer(index + 1).float()
        scaled = (rows - rows.mean(0)) / rows.std(0, correction=0).clamp(min=1e-6)
        centres = _centres(scaled, codes)
        assert len(centres) == min(codes, ROWS)
        distance = (scaled[:, None] - centres[None]).double().square().sum(2)
        own = distance.gather(1, found[:, index : index + 1].long())[:, 0]
        assert bool((own <= distance.amin(1) * (1 + 1e-4) + 1e-4).all())
        used = len(torch.unique(found[:, index]))
        assert used > min(codes, ROWS) / 2
    if codes == 5:  # and they say something: rows of a code are closer than rows are
        rows = cache.layer(1).float()
        mean = torch.stack([rows[found[:, 0] == code].mean(0) for code in range(5)])
        left = (rows - mean[found[:, 0].long()]).square().sum()
        assert float(left) < 0.9 * float((rows - rows.mean(0)).square().sum())


def test_a_unit_that_is_dead_does_not_matter(tmp_path: Path) -> None:
    """It has no spread to divide by."""
    features = features_of(80, "dense")
    assert isinstance(features, Tensor)
    ring = torch.arange(80)
    graph = graph_of(torch.stack([ring, ring.roll(1)]), features + 9)
    taught = write_teacher(store(graph, tmp_path / "g"), tmp_path / "t", "gcn", **PLAIN)
    cache = taught.export(tmp_path / "c", signals=("layers", "codes"), codes=4)
    dead = cache.layer(1).std(0) == 0
    assert 0 < int(dead.sum()) < len(dead)
    assert len(torch.unique(cache.whole("teacher-codes"))) == 4


def noisy(features: Features, scale: float) -> Features:
    """Add to every stored entry of the teacher's view the noise of its row and column."""
    if isinstance(features, Csr):
        drawn = normal(features.row_E, features.column_E.long())
        return replace(features, value_E=features.values() + scale * drawn)
    columns = torch.arange(features.shape[1])
    return features + scale * normal(torch.arange(len(features))[:, None], columns)


def noisy_logits(taught: Taught, scale: float) -> Tensor:
    """What the network says of the whole graph under noise."""
    teacher, graph = read_teacher(taught.teacher), read_graph(taught.graph)
    scaling = teacher.facts["features"]["scaling"]
    features, structure = observed(graph, teacher.split, scaling, torch.device("cpu"))
    with torch.inference_mode():
        logits: Tensor = teacher.model(noisy(features, scale), structure).logits_NC
    return logits


def moved(taught: Taught, scale: float) -> Tensor:
    """How far noise moves the entropy of every node."""
    return (entropy(taught.trace.logits_NC) - entropy(noisy_logits(taught, scale))).abs()


@pytest.mark.parametrize("name", ["gcn", "gat"])
@pytest.mark.parametrize("kind", ["dense", "words"])
@pytest.mark.parametrize("split", ["public", "cpf:2"])
def test_reliability_is_the_entropy_that_noise_moves(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: Any, split: str
) -> None:
    monkeypatch.setattr(walk, "BLOCK_ROWS", 64)
    taught = teach(name, kind, split, **EVERYTHING)
    cache = taught.export(
        tmp_path / "c", signals=("logits", "reliability"), noise=0.4, shard_rows=131
    )
    wanted = moved(taught, 0.4)
    found = cache.whole("teacher-reliability")
    assert (found.dtype, tuple(found.shape)) == (torch.float32, (cache.rows, 1))
    assert float(found.max()) == 1
    assert float(found.min()) >= 0
    torch.testing.assert_close(found[:, 0].double(), wanted / wanted.max(), rtol=0, atol=1e-4)


def test_reliability_does_not_depend_on_what_else_is_asked(teach: Teach, tmp_path: Path) -> None:
    taught = teach("sage", "words", **EVERYTHING)
    alone = taught.export(tmp_path / "alone", signals=("reliability",), dtype="fp16")
    both = taught.export(tmp_path / "both", signals=SIGNALS, dtype="fp16", shard_rows=131)
    assert alone.manifest.tensor("teacher-logits") is None
    assert torch.equal(alone.whole("teacher-reliability"), both.whole("teacher-reliability"))


def test_noise_that_moves_nothing_makes_no_node_less_reliable(teach: Teach, tmp_path: Path) -> None:
    taught = teach("gcn", **PLAIN)
    cache = taught.export(tmp_path / "c", signals=("reliability",), noise=1e-30)
    assert bool((cache.whole("teacher-reliability") == 0).all())


@pytest.mark.parametrize("signal", ["edge_scores", "codes"])
def test_a_teacher_without_hidden_layer_has_nothing_to_compare(
    teach: Teach, tmp_path: Path, signal: str
) -> None:
    taught = teach("gcn", layers=1, hidden=8)
    with pytest.raises(InputError, match="no hidden layer"):
        taught.export(tmp_path / "c", signals=(signal,))
    assert list(tmp_path.iterdir()) == []
    cache = taught.export(tmp_path / "c", signals=("layers", "logits", "reliability"))
    assert float(cache.whole("teacher-reliability").max()) == 1


def test_noise_is_standard_normal_and_nothing_in_it_repeats() -> None:
    rows, columns = 2000, 300
    drawn = normal(torch.arange(rows)[:, None], torch.arange(columns)).double()
    assert drawn.shape == (rows, columns)
    count = drawn.numel()
    assert abs(float(drawn.mean())) < 4 / math.sqrt(count)
    assert float(drawn.std()) == pytest.approx(1, abs=4 / math.sqrt(count))
    assert float((drawn**3).mean()) == pytest.approx(0, abs=4 * math.sqrt(15 / count))
    assert float((drawn**4).mean()) == pytest.approx(3, abs=4 * math.sqrt(96 / count))
    for place in (0.5, 1.0, 2.0, 3.0):  # its distribution, on both sides
        share = 0.5 * math.erfc(place / math.sqrt(2))
        most = 4 * math.sqrt(share / count)
        assert float((drawn > place).double().mean()) == pytest.approx(share, abs=most)
        assert float((drawn < -place).double().mean()) == pytest.approx(share, abs=most)
    for own, other in (
        (drawn[:, 1:], drawn[:, :-1]),
        (drawn[1:], drawn[:-1]),
        (drawn[1:, 1:], drawn[:-1, :-1]),
        (drawn[1:, :-1], drawn[:-1, 1:]),
    ):
        # Neither linked in value nor in size; the square of a normal number has variance 2.
        assert abs(float((own * other).mean())) < 4 / math.sqrt(count)
        sizes = (own.square() - 1) * (other.square() - 1) / 2
        assert abs(float(sizes.mean())) < 4 / math.sqrt(count)
    assert len(torch.unique(drawn)) > 0.9 * count
    # Rows and columns as a whole: correlations of any two columns are those of chance.
    between = torch.corrcoef(drawn.T).fill_diagonal_(0)
    assert float(between.abs().max()) < 5.5 / math.sqrt(rows)


def test_noise_of_far_rows_and_columns_is_finite_and_its_own() -> None:
    far = torch.tensor([0, 1, 2**31, 111_000_000, 2**40])[:, None]
    drawn = normal(far, torch.tensor([0, 1, 100_000, 2**31 - 1]))
    assert bool(drawn.isfinite().all())
    assert len(torch.unique(drawn)) == drawn.numel()


def test_any_part_of_the_noise_is_the_same_by_itself() -> None:
    whole = normal(torch.arange(50)[:, None], torch.arange(20))
    part = normal(torch.arange(13, 29)[:, None], torch.arange(7, 20))
    assert torch.equal(part, whole[13:29, 7:])
    rows, columns = torch.tensor([40, 3, 3]), torch.tensor([19, 0, 7])
    assert torch.equal(normal(rows, columns), whole[rows, columns])
