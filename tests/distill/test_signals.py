"""Batches of a cache's rows: neighbours drawn, rows added, positions right."""

from collections.abc import Collection

import torch
from hypothesis import given
from hypothesis import strategies as st

from g2t.cache.format import CLUSTERS, CODES, LOGITS, RELIABILITY
from g2t.cache.stream import Stream
from g2t.distill.losses.base import Batch
from g2t.distill.signals import ANCHORS, NEIGHBOURS, Signals, sample_neighbours
from g2t.graph.csr import Csr, from_pairs

NODES = 14
EDGES = st.lists(st.tuples(*[st.integers(0, NODES - 1)] * 2), max_size=60)
LAYERS = ("teacher-h1", "teacher-h2", "teacher-p1", "teacher-p2")
EVERY = (LOGITS, *LAYERS, RELIABILITY, CODES, CLUSTERS)
ROWS = st.lists(st.integers(0, NODES - 1), min_size=1, max_size=NODES, unique=True)


def edges_of(pairs: list[tuple[int, int]], nodes: int = NODES) -> Csr:
    ends = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
    return from_pairs(ends[:, 0], ends[:, 1], nodes)


def signals_of(edges: Csr | None, nodes: int = NODES, far: Collection[str] = EVERY) -> Signals:
    """Return signals in which every tensor's row, and every edge's score, says which it is."""
    row_N1 = torch.arange(nodes)[:, None]
    held = {LOGITS: row_N1.half(), "teacher-h1": row_N1.half(), "teacher-h2": -row_N1.half()}
    held |= {"teacher-p1": 2 * row_N1.half(), "teacher-p2": -2 * row_N1.half()}
    held |= {RELIABILITY: row_N1 / nodes, CODES: torch.cat([row_N1, row_N1 + 1], 1).short()}
    held[CLUSTERS] = row_N1.int() + 40_000
    stream = Stream({}, nodes, 0, 1)
    stream.held = held
    score_E = torch.empty(0) if edges is None else torch.arange(len(edges.column_E)).half()
    return Signals(torch.arange(nodes), stream, edges, score_E, frozenset(far))


def complete(signals: Signals, own_B: torch.Tensor) -> tuple[torch.Tensor, Batch]:
    """Return the batch whose own rows are these."""
    assert signals.stream.held is not None
    return signals._complete(
        own_B, {name: rows[own_B] for name, rows in signals.stream.held.items()}
    )


@given(EDGES, ROWS, st.integers(1, 6))
def test_neighbours_are_real_distinct_and_as_many_as_asked_or_there(
    pairs: list[tuple[int, int]], rows: list[int], most: int
) -> None:
    edges = edges_of(pairs)
    source_P, target_P, edge_P = sample_neighbours(edges, torch.tensor(rows), most)
    drawn = list(zip(source_P.tolist(), target_P.tolist(), strict=True))
    assert edges.column_E[edge_P].tolist() == source_P.tolist()
    assert edges.row_E[edge_P].tolist() == torch.tensor(rows)[target_P].tolist()
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
    source_P, _, _ = sample_neighbours(edges, torch.zeros(draws, dtype=torch.int64), 3)
    counts = source_P.bincount(minlength=11)[1:11]
    assert counts.sum() == 3 * draws
    # Five deviations of a binomial with p = 0.3.
    assert (counts - 0.3 * draws).abs().max() < 5 * (draws * 0.3 * 0.7) ** 0.5


def test_pairs_of_one_draw_are_independent_of_their_order_in_the_row() -> None:
    torch.manual_seed(0)
    edges = edges_of([(u, 0) for u in range(1, 4)])
    source_P, target_P, _ = sample_neighbours(edges, torch.zeros(6000, dtype=torch.int64), 2)
    drawn = torch.zeros(6000, 4, dtype=torch.bool)
    drawn[target_P, source_P] = True
    left_out = (~drawn[:, 1:]).float().mean(0)
    assert (left_out - 1 / 3).abs().max() < 5 * (2 / 9 / 6000) ** 0.5


@given(EDGES, ROWS)
def test_a_batch_is_its_rows_then_their_neighbours_and_pairs_point_into_it(
    pairs: list[tuple[int, int]], rows: list[int]
) -> None:
    own_B = torch.tensor(rows)
    edges = edges_of(pairs)
    rows_B, batch = complete(signals_of(edges), own_B)
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
    assert [layer.dtype for layer in batch.pre_layers] == [torch.float32] * 2
    assert batch.pre_layers[1].flatten().tolist() == [-2 * row for row in rows_B.tolist()]
    assert batch.logits_BC.dtype == batch.layers[0].dtype == torch.float32
    assert batch.codes_BL.tolist() == [[row, row + 1] for row in rows_B.tolist()]
    assert torch.equal(batch.reliability_B, rows_B / NODES)
    assert batch.cluster_B.tolist() == [row + 40_000 for row in rows_B.tolist()]
    scored = batch.score_P.long()
    assert edges.column_E[scored].tolist() == sources
    assert edges.row_E[scored].tolist() == targets


def test_without_edges_a_batch_is_its_rows_and_has_no_pairs() -> None:
    rows_B, batch = complete(signals_of(None), torch.tensor([3, 1]))
    assert rows_B.tolist() == [3, 1]
    assert len(batch.source_P) == len(batch.target_P) == 0


def test_only_the_first_rows_of_a_batch_get_neighbours() -> None:
    nodes = 2 * ANCHORS
    ring = torch.arange(nodes)
    edges = from_pairs(ring, (ring + 1) % nodes, nodes)
    rows_B, batch = complete(signals_of(edges, nodes), torch.randperm(nodes))
    assert sorted(batch.target_P.tolist()) == list(range(ANCHORS))
    assert len(rows_B) == nodes


def test_a_head_has_the_first_rows_and_no_pairs() -> None:
    _, batch = complete(signals_of(edges_of([(0, 1), (2, 1)])), torch.tensor([1]))
    head = batch.head(1)
    assert head.labels_B.tolist() == [1]
    assert [layer.tolist() for layer in head.layers] == [[[1.0]], [[-1.0]]]
    assert [layer.tolist() for layer in head.pre_layers] == [[[2.0]], [[-2.0]]]
    assert head.codes_BL.tolist() == [[1, 2]]
    assert head.cluster_B.tolist() == [40_001]
    assert head.reliability_B.tolist() == batch.reliability_B[:1].tolist()
    assert len(head.source_P) == len(head.target_P) == len(head.score_P) == 0


def test_neighbours_have_only_what_edge_losses_need() -> None:
    signals = signals_of(edges_of([(0, 1), (2, 1)]), far=(RELIABILITY,))
    rows_B, batch = complete(signals, torch.tensor([1, 5]))
    assert rows_B.tolist() == [1, 5, 0, 2]
    assert batch.labels_B.tolist() == [1, 5, 0, 2]
    assert torch.equal(batch.reliability_B, rows_B / NODES)
    assert batch.logits_BC.flatten().tolist() == [1, 5]
    assert [len(layer) for layer in batch.layers] == [2, 2]


def test_an_epoch_counts_own_rows_and_has_each_once() -> None:
    edges = edges_of([(u, v) for u in range(NODES) for v in range(NODES) if (u + v) % 3 == 0])
    own_rows = []
    for own, rows_B, batch in signals_of(edges).batches(4):
        assert len(batch.labels_B) == len(rows_B) >= own
        own_rows += rows_B[:own].tolist()
    assert sorted(own_rows) == list(range(NODES))
