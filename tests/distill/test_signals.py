"""Batches of a cache's rows: neighbours drawn, rows added, positions right."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from g2t.distill.signals import ANCHORS, NEIGHBOURS, Signals, sample_neighbours
from g2t.graph.csr import Csr, from_pairs

NODES = 14
EDGES = st.lists(st.tuples(*[st.integers(0, NODES - 1)] * 2), max_size=60)
ROWS = st.lists(st.integers(0, NODES - 1), min_size=1, max_size=NODES, unique=True)


def edges_of(pairs: list[tuple[int, int]], nodes: int = NODES) -> Csr:
    ends = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
    return from_pairs(ends[:, 0], ends[:, 1], nodes)


def signals_of(edges: Csr | None, nodes: int = NODES) -> Signals:
    """Return signals in which every tensor's row says which row it is."""
    row_N1 = torch.arange(nodes)[:, None]
    return Signals(torch.arange(nodes), row_N1.half(), (row_N1.half(), -row_N1.half()), edges)


@given(EDGES, ROWS, st.integers(1, 6))
def test_neighbours_are_real_distinct_and_as_many_as_asked_or_there(
    pairs: list[tuple[int, int]], rows: list[int], most: int
) -> None:
    source_P, target_P = sample_neighbours(edges_of(pairs), torch.tensor(rows), most)
    drawn = list(zip(source_P.tolist(), target_P.tolist(), strict=True))
    assert len(set(drawn)) == len(drawn)
    for position, row in enumerate(rows):
        near = {u for u, v in pairs if v == row}
        chosen = {u for u, p in drawn if p == position}
        assert chosen <= near
        assert len(chosen) == min(most, len(near))


def test_every_neighbour_has_the_same_chance() -> None:
    torch.manual_seed(0)
    edges = edges_of([(u, 0) for u in range(1, 11)] + [(0, 1)])
    draws = 10_000
    source_P, _ = sample_neighbours(edges, torch.zeros(draws, dtype=torch.int64), 3)
    counts = source_P.bincount(minlength=11)[1:11]
    assert counts.sum() == 3 * draws
    # Five deviations of a binomial with p = 0.3.
    assert (counts - 0.3 * draws).abs().max() < 5 * (draws * 0.3 * 0.7) ** 0.5


def test_pairs_of_one_draw_are_independent_of_their_order_in_the_row() -> None:
    torch.manual_seed(0)
    edges = edges_of([(u, 0) for u in range(1, 4)])
    source_P, target_P = sample_neighbours(edges, torch.zeros(6000, dtype=torch.int64), 2)
    drawn = torch.zeros(6000, 4, dtype=torch.bool)
    drawn[target_P, source_P] = True
    left_out = (~drawn[:, 1:]).float().mean(0)
    assert (left_out - 1 / 3).abs().max() < 5 * (2 / 9 / 6000) ** 0.5


@given(EDGES, ROWS)
def test_a_batch_is_its_rows_then_their_neighbours_and_pairs_point_into_it(
    pairs: list[tuple[int, int]], rows: list[int]
) -> None:
    own_B = torch.tensor(rows)
    rows_B, batch = signals_of(edges_of(pairs)).batch(own_B)
    assert rows_B[: len(rows)].tolist() == rows
    assert len(set(rows_B.tolist())) == len(rows_B)
    sources = rows_B[batch.source_P].tolist()
    targets = rows_B[batch.target_P].tolist()
    assert set(zip(sources, targets, strict=True)) <= set(pairs)
    assert set(rows_B.tolist()) == set(rows) | set(sources)
    assert all(position < len(rows) for position in batch.target_P.tolist())
    for node in rows:
        near = {u for u, v in pairs if v == node}
        assert targets.count(node) == min(NEIGHBOURS, len(near))
    assert batch.labels_B.tolist() == rows_B.tolist()
    assert batch.logits_BC.flatten().tolist() == rows_B.tolist()
    assert batch.layers[1].flatten().tolist() == [-row for row in rows_B.tolist()]
    assert batch.logits_BC.dtype == batch.layers[0].dtype == torch.float32


def test_without_edges_a_batch_is_its_rows_and_has_no_pairs() -> None:
    rows_B, batch = signals_of(None).batch(torch.tensor([3, 1]))
    assert rows_B.tolist() == [3, 1]
    assert len(batch.source_P) == len(batch.target_P) == 0


def test_only_the_first_rows_of_a_batch_get_neighbours() -> None:
    nodes = 2 * ANCHORS
    ring = torch.arange(nodes)
    edges = from_pairs(ring, (ring + 1) % nodes, nodes)
    rows_B, batch = signals_of(edges, nodes).batch(torch.randperm(nodes))
    assert sorted(batch.target_P.tolist()) == list(range(ANCHORS))
    assert len(rows_B) == nodes


def test_a_head_has_the_first_rows_and_no_pairs() -> None:
    _, batch = signals_of(edges_of([(0, 1), (2, 1)])).batch(torch.tensor([1]))
    head = batch.head(1)
    assert head.labels_B.tolist() == [1]
    assert [layer.tolist() for layer in head.layers] == [[[1.0]], [[-1.0]]]
    assert len(head.source_P) == len(head.target_P) == 0
