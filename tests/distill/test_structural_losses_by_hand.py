"""Edge losses, macro losses and alignment beyond the first ones, against numbers by hand."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.distill.losses.align import Align, AlignSettings
from g2t.distill.losses.base import Batch, LossSettings, Sizes
from g2t.distill.losses.cluster import Cluster
from g2t.distill.losses.contrast import Contrast, ContrastSettings
from g2t.distill.losses.edge_high import EdgeHigh, EdgeHighSettings
from g2t.distill.losses.edge_low import EdgeLow
from g2t.distill.losses.hardness_edge import HardnessEdge, HardnessEdgeSettings
from g2t.student.base import Output, Reading, Student

Rows = Sequence[Sequence[float]]
PLAIN, SIZES = LossSettings(), Sizes((), ())
LN2, LN3 = math.log(2), math.log(3)


def rows(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def student(logits: Rows = ((0.0, 0.0),), *blocks: Rows) -> Output:
    return Output(rows(logits), tuple(rows(block) for block in blocks))


def known(
    logits: Rows = ((),),
    layers: Sequence[Rows] = (),
    pairs: Sequence[tuple[int, int]] = (),
    clusters: Sequence[int] = (),
) -> Batch:
    source_P, target_P = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    none = torch.empty(0)
    every = tuple(rows(layer) for layer in layers)
    cluster_B = torch.tensor(clusters, dtype=torch.int64)
    return Batch(none, rows(logits), every, none, none, source_P, target_P, none, cluster_B)


def identity(loss: torch.nn.Module) -> Any:
    """Return a loss whose projectors change nothing."""
    with torch.no_grad():
        for module in loss.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.eye_(module.weight)
                torch.nn.init.zeros_(module.bias)
    return loss.double()


def log(*shares: float) -> list[float]:
    return [math.log(share) for share in shares]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_edge_high_is_the_kl_of_how_neighbours_differ(temperature: float) -> None:
    # The teacher's differ by the factors 2 and 3/2, the student's by none; then by the same two
    # the other way about, which costs nothing; and not at all, against the student's 2 and 3/2.
    even, odd = log(0.5, 0.5), log(0.25, 0.75)
    batch = known([even, odd, even, even], pairs=[(0, 1), (1, 2), (2, 3)])
    loss = EdgeHigh(EdgeHighSettings(temperature=temperature), SIZES)
    value = loss(student([even, even, odd, even]), batch)
    two, half = 2 ** (1 / temperature), 1.5 ** (1 / temperature)
    p = two / (two + half)
    to_even = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    from_even = -0.5 * math.log(2 * p) - 0.5 * math.log(2 * (1 - p))
    assert value.item() == pytest.approx((to_even + 0 + from_even) / 3)


def test_edge_high_of_several_labels_is_the_mean_of_their_own_kls() -> None:
    loss = EdgeHigh(EdgeHighSettings(), Sizes((), (), task="multilabel"))
    # The first label's yes goes from 1/2 to 3/4, its no from 1/2 to 1/4: factors of 3/2 and 2.
    value = loss(student([[0, 1], [0, 1]]), known([[LN3, 2], [0, 2]], pairs=[(1, 0)]))
    kl = 3 / 7 * math.log(6 / 7) + 4 / 7 * math.log(8 / 7)
    assert value.item() == pytest.approx(kl / 2)


def shannon(*shares: float) -> float:
    return -sum(share * math.log(share) for share in shares)


@pytest.mark.parametrize(("alpha", "temperature"), [(1.0, 1.0), (3.0, 1.0), (1.0, 0.5)])
def test_hardness_edge_weighs_sure_neighbours_of_hard_nodes(
    alpha: float, temperature: float
) -> None:
    p, q = ((0.5, 0.5), (0.9, 0.1)), ((0.6, 0.4), (0.9, 0.1))
    batch = known([log(*row) for row in p], pairs=[(1, 0)])
    settings = HardnessEdgeSettings(alpha=alpha, temperature=temperature)
    output = student([log(*row) for row in q])
    output.logits_BC.requires_grad_()
    value = HardnessEdge(settings, SIZES)(output, batch)
    cosine = 0.5 / (math.sqrt(0.5) * math.hypot(0.9, 0.1))
    hardness = math.sqrt(shannon(*p[0]) * shannon(*q[0]))
    weight = 1 - math.exp(-alpha * cosine * hardness / shannon(*p[1]))

    def soften(shares: Sequence[float]) -> list[float]:
        powers = [share ** (1 / temperature) for share in shares]
        return [power / sum(powers) for power in powers]

    ours = soften(q[0])
    own, far = (
        sum(a * math.log(a / b) for a, b in zip(soften(row), ours, strict=True)) for row in p
    )
    assert value.item() == pytest.approx((own + weight * far) / (1 + weight))
    value.backward()
    # The weight is a number: of ∂/∂z only the softmax remains.
    slope = [
        (o - a + weight * (o - b)) / (1 + weight) / temperature
        for o, a, b in zip(ours, soften(p[0]), soften(p[1]), strict=True)
    ]
    assert output.logits_BC.grad is not None
    assert output.logits_BC.grad[0].tolist() == pytest.approx(slope)


def test_hardness_edge_of_a_large_alpha_is_edge_low() -> None:
    draw = torch.Generator().manual_seed(0)
    z, t = (torch.randn(5, 3, generator=draw, dtype=torch.float64).tolist() for _ in range(2))
    batch = known(t, pairs=[(1, 0), (2, 0), (0, 3), (4, 4)])
    value = HardnessEdge(HardnessEdgeSettings(alpha=1e6), SIZES)(student(z), batch)
    assert value.item() == pytest.approx(EdgeLow(PLAIN, SIZES)(student(z), batch).item())


def test_contrast_asks_which_row_is_ones_own() -> None:
    # Standardised columns are (-1, 1) and (-1, 1): rows (-1, -1) and (1, 1).
    loss = identity(Contrast(ContrastSettings(temperature=0.5), Sizes((9, 2), (9, 2))))
    batch = known(layers=[[[0], [0]], [[3, 5], [4, 9]]])
    value = loss(student([[0.0]], [[0], [0]], [[-2, -2], [3, 0]]), batch)
    first = math.log(1 + math.exp(-4))  # cosines 1 and -1, over τ
    second = math.log(1 + math.exp(-2 * math.sqrt(2)))  # cosines 1/√2 and -1/√2
    assert value.item() == pytest.approx((first + second) / 2)
    assert loss(student([[0.0]], [[0]], [[1, 2]]), known(layers=[[[0]], [[3, 5]]])).item() == 0


def test_cluster_is_half_the_squared_difference_of_pooled_cosines() -> None:
    # Means: student (1, 0), (0, 1), (1, 0); teacher (1, 1), (0, 2), (0, 3).
    ours = [[2, 0], [0, 1], [0, 0], [5, 0]]
    theirs = [[2, 0], [0, 2], [0, 2], [0, 3]]
    batch = known(layers=[[[9]] * 4, theirs], clusters=[7, 2, 7, 4])
    value = Cluster(PLAIN, SIZES)(student([[0.0]], [[1]] * 4, ours), batch)
    # Pairs (7, 2), (7, 4), (2, 4): student 0, 1, 0, teacher 1/√2, 1/√2, 1; each stands twice in 9.
    root = 1 / math.sqrt(2)
    assert value.item() == pytest.approx((root**2 + (1 - root) ** 2 + 1) * 2 / 9 / 2)


def test_two_clusters_have_no_arrangement() -> None:
    batch = known(layers=[[[1, 0], [0, 1], [3, 3]]], clusters=[1, 5, 1])
    assert Cluster(PLAIN, SIZES)(student([[0.0]] * 3, [[1], [2], [-3]]), batch).item() == 0


def align(sizes: Sizes, **values: Any) -> Any:
    return identity(Align(AlignSettings(**values), sizes))


#: Standardised, both columns are (-1, 1).
LAYER: Rows = [[1, 4], [3, 6]]


@pytest.mark.parametrize(
    ("distance", "wanted"),
    [
        ("cosine", 1 - (1 / math.sqrt(2) + 1) / 2),
        ("mse", (0 + 1 + 1 + 1) / 4),  # (-1, 0) and (2, 2) from (-1, -1) and (1, 1)
        ("cka", 0.0),  # two points differ in one direction only
        (
            "contrast",
            (math.log(1 + math.exp(-math.sqrt(2) / 0.075)) + math.log(1 + math.exp(-2 / 0.075)))
            / 2,
        ),
    ],
)
def test_align_takes_its_distance_to_standardised_columns(distance: str, wanted: float) -> None:
    loss = align(Sizes((2,), (2,)), distance=distance)
    value = loss(student([[0.0]], [[-1, 0], [2, 2]]), known(layers=[LAYER]))
    assert value.item() == pytest.approx(wanted, abs=1e-12)
    assert bool(list(loss.parameters())) == (distance != "cka")


def test_attention_is_a_softmax_over_layers_for_every_block() -> None:
    sizes = Sizes((2, 2), (2, 2))
    loss = align(sizes, map="attention", distance="mse")
    with torch.no_grad():
        loss.attention.copy_(rows([[0, LN3], [0, 0]]))
    ours = [[[-1, -1], [1, 1]], [[0, 0], [0, 0]]]
    # Block 1 is layer 1; layer 2 is its mirror, at a distance of 4. Block 2 is at 1 from both.
    batch = known(layers=[LAYER, [[3, 6], [1, 4]]])
    value = loss(student([[0.0]], *ours), batch)
    assert value.item() == pytest.approx((0.75 * 4 + 1) / 2)
    value.backward()
    # The softmax moves to the layer that is nearer, and has nothing to choose for block 2.
    assert loss.attention.grad[0].tolist() == pytest.approx([-0.25 * 3 / 2, 0.75 * 1 / 2])
    assert loss.attention.grad[1].tolist() == pytest.approx([0, 0])
    assert len(loss.projectors) == 4


def answer(states: Any, hops: Sequence[int] | None) -> Output:
    """Return tokens after the last block, of a student with so many hops at hand."""
    state_BTD = rows(states)
    hops_B = None if hops is None else torch.tensor(hops)
    reading = Reading(Student(), state_BTD, hops_B)
    blocks = (state_BTD[:, 0] * 0, state_BTD[:, 0])
    return Output(state_BTD[:, 0], blocks, (state_BTD * 0, state_BTD), reading)


def test_hop_compares_token_k_with_layer_k_where_it_was_at_hand() -> None:
    sizes = Sizes((1, 1), (1, 1), hops=3)
    # Layers are (-1, 1, -1, 1) and (1, -1, 1, -1); tokens 2 and 3 both meet the second.
    batch = known(layers=[[[0], [2], [0], [2]], [[5], [1], [5], [1]]])
    states = [
        [[9], [-1], [2], [9]],
        [[9], [3], [9], [9]],
        [[9], [9], [9], [9]],
        [[9], [1], [-1], [-4]],
    ]
    loss = align(sizes, map="hop", distance="mse")
    value = loss(answer(states, [2, 1, 0, 3]), batch)
    # Token 1 of rows 0, 1, 3: 0, 4, 0. Token 2 of rows 0 and 3: 1, 0. Token 3 of row 3: 9.
    assert value.item() == pytest.approx((4 / 3 + 1 / 2 + 9) / 3)
    every = loss(answer(states, None), batch).item()
    token_1 = (0 + 4 + 100 + 0) / 4
    token_2 = (1 + 100 + 64 + 0) / 4
    token_3 = (64 + 100 + 64 + 9) / 4
    assert every == pytest.approx((token_1 + token_2 + token_3) / 3)


def test_token_zero_meets_the_last_layer_in_rows_that_were_read_without_a_hop() -> None:
    sizes = Sizes((1, 1), (1, 1), hops=1)
    batch = known(layers=[[[5], [0], [5], [9]], [[0], [2], [0], [2]]])
    states = [[[3], [9]], [[-1], [9]], [[7], [0]], [[7], [1]]]
    # Layer 1, standardised, is of no account: all of it that is read is at rows 2 and 3.
    loss = align(sizes, map="hop", distance="mse", token_zero=True)
    alone = loss(answer(states, [0, 0, 0, 0]), batch)
    assert alone.item() == pytest.approx((16 + 4 + 64 + 36) / 4)
    both = loss(answer(states, [0, 0, 1, 1]), batch)
    first = loss.distance(rows([[0], [1]]), _standard([5, 0, 5, 9])[2:])
    assert both.item() == pytest.approx(((16 + 4) / 2 + first.item()) / 2)


def _standard(column: Sequence[float]) -> Tensor:
    column_B1 = rows(column)[:, None]
    return (column_B1 - column_B1.mean()) / column_B1.std(unbiased=False)


def test_rows_without_any_hop_leave_nothing_to_align() -> None:
    loss = align(Sizes((1, 1), (1,), hops=1), map="hop")
    output = answer([[[3], [9]], [[-1], [9]]], [0, 0])
    assert loss(output, known(layers=[[[0], [2]]])).item() == 0
