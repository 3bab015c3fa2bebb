"""Components, subgraphs and propagation, by hand and against PyG."""

import pytest
import torch
from torch import Tensor

from g2t.graph.csr import Csr, from_pairs
from g2t.graph.structure import (
    induced,
    largest_component,
    propagation,
    some_neighbours,
    without_self_loops,
)


def undirected(pairs: list[tuple[int, int]], nodes: int) -> Csr:
    ends = torch.tensor(pairs)
    return from_pairs(
        torch.cat([ends[:, 0], ends[:, 1]]), torch.cat([ends[:, 1], ends[:, 0]]), nodes
    )


def pyg_operator(edges: Csr) -> Tensor:
    from torch_geometric.nn.conv.gcn_conv import gcn_norm
    from torch_geometric.utils import remove_self_loops

    edge_index = torch.stack([edges.column_E.long(), edges.row_E])
    edge_index, weight = gcn_norm(remove_self_loops(edge_index)[0], num_nodes=len(edges))
    dense = torch.zeros(len(edges), len(edges))
    dense[edge_index[1], edge_index[0]] = weight
    return dense


def test_the_largest_component_is_weakly_connected_and_ascending() -> None:
    ends = torch.tensor([[0, 4], [2, 4], [1, 3]])
    assert largest_component(from_pairs(ends[:, 0], ends[:, 1], 6)).tolist() == [0, 2, 4]


def test_the_induced_subgraph_keeps_inner_edges_renumbered() -> None:
    edges = undirected([(0, 1), (1, 3), (3, 4), (0, 4)], 5)
    part = induced(edges, torch.tensor([1, 3, 4]))
    assert part.dense().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_self_loops_are_left_out() -> None:
    edges = from_pairs(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
    assert without_self_loops(edges).dense().tolist() == [[0, 1], [0, 0]]


def test_some_neighbours_are_all_of_few_and_evenly_some_of_many() -> None:
    hub = [(0, other) for other in range(1, 8)]
    edges = undirected([*hub, (2, 2), (2, 3)], 9)
    assert some_neighbours(edges, 3).tolist() == [
        [1, 3, 5],  # ranks 0, 7 // 3 and 14 // 3 of 1 … 7
        [0, -1, -1],
        [0, 3, -1],
        [0, 2, -1],
        *[[0, -1, -1]] * 4,
        [-1, -1, -1],
    ]
    assert some_neighbours(edges, 7)[0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    one_way = from_pairs(torch.tensor([0, 1]), torch.tensor([2, 2]), 3)
    assert some_neighbours(one_way, 2).tolist() == [[-1, -1], [-1, -1], [0, 1]]


def test_propagation_by_hand() -> None:
    # A path 0 - 1 - 2: degrees with the self-loop are 2, 3, 2.
    hop = propagation(undirected([(0, 1), (1, 2)], 3))(torch.eye(3))
    root = 6**-0.5
    expected = torch.tensor([[1 / 2, root, 0], [root, 1 / 3, root], [0, root, 1 / 2]])
    torch.testing.assert_close(hop, expected)


@pytest.mark.parametrize("directed", [False, True])
def test_propagation_equals_pygs_gcn_norm(directed: bool) -> None:
    torch.manual_seed(0)
    ends = torch.randint(0, 18, (60, 2))  # with self-loops, duplicates and isolated nodes
    pairs = [(int(u), int(v)) for u, v in ends]
    edges = from_pairs(ends[:, 0], ends[:, 1], 20) if directed else undirected(pairs, 20)
    torch.testing.assert_close(propagation(edges)(torch.eye(20)), pyg_operator(edges))


@pytest.mark.parametrize("directed", [True, False])
def test_hops_are_powers_and_carry_gradients(directed: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    source, target = torch.randint(0, 9, (2, 20), generator=draw)
    if not directed:
        source, target = torch.cat([source, target]), torch.cat([target, source])
    edges = from_pairs(source, target, 10)
    operator = propagation(edges)
    dense = operator.matrix.to_dense().double()
    features = torch.randn(10, 3, dtype=torch.float64, generator=draw).requires_grad_()
    index_B, weight_BTD = torch.tensor([7, 2, 7, 0]), torch.randn(4, 4, 3, generator=draw)
    powers = torch.stack([torch.matrix_power(dense, k) @ features for k in range(4)], 1)[index_B]
    (expected,) = torch.autograd.grad((powers * weight_BTD).sum(), features)
    single = features.detach().float().requires_grad_()
    hops = operator.hops(single, 3, index_B)
    torch.testing.assert_close(hops, powers.float())
    (found,) = torch.autograd.grad((hops * weight_BTD).sum(), single)
    torch.testing.assert_close(found, expected.float())
    assert (operator.transposed is operator.matrix) != directed
    torch.testing.assert_close(operator.transposed.to_dense(), operator.matrix.to_dense().t())
