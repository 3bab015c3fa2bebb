"""Every loss against numbers worked out by hand, and against a second route in numpy."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from g2t.distill.losses.align import Align, AlignSettings, depth_map, standardised
from g2t.distill.losses.base import Batch, LossSettings, Sizes
from g2t.distill.losses.cka import CKA
from g2t.distill.losses.codebook import Codebook
from g2t.distill.losses.distance import linear_cka
from g2t.distill.losses.edge_low import EdgeLow
from g2t.distill.losses.gram import Gram
from g2t.distill.losses.labels import Hard, Pseudo, Soft, SoftSettings
from g2t.distill.losses.lsp import LSP
from g2t.distill.losses.reliable_edge import ReliableEdge, ReliableEdgeSettings
from g2t.student.base import Output

Rows = Sequence[Sequence[float]]
PLAIN, SIZES = LossSettings(), Sizes((), ())
LN2 = math.log(2)


def rows(values: Rows) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def student(logits: Rows = ((0.0, 0.0),), *blocks: Rows) -> Output:
    return Output(rows(logits), tuple(rows(block) for block in blocks))


def known(
    labels: Sequence[int] = (),
    logits: Rows = ((),),
    layers: Sequence[Rows] = (),
    pairs: Sequence[tuple[int, int]] = (),
    scores: Sequence[float] = (),
    reliability: Sequence[float] = (),
    codes: Sequence[Sequence[int]] = ((),),
) -> Batch:
    pair_2P = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    return Batch(
        labels_B=torch.tensor(labels),
        logits_BC=rows(logits),
        layers=tuple(rows(layer) for layer in layers),
        reliability_B=torch.tensor(reliability, dtype=torch.float64),
        codes_BL=torch.tensor(codes, dtype=torch.int64),
        source_P=pair_2P[0],
        target_P=pair_2P[1],
        score_P=torch.tensor(scores, dtype=torch.float64),
    )


def log(*shares: float) -> list[float]:
    """Logits of given probabilities."""
    return [math.log(share) for share in shares]


def test_hard_is_the_mean_over_labelled_rows() -> None:
    output = student([log(0.5, 0.5), log(0.75, 0.25), log(0.9, 0.1)])
    value = Hard(PLAIN, SIZES)(output, known([0, 1, -1]))
    assert value.item() == pytest.approx((LN2 + math.log(4)) / 2)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_is_the_kl_from_teacher_to_student_times_the_squared_temperature(
    temperature: float,
) -> None:
    ours = [[temperature * x for x in log(0.75, 0.25)], log(0.5, 0.5)]
    theirs = [[temperature * x for x in log(0.5, 0.5)], log(0.5, 0.5)]
    value = Soft(SoftSettings(temperature=temperature), SIZES)(student(ours), known([], theirs))
    # Row 0: ½ ln(½ / ¾) + ½ ln(½ / ¼) = ½ ln 4/3; row 1 is 0.
    assert value.item() == pytest.approx(temperature**2 * math.log(4 / 3) / 4)


def test_pseudo_takes_the_first_choice_of_the_teacher_whatever_the_labels_say() -> None:
    output = student([log(0.5, 0.5), log(0.75, 0.25)])
    batch = known([1, 0], [[3.0, 1.0], [-1.0, 0.0]])
    assert Pseudo(PLAIN, SIZES)(output, batch).item() == pytest.approx((LN2 + math.log(4)) / 2)


def test_edge_low_means_over_pairs_and_the_own_rows_of_targets() -> None:
    ours = [log(0.75, 0.25), log(0.9, 0.1), log(0.2, 0.8)]
    theirs = [log(0.5, 0.5), log(0.25, 0.75), log(0.75, 0.25)]
    value = EdgeLow(PLAIN, SIZES)(student(ours), known([], theirs, pairs=[(1, 0), (2, 0)]))
    own = 0.5 * math.log(4 / 3)
    far = 0.25 * math.log(1 / 3) + 0.75 * math.log(3)  # teacher at 1 against student at 0
    assert value.item() == pytest.approx((own + far + 0) / 3)


def test_lsp_compares_whom_a_node_resembles() -> None:
    # Cosines to node 0: student 1 and 0, teacher 0 and 1; node 3 has one neighbour, so costs 0.
    ours = [[2, 0], [5, 0], [0, 3], [1, 1]]
    batch = known(pairs=[(1, 0), (2, 0), (0, 3)], scores=[0.0, 1.0, 0.3])
    value = LSP(PLAIN, SIZES)(student([[0.0]], ours), batch)
    assert value.item() == pytest.approx(math.tanh(0.5) / 2)


@pytest.mark.parametrize(("power", "second"), [(1.0, 0.75), (2.0, 0.9375), (0.5, 0.5)])
def test_reliable_edge_weights_neighbours_by_what_noise_leaves_of_them(
    power: float, second: float
) -> None:
    ours = [log(0.75, 0.25), log(0.9, 0.1), log(0.2, 0.8)]
    theirs = [log(0.5, 0.5), log(0.25, 0.75), log(0.75, 0.25)]
    # Of the neighbours of node 0, noise turns the first most and the second a quarter of that.
    batch = known([], theirs, pairs=[(1, 0), (2, 0)], reliability=[0.9, 1.0, 0.25])
    value = ReliableEdge(ReliableEdgeSettings(power=power), SIZES)(student(ours), batch)
    # The teacher at 2 says what the student at 0 says, so only the own row is left to differ.
    assert value.item() == pytest.approx(0.5 * math.log(4 / 3) / (1 + 0 + second))


def test_reliable_edge_divides_logits_by_the_temperature() -> None:
    ours, theirs = [log(0.75, 0.25)] * 2, [log(0.5, 0.5)] * 2
    batch = known([], theirs, pairs=[(1, 0)], reliability=[0, 0])
    value = ReliableEdge(ReliableEdgeSettings(temperature=0.5), SIZES)(student(ours), batch)
    # At half the temperature 3 : 1 becomes 9 : 1.
    assert value.item() == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))


def test_reliable_edge_without_noise_is_edge_low() -> None:
    draw = torch.Generator().manual_seed(0)
    z, t = (torch.randn(5, 3, generator=draw, dtype=torch.float64).tolist() for _ in range(2))
    batch = known([], t, pairs=[(1, 0), (2, 0), (0, 3), (4, 4)], reliability=[0.0] * 5)
    value = ReliableEdge(ReliableEdgeSettings(), SIZES)(student(z), batch)
    assert value.item() == pytest.approx(EdgeLow(PLAIN, SIZES)(student(z), batch).item())


def test_codebook_is_the_cross_entropy_of_each_block_with_the_code_at_its_depth() -> None:
    loss = Codebook(PLAIN, Sizes((2, 1), (), (2, 3, 4))).double()
    assert len(loss.heads) == 2  # blocks 1 and 2 of 2 are at the depth of layers 2 and 3 of 3
    weights = rows([[1, 0], [0, 1], [0, 0]]), rows([[1], [0], [0], [0]])
    state = {f"heads.{i}.weight": weight for i, weight in enumerate(weights)}
    state |= {f"heads.{i}.bias": weight[:, 0] * 0 for i, weight in enumerate(weights)}
    loss.load_state_dict(state)
    batch = known(codes=[[0, 1, 0], [1, 2, 3]])
    value = loss(student([[0.0]], [[0, LN2], [LN2, 0]], [[0], [math.log(3)]]), batch)
    # Block 1: shares 1 : 2 : 1 and 2 : 1 : 1; block 2: 1 : 1 : 1 : 1 and 3 : 1 : 1 : 1.
    first, second = (LN2 + math.log(4)) / 2, (math.log(4) + math.log(6)) / 2
    assert value.item() == pytest.approx((first + second) / 2)


def test_gram_is_the_mean_squared_difference_of_cosines() -> None:
    batch = known(layers=[[[1, 1, 0], [2, 2, 0]]])
    value = Gram(PLAIN, SIZES)(student([[0.0]], [[1, 0], [0, 7]]), batch)
    assert value.item() == pytest.approx(0.5)  # 0, 1, 1, 0


def test_cka_of_single_columns_is_one_minus_the_squared_correlation() -> None:
    batch = known(layers=[[[11.0], [10.0], [9.0]]])
    value = CKA(PLAIN, SIZES)(student([[0.0]], [[1.0], [-1.0], [0.0]]), batch)
    assert value.item() == pytest.approx(1 - 0.5**2)


def test_align_is_one_minus_the_cosine_to_standardised_columns() -> None:
    loss = Align(AlignSettings(), Sizes((2,), (2,))).double()
    with torch.no_grad():
        weight, bias = loss.projectors.parameters()
        weight.copy_(torch.eye(2))
        bias.zero_()
    # Columns (1, 3) and (7, 7) become (-1, 1) and (0, 0).
    batch = known(layers=[[[1, 7], [3, 7]]])
    value = loss(student([[0.0]], [[-1, 1], [1, 0]]), batch)
    assert value.item() == pytest.approx(1 - (1 / math.sqrt(2) + 1) / 2)


def test_align_before_the_activation_looks_at_nothing_else() -> None:
    """ReLU makes one target of -2 and 0; before it they are as far apart as 0 and 2."""
    loss = Align(AlignSettings(activation="pre", distance="mse"), Sizes((1,), (1,))).double()
    with torch.no_grad():
        weight, bias = loss.projectors.parameters()
        weight.fill_(1)
        bias.zero_()
    raw = rows([[-2], [0], [2]])
    batch = replace(known(layers=[[[0], [0], [2]]]), pre_layers=(raw,))
    spread = math.sqrt(8 / 3)
    # Columns (-2, 0, 2) become (-1, 0, 1) · 2 / spread, which is this student.
    twin = student([[0.0]], [[-2 / spread], [0], [2 / spread]])
    assert loss(twin, batch).item() == pytest.approx(0)
    other = student([[0.0]], [[0], [0], [2 / spread]])
    assert loss(other, batch).item() == pytest.approx((2 / spread) ** 2 / 3)
    after = Align(AlignSettings(distance="mse"), Sizes((1,), (1,))).double()
    after.load_state_dict(loss.state_dict())
    assert after(twin, batch).item() > 0.1


def test_all_losses_by_a_second_route() -> None:
    random = np.random.default_rng(0)
    z, t = random.normal(size=(2, 9, 4))
    h, s = random.normal(size=(9, 3)), random.normal(size=(9, 5))
    pairs = [(u, v) for u in range(9) for v in range(9) if (u * v + u) % 4 == 1]
    output = Output(torch.from_numpy(z), (torch.from_numpy(h),))
    labels = torch.tensor([0, -1, 2, 3, -1, 1, 1, 0, -1])
    source_P, target_P = torch.tensor(pairs).t()
    unit = torch.nn.functional.normalize(torch.from_numpy(s), dim=1)
    noise, codes = random.uniform(size=9), random.integers(0, 6, size=(9, 1))
    batch = Batch(
        labels,
        torch.from_numpy(t),
        (torch.from_numpy(s),),
        torch.from_numpy(noise),
        torch.from_numpy(codes),
        source_P,
        target_P,
        (unit[source_P] * unit[target_P]).sum(1),
    )

    def soften(logits: np.ndarray) -> np.ndarray:
        weights: np.ndarray = np.exp(logits)
        shares: np.ndarray = weights / weights.sum(-1, keepdims=True)
        return shares

    def kl(p: np.ndarray, q: np.ndarray) -> float:
        return float((p * np.log(p / q)).sum(-1).mean())

    def cosines(states: np.ndarray) -> np.ndarray:
        unit = states / np.linalg.norm(states, axis=1, keepdims=True)
        product: np.ndarray = unit @ unit.T
        return product

    p, q = soften(t), soften(z)
    targets = sorted({v for _, v in pairs})
    low = [(v, v) for v in targets] + pairs
    local = [
        kl(soften(cosines(h)[near, v]), soften(cosines(s)[near, v]))
        for v in targets
        for near in [[u for u, w in pairs if w == v]]
    ]
    centre = np.eye(9) - 1 / 9
    ours, theirs = centre @ h @ h.T @ centre, centre @ s @ s.T @ centre
    cka = np.trace(ours @ theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)
    weights = np.array([1.0] * len(targets) + [1 - noise[u] for u, _ in pairs])
    sizes = Sizes((3,), (5,), (6,))
    rows_ = [i for i, label in enumerate(labels.tolist()) if label >= 0]
    expected = {
        Hard: -np.mean([math.log(q[i, int(labels[i])]) for i in rows_]),
        Pseudo: -np.mean([math.log(q[i, t[i].argmax()]) for i in range(9)]),
        EdgeLow: np.mean([kl(p[u], q[v]) for u, v in low]),
        ReliableEdge: np.average([kl(p[u], q[v]) for u, v in low], weights=weights),
        LSP: np.mean(local),
        Gram: np.square(cosines(h) - cosines(s)).mean(),
        CKA: 1 - cka,
    }
    kind: Any
    for kind, value in expected.items():
        assert kind(kind.Settings(), sizes)(output, batch).item() == pytest.approx(value), kind
    assert Soft(SoftSettings(), SIZES)(output, batch).item() == pytest.approx(kl(p, q))
    book = Codebook(PLAIN, sizes).double()
    weight, bias = (parameter.detach().numpy() for parameter in book.parameters())
    guess = soften(h @ weight.T + bias)
    wanted = -np.mean([math.log(guess[i, codes[i, 0]]) for i in range(9)])
    assert book(output, batch).item() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("blocks", "layers", "map_"),
    [
        (1, 1, (0,)),
        (1, 3, (2,)),
        (2, 1, (0, 0)),
        (2, 2, (0, 1)),
        (2, 3, (1, 2)),
        (3, 2, (0, 1, 1)),
        (2, 4, (1, 3)),
    ],
)
def test_depth_map_is_the_layer_at_the_same_relative_depth(
    blocks: int, layers: int, map_: tuple[int, ...]
) -> None:
    assert depth_map(blocks, layers) == map_


@given(st.integers(1, 20), st.integers(1, 20))
def test_depth_map_rises_and_ends_at_the_last_layer(blocks: int, layers: int) -> None:
    chosen = depth_map(blocks, layers)
    assert len(chosen) == blocks
    assert list(chosen) == sorted(chosen)
    assert chosen[0] >= 0
    assert chosen[-1] == layers - 1
    assert len(set(chosen)) == min(blocks, layers)


def test_standardised_columns_have_mean_zero_and_deviation_one_constant_ones_are_zero() -> None:
    columns = standardised(rows([[1, 5, 2], [3, 5, 2], [5, 5, 8]]))
    assert columns.mean(0).tolist() == pytest.approx([0, 0, 0])
    assert columns.std(0, unbiased=False).tolist() == pytest.approx([1, 0, 1])
    assert columns[:, 0].tolist() == pytest.approx([-math.sqrt(1.5), 0, math.sqrt(1.5)])


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-10, 10))
def test_linear_cka_is_blind_to_rotation_scale_and_shift(
    seed: int, scale: float, shift: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    ours, theirs = (torch.randn(8, w, generator=draw, dtype=torch.float64) for w in (4, 3))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.float64))[0]
    value = linear_cka(ours, theirs).item()
    assert 0 <= value <= 1 + 1e-12
    assert linear_cka(scale * ours @ turn + shift, theirs).item() == pytest.approx(value)
    assert linear_cka(theirs, ours).item() == pytest.approx(value)
    assert linear_cka(ours, scale * ours @ turn).item() == pytest.approx(1)
