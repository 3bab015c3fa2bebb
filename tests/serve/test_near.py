"""A neighbourhood that is read for a few nodes says of them what the whole graph says."""

from typing import Any

import pytest
import torch
from torch import Tensor

from g2t import ServedStudent, load_student
from g2t.graph.csr import Csr, Features, compact, from_pairs
from g2t.graph.structure import count_self_loops, project_dense, propagation
from g2t.serve.near import NARROW, NARROW_SPARSE, Near, Surroundings
from tests.serve.conftest import Make

NODES, WIDTH, HUB, ALONE = 90, 4, 11, 89

#: What is asked for at once: one node, as many as are narrow, one more, and one without an edge.
ASKED = [[7], [ALONE], list(range(NARROW_SPARSE)), list(range(NARROW)), list(range(NARROW + 1))]


def edges() -> Csr:
    """A directed ring with a hub and self-loops, and a node without any edge."""
    ring = torch.arange(ALONE)
    loops = torch.tensor([0, 7, 8, 40])
    source_E = torch.cat([ring, ring[:30], loops])
    target_E = torch.cat([ring.roll(1), torch.full((30,), HUB), loops])
    return from_pairs(source_E, target_E, NODES)


def features(kind: str) -> Features:
    rows = torch.randn(NODES, WIDTH, generator=torch.Generator().manual_seed(1))
    return rows if kind == "dense" else compact(rows * (torch.arange(WIDTH) == 1))


def said(near: Near, student: ServedStudent, hops: int) -> Tensor:
    place_B = torch.arange(near.count)
    parts = student.answers_near(near, place_B, torch.full_like(place_B, hops))
    return torch.cat([part.logits_NC for part in parts])


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize(
    "model", [{}, {"high_pass": True}, {"neighbours": 2, "neighbour_hops": 1}], ids=str
)
def test_answers_are_those_of_the_whole_graph(make: Make, kind: str, model: dict[str, Any]) -> None:
    student = load_student(make("hop", kind=kind, hops=2, **model))
    surroundings = Surroundings(features(kind), edges())
    for hops in range(3):
        whole = student.predict(features(kind), edges(), hops=hops).logits_NC
        for nodes in ASKED:
            index_B = torch.tensor(nodes)
            found = said(surroundings.near(index_B, hops), student, hops)
            torch.testing.assert_close(found, whole[index_B], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_rows_of_the_operator_and_tokens_are_those_of_the_whole(kind: str) -> None:
    whole = propagation(edges())
    surroundings = Surroundings(features(kind), edges())
    wanted = project_dense(features(kind), whole, 3)
    for nodes in ASKED:
        node_R = surroundings.around.ball(torch.tensor(nodes), 3).node_R
        near = surroundings.near(torch.tensor(nodes), 3)
        torch.testing.assert_close(near.tokens(3), wanted[nodes])
        rows, dense = near.operator().matrix.to_dense(), whole.matrix.to_dense()
        inside = near.edges.counts_N > 0
        torch.testing.assert_close(rows[inside], dense[node_R][:, node_R][inside])


def test_no_more_is_read_than_is_near() -> None:
    surroundings = Surroundings(features("dense"), edges())

    def read(node: int, hops: int) -> int:
        return len(surroundings.near(torch.tensor([node]), hops).features)

    assert [read(50, hops) for hops in range(4)] == [1, 2, 3, 4]
    assert read(ALONE, 3) == 1
    assert read(HUB, 1) == 30


def test_self_loops_are_counted() -> None:
    assert count_self_loops(edges()).nonzero().flatten().tolist() == [0, 7, 8, HUB, 40]
