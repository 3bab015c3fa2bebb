"""Worse graphs: how much of what is changed, and that nothing else is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from g2t.errors import InputError
from g2t.graph.bundle import Graph, check_graph
from g2t.graph.corrupt import CORRUPTIONS, corrupted
from g2t.graph.csr import Csr, from_pairs

NODES, WIDTH = 300, 40
SHARES = (0.25, 0.5, 0.75, 1.0)


def graph(sparse: bool, directed: bool = False, valued: bool = False) -> Graph:
    """Some self-loops among its edges; sparse rows of ones or of any values, dense ones of any."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randint(NODES, (2, 1500), generator=generator)
    loops = torch.arange(9)
    if not directed:
        source, target = torch.cat([source, target]), torch.cat([target, source])
    edges = from_pairs(torch.cat([source, loops]), torch.cat([target, loops]), NODES)
    scale = torch.linspace(0.1, 4, WIDTH)
    features: Tensor | Csr = 2 + scale * torch.randn(NODES, WIDTH, generator=generator)
    if sparse:
        row, column = torch.randint(NODES, (2, 1800), generator=generator)
        words = from_pairs(column % WIDTH, row, NODES)
        value_E = torch.rand(len(words.column_E), generator=generator) + 1 if valued else None
        features = Csr(words.start_N, words.column_E, value_E, WIDTH)
    labels = torch.arange(NODES) % 2
    return Graph("small", features, edges, labels, ("a", "b"), "accuracy", directed)


def dense(made: Graph) -> Tensor:
    return made.features.dense() if isinstance(made.features, Csr) else made.features


def pairs(made: Graph) -> set[tuple[int, int]]:
    return set(zip(made.edges.row_E.tolist(), made.edges.column_E.tolist(), strict=True))


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("sparse", [False, True])
def test_nothing_changes_at_zero_and_draws_repeat_and_are_sound(kind: str, sparse: bool) -> None:
    before = graph(sparse)
    assert corrupted(before, kind, 0, 0.0) is before
    prints = [before.fingerprints()["graph"]]
    for seed, share in ((0, 0.5), (1, 0.5), (0, 1.0)):
        made = corrupted(before, kind, seed, share)
        prints.append(made.fingerprints()["graph"])
        assert corrupted(before, kind, seed, share).fingerprints()["graph"] == prints[-1]
        if kind != "removed":  # of which nothing but loops may stay
            check_graph(made, InputError)
    assert len(set(prints)) == 4
    assert before.fingerprints()["graph"] == prints[0]


def test_noise_of_dense_features_is_a_share_of_the_deviation_of_each_column() -> None:
    before = graph(False)
    whole = dense(corrupted(before, "noise", 0, 1.0)) - dense(before)
    half = dense(corrupted(before, "noise", 0, 0.5)) - dense(before)
    torch.testing.assert_close(half, whole / 2, atol=1e-5, rtol=1e-4)
    ratio = whole.std(0) / dense(before).std(0)
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert ((ratio > 0.8) & (ratio < 1.2)).all()


@pytest.mark.parametrize("valued", [False, True])
def test_noise_of_sparse_features_moves_entries_within_their_rows(valued: bool) -> None:
    before = graph(True, valued=valued)
    assert isinstance(before.features, Csr)
    entries, gone = len(before.features.column_E), torch.zeros(NODES, WIDTH, dtype=torch.bool)
    for share in SHARES:
        made = corrupted(before, "noise", 0, share).features
        assert isinstance(made, Csr)
        assert made.has_valid_starts()
        assert (made.counts_N <= before.features.counts_N).all()
        left = (dense(before) != 0) & (made.dense() == 0)
        # Few of the moved entries meet another one, or fall back on their place.
        assert int(left.sum()) / entries == pytest.approx(share, abs=0.18)
        assert len(made.column_E) > 0.85 * entries
        known = set(made.dense().flatten().tolist())
        assert known <= set(dense(before).flatten().tolist()) | {0.0}
        assert int((gone & ~left).sum()) < 0.2 * entries  # what is gone at 25 % is so at 50 %
        gone = left


@pytest.mark.parametrize("sparse", [False, True])
def test_missing_entries_are_zero_and_the_others_as_they_were(sparse: bool) -> None:
    before = graph(sparse, valued=True)
    stored, gone = dense(before) != 0, torch.zeros(NODES, WIDTH, dtype=torch.bool)
    for share in SHARES:
        made = dense(corrupted(before, "missing", 0, share))
        zero = stored & (made == 0)
        assert torch.equal(made[~zero], dense(before)[~zero])
        assert int(zero.sum()) / int(stored.sum()) == pytest.approx(share, abs=0.03)
        assert bool((zero | ~gone).all())
        gone = zero
    assert bool(gone[stored].all())


@pytest.mark.parametrize("directed", [False, True])
def test_removed_edges_go_with_both_directions_and_loops_stay(directed: bool) -> None:
    before = graph(True, directed)
    links, known = {(a, b) for a, b in pairs(before) if a != b}, pairs(before)
    for share in SHARES:
        made = corrupted(before, "removed", 0, share)
        left = pairs(made)
        assert left <= known
        assert pairs(before) - links <= left
        gone = 1 - len(left & links) / len(links)
        assert gone == pytest.approx(share, abs=0.04)
        if not directed:
            assert left == {(b, a) for a, b in left}
        known = left
    assert not left & links


def test_rewired_edges_are_as_many_as_asked_for_and_keep_every_degree() -> None:
    before = graph(True)
    for share in SHARES:
        made = corrupted(before, "rewired", 0, share)
        assert torch.equal(made.edges.counts_N, before.edges.counts_N)
        kept = len(pairs(made) & pairs(before)) / len(pairs(before))
        assert 1 - kept == pytest.approx(share, abs=0.06)
    few = replace(before, edges=from_pairs(torch.tensor([0, 1]), torch.tensor([1, 0]), NODES))
    assert pairs(corrupted(few, "rewired", 0, 0.5)) == {(0, 1), (1, 0)}
