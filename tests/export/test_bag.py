"""Weighted sums over edges against the same in float64, in both types, for rows of any length."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from g2t.export import bag
from g2t.export.bag import PIECES, make_bag

NODES, WIDTH = 60, 3
PIECE, SHORT = PIECES[torch.float16], PIECES[torch.float32]

#: Lengths of rows: none, few, and around what a piece holds.
LENGTHS = [0, 1, 2, 5, 17, SHORT, SHORT + 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 10_000]


def starts(counts: list[int]) -> Tensor:
    return torch.nn.functional.pad(torch.tensor(counts).cumsum(0), (1, 0))


def sums(start: Tensor, column: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """Σ weight · table in float64."""
    row = torch.repeat_interleave(start.diff())
    messages = weight.double()[:, None] * table.double()[column.long()]
    found = torch.zeros(len(start) - 1, table.shape[1], dtype=torch.float64)
    return found.index_add_(0, row, messages)


def subnormal(start: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """What fp16 may lose of a row below 6e-5, where its steps no longer shrink with the value.

    Weights are kept as shares of one half, sums as such shares too: each is off by half a step,
    2^-25, and all is scaled by less than four times the row's total weight.
    """
    total = sums(start, torch.zeros(len(weight), dtype=torch.int32), weight, torch.ones(1, 1))
    pieces = (start.diff()[:, None] / PIECE).ceil()
    edges = start.diff()[:, None].clamp(max=PIECE)
    return 4 * total * pieces * 2.0**-25 * (1 + edges * float(table.abs().max()))


def drawn(kind: str, edges: int, row: Tensor, rows: int) -> Tensor | None:
    """Weights: none, any, or a softmax in which a few edges of a row have all."""
    if kind == "none":
        return None
    weight = torch.rand(edges)
    if kind == "skewed":
        weight = (weight * 40 - 40).exp()
        weight /= torch.zeros(rows).index_add_(0, row, weight)[row]
    return weight


@settings(max_examples=60)
@given(
    counts=st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=6),
    kind=st.sampled_from(["none", "any", "skewed"]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    size=st.sampled_from([1e-2, 1.0, 100.0]),
    fused=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_sums_are_those_of_the_matrix_product(
    counts: list[int], kind: str, dtype: torch.dtype, size: float, fused: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    start, edges = starts(counts), sum(counts)
    column = torch.randint(0, NODES, (edges,), dtype=torch.int32)
    table = (torch.randn(NODES, WIDTH) * size).to(dtype)
    weight = drawn(kind, edges, torch.repeat_interleave(start.diff()), len(counts))
    with pytest.MonkeyPatch.context() as patch:
        if not fused:  # as on a machine whose fused sum adds up in fp16
            patch.setattr(bag, "adds_in_float32", lambda dtype: False)
        found = make_bag(start, column, dtype, weight).pool(table)
    assert (found.dtype, tuple(found.shape)) == (torch.float32, (len(counts), WIDTH))
    given_weight = torch.ones(edges) if weight is None else weight
    wanted = sums(start, column, given_weight, table)
    magnitude = sums(start, column, given_weight, table.abs())
    most = 1e-5 * magnitude
    if dtype == torch.float16:
        most = 1e-3 * magnitude + subnormal(start, given_weight, table)
    assert bool(((found.double() - wanted).abs() <= most).all())
    empty = torch.tensor(counts) == 0
    assert bool((found[empty] == 0).all())


@pytest.mark.parametrize("count", [1, 3, PIECE - 1, PIECE, PIECE + 1, 10_000])
@pytest.mark.parametrize("value", [6e4, -6e4, 65504.0])
def test_sums_beyond_the_range_of_fp16_are_finite_and_right(count: int, value: float) -> None:
    column, start = torch.zeros(count, dtype=torch.int32), starts([count])
    table = torch.full((1, 1), value).half()
    found = make_bag(start, column, torch.float16).pool(table)
    assert float(found) == pytest.approx(count * float(table), rel=5e-4)


def test_no_weights_lift_a_message_over_the_range() -> None:
    """Weights that sum to 1 may be rounded up, all of them; the largest message must not leave."""
    torch.manual_seed(0)
    counts = torch.randint(1, 9, (3000,))
    start, edges = starts(counts.tolist()), int(counts.sum())
    row = torch.repeat_interleave(counts)
    weight = torch.rand(edges)
    weight /= torch.zeros(3000).index_add_(0, row, weight)[row]
    table = torch.full((1, 1), 65504.0).half()
    found = make_bag(start, torch.zeros(edges).int(), torch.float16, weight).pool(table)
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found, torch.full((3000, 1), 65504.0), rtol=1e-3, atol=0)


def test_like_messages_to_a_hub_do_not_lose_digits() -> None:
    """A single running sum in float32 would: it rounds the same way every time."""
    count = 200_000
    column, start = torch.zeros(count, dtype=torch.int32), starts([count])
    table = torch.full((1, 1), 4.3)
    naive = torch.zeros(1).index_add_(0, column, table.expand(count, 1)[:, 0])
    assert abs(float(naive) / (count * float(table)) - 1) > 1e-5
    assert float(make_bag(start, column, torch.float32).pool(table)) == pytest.approx(
        count * float(table), rel=4e-6
    )


def test_an_attention_that_sees_one_neighbour_among_many() -> None:
    weight = torch.full((10_000,), 1e-30)
    weight[7777] = 1 - weight.sum() + weight[0]
    weight[:3] = 0
    table = torch.arange(10_000.0)[:, None].half()
    column = torch.arange(10_000).int()
    for dtype in (torch.float32, torch.float16):
        found = make_bag(starts([10_000]), column, dtype, weight).pool(table.to(dtype))
        assert float(found) == pytest.approx(float(table[7777]), rel=1e-3)


def test_a_hub_that_half_listens_to_one_neighbour_hears_the_others() -> None:
    """Their weights, 400,000 times smaller, would be subnormal beside it, and 2 % off."""
    count = 200_000
    weight = torch.full((count,), 0.5 / (count - 1))
    weight[777] = 0.5
    column = (torch.arange(count) == 777).int()
    table = torch.tensor([[1.0], [0.0]]).half()
    found = make_bag(starts([count]), column, torch.float16, weight).pool(table)
    assert float(found) == pytest.approx(0.5, rel=1e-3)


def test_rows_whose_weights_are_all_zero_are_zero() -> None:
    made = make_bag(starts([2, 3]), torch.arange(5).int(), torch.float16, torch.zeros(5))
    assert made.pool(torch.ones(5, 2).half()).tolist() == [[0, 0], [0, 0]]


def test_a_bag_without_edges_pools_to_zeros() -> None:
    for dtype in (torch.float32, torch.float16):
        made = make_bag(starts([0, 0, 0]), torch.empty(0).int(), dtype)
        assert torch.equal(made.pool(torch.ones(4, 2, dtype=dtype)), torch.zeros(3, 2))


def test_pieces_are_used_only_where_rows_are_long() -> None:
    """What a bag holds must not grow where there is no hub."""
    for dtype, most in PIECES.items():
        column = torch.zeros(2 * most).int()
        assert make_bag(starts([most, most]), column, dtype).row_P is None
        long = make_bag(starts([2 * most - 1, 1]), column, dtype)
        assert long.row_P is not None
        assert long.row_P.tolist() == [0, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_machine_without_the_fused_sum_gets_the_same(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    start = starts([3, 0, 5000])
    column = torch.randint(0, NODES, (5003,), dtype=torch.int32)
    table = torch.randn(NODES, WIDTH).to(dtype)
    made = make_bag(start, column, dtype, torch.rand(5003))
    fused = made.pool(table)
    monkeypatch.setattr("g2t.export.bag.adds_in_float32", lambda dtype: False)
    slow = made.pool(table)
    assert (slow - fused).abs().max() < (
        1e-5 if dtype == torch.float32 else 1e-3
    ) * fused.abs().max()
    assert not torch.equal(slow, fused) or dtype == torch.float32  # another way to the number
