"""Sparse rows against dense matrices."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from g2t.graph.csr import Csr, compact, from_pairs, from_scipy, take_rows

DENSE = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.5, 0.125]),
)
PAIRS = st.integers(1, 12).flatmap(
    lambda nodes: st.tuples(
        st.just(nodes),
        st.lists(st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1)), max_size=40),
    )
)


@given(DENSE)
def test_a_dense_matrix_survives_the_round_trip(dense: np.ndarray) -> None:
    matrix = from_scipy(sp.csr_matrix(dense))
    assert matrix.shape == dense.shape
    assert np.array_equal(matrix.dense().numpy(), dense)
    assert np.array_equal(matrix.scipy().toarray(), dense)


@given(DENSE, st.data())
def test_rows_are_taken_in_the_order_of_the_index(dense: np.ndarray, data: st.DataObject) -> None:
    index = torch.tensor(
        data.draw(st.lists(st.integers(0, len(dense) - 1), min_size=1, max_size=9))
    )
    matrix = from_scipy(sp.csr_matrix(dense))
    expected = torch.from_numpy(dense)[index]
    assert torch.equal(matrix.rows(index).dense(), expected)
    taken = take_rows(torch.from_numpy(dense), index)
    assert isinstance(taken, torch.Tensor)
    assert torch.equal(taken, expected)


@given(DENSE)
def test_project_norms_and_scaled_equal_dense_arithmetic(dense: np.ndarray) -> None:
    matrix, full = from_scipy(sp.csr_matrix(dense)), torch.from_numpy(dense)
    weight = torch.linspace(-1, 1, dense.shape[1] * 3).view(-1, 3)
    factor = torch.arange(1.0, len(dense) + 1)
    torch.testing.assert_close(matrix.project(weight), full @ weight)
    across = weight.t().contiguous().t()  # the same numbers, by another way
    torch.testing.assert_close(matrix.project(across), full @ weight)
    torch.testing.assert_close(matrix.norms(), full.norm(dim=1))
    torch.testing.assert_close(matrix.scaled(factor).dense(), full * factor[:, None])


@given(DENSE)
def test_a_projection_is_differentiable_in_its_weights(dense: np.ndarray) -> None:
    matrix, full = from_scipy(sp.csr_matrix(dense)), torch.from_numpy(dense)
    weight = torch.linspace(-1, 1, dense.shape[1] * 2).view(-1, 2).requires_grad_()
    pull = torch.linspace(1, 2, len(dense) * 2).view(-1, 2)
    torch.autograd.backward(matrix.project(weight), pull)
    torch.testing.assert_close(weight.grad, full.t() @ pull)


def test_no_rows_have_a_projection() -> None:
    matrix = from_scipy(sp.csr_matrix((0, 3), dtype=np.float32))
    assert matrix.project(torch.ones(3, 2)).shape == (0, 2)


def test_a_projection_is_in_float32_whatever_surrounds_it() -> None:
    matrix = from_scipy(sp.csr_matrix(np.eye(3, 4, dtype=np.float32)))
    weight = torch.full((4, 2), 1 + 2.0**-12)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(matrix.project(weight), weight[:3])


@settings(max_examples=200)
@given(PAIRS)
def test_from_pairs_lists_the_in_neighbours_once_and_sorted(
    drawn: tuple[int, list[tuple[int, int]]],
) -> None:
    nodes, pairs = drawn
    ends = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
    edges = from_pairs(ends[:, 0], ends[:, 1], nodes)
    expected = [sorted({u for u, v in pairs if v == node}) for node in range(nodes)]
    rows = torch.tensor_split(edges.column_E, edges.start_N[1:-1])
    assert [row.tolist() for row in rows] == expected
    assert edges.start_N.dtype == torch.int64
    assert edges.column_E.dtype == torch.int32


def test_ones_are_not_stored_and_other_values_are() -> None:
    assert from_scipy(sp.csr_matrix(np.eye(3))).value_E is None
    assert from_scipy(sp.csr_matrix(2 * np.eye(3))).value_E is not None


def test_duplicate_entries_are_summed() -> None:
    matrix = from_scipy(sp.coo_matrix(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 3)))
    assert matrix.dense().tolist() == [[0, 3, 0], [0, 0, 0]]


@pytest.mark.parametrize(("filled", "sparse"), [(1, True), (2, False)])
def test_compact_is_sparse_up_to_a_quarter(filled: int, sparse: bool) -> None:
    dense = torch.zeros(2, 2)
    dense.view(-1)[:filled] = 1
    assert isinstance(compact(dense), Csr) is sparse
