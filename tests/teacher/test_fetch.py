"""Teachers asked about a few nodes: all neighbours give the answer of the whole graph."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from g2t.config import look_up
from g2t.graph.csr import Csr, compact, from_pairs
from g2t.graph.neighbourhood import Around, head
from g2t.teacher import TEACHERS
from g2t.teacher.fetch import Drawn, Fetch, Full, Service
from g2t.teacher.frame import Structure, structure_of

CPU = torch.device("cpu")
NODES, LONE, HUB = 40, 39, 0

#: What a teacher is built with beside three steps.
MORE: dict[str, dict[str, Any]] = {
    "gcn": {"jk": "cat", "post": True, "residual": True},
    "sage": {"norm": "layer"},
    "gin": {"jk": "max", "post": True},
    "gat": {"norm": "batch"},
    "sgc": {},
}


def edges() -> Csr:
    """A directed graph with a hub, a self-loop and a lone node."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randint(1, LONE, (2, 60), generator=generator)
    spokes = torch.arange(1, 20)
    loop = torch.tensor([5])
    return from_pairs(
        torch.cat([source, spokes, loop]), torch.cat([target, 0 * spokes, loop]), NODES
    )


def served(name: str) -> tuple[Service, Structure, torch.Tensor]:
    """Return a teacher ready to be asked, its structure, and its answers for all nodes."""
    kind = look_up(TEACHERS, name, "teacher")
    torch.manual_seed(1)
    settings = kind.Settings.model_validate({"layers": 3, **MORE.get(name, {})})
    features = torch.rand(NODES, 12)
    features[features < 0.8] = 0
    whole, rows = structure_of(edges(), CPU), compact(features)
    model = kind(12, 3, settings)
    model.observe(whole)
    model.eval()
    with torch.inference_mode():
        said = model(rows, whole).logits_NC
    return Service(model, rows, whole, CPU), whole, said


def everything(structure: Structure, reach: int) -> Fetch:
    return Drawn(structure, [-1] * reach, 0)


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("how", [Full, everything])
def test_all_neighbours_give_the_answer_of_the_whole_graph(
    name: str, how: Callable[[Structure, int], Fetch]
) -> None:
    service, whole, said = served(name)
    fetch = how(whole, service.model.reach)
    for nodes in ([7], [LONE], [HUB, LONE, 5, 3], list(range(NODES - 1, -1, -1))):
        index = torch.tensor(nodes)
        found, read = service.ask(fetch, index)
        torch.testing.assert_close(found, said[index], atol=1e-5, rtol=1e-5)
        assert len(nodes) <= read <= NODES
    assert service.ask(fetch, torch.tensor([LONE]))[1] == 1


def test_drawn_neighbours_are_fewer_and_others_each_time() -> None:
    service, whole, _ = served("gcn")
    drawn, full = Drawn(whole, [2, 2, 2], 0), Full(whole, 3)
    answers = [service.ask(drawn, torch.tensor([HUB])) for _ in range(5)]
    assert max(read for _, read in answers) <= 1 + 2 + 4 + 8
    assert service.ask(full, torch.tensor([HUB]))[1] > 20
    assert len({tuple(said.flatten().tolist()) for said, _ in answers}) > 1


def test_a_ball_is_what_so_many_hops_reach_and_nearest_first() -> None:
    """Against powers of the matrix; asked twice, as what a call leaves behind would show."""
    matrix = edges()
    dense = matrix.dense() + torch.eye(NODES)
    around = Around(matrix)
    for seeds in ([7], [HUB, LONE], [7]):
        reached = torch.eye(NODES)[seeds].sum(0)
        ball = around.ball(torch.tensor(seeds), 3)
        assert ball.node_R[: len(seeds)].tolist() == seeds
        for hops, count in enumerate(ball.counts):
            assert set(ball.node_R[:count].tolist()) == set(reached.nonzero().flatten().tolist())
            assert hops == 0 or len(ball.node_R) >= count >= ball.counts[hops - 1]
            reached = (reached @ dense > 0).float()
        square = head(ball.rows, len(ball.rows), len(ball.node_R)).dense()
        rows = ball.node_R[: len(ball.rows)]
        assert torch.equal(square[: len(rows)], matrix.dense()[rows][:, ball.node_R])
        assert not square[len(rows) :].any()
        assert torch.equal(around.rows(matrix, ball).dense(), square[: len(rows)])
