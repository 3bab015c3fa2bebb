"""Losses that have the student read again, against numbers worked out by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from g2t.distill.losses.adversarial import Adversarial, AdversarialSettings
from g2t.distill.losses.base import Batch, Sizes
from g2t.distill.losses.hop_consistency import HopConsistency, HopConsistencySettings
from g2t.distill.losses.labels import Soft, SoftSettings
from g2t.distill.settings import distill_settings
from g2t.errors import UsageError
from g2t.student.base import Output, Reading, Student
from g2t.task import Task

NONE = torch.empty(0, dtype=torch.int64)


class Sum(Student):
    """Logits are the sum of the tokens at hand, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.read_in: list[bool] = []

    def forward(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        self.read_in.append(self.training)
        if hops_B is not None:
            known_BT = torch.arange(tokens_BTD.shape[1]) <= hops_B[:, None]
            tokens_BTD = tokens_BTD * known_BT[..., None]
        return Output(self.weight * tokens_BTD.sum(1), ())


def read(tokens: Any, hops: list[int] | None = None) -> Output:
    """Return the answer of `Sum` in training, with what it read."""
    tokens_BTD = torch.tensor(tokens, dtype=torch.float64, requires_grad=True)
    hops_B = None if hops is None else torch.tensor(hops)
    student = Sum().train()
    output: Output = student(tokens_BTD, hops_B)
    return Output(output.logits_BC, (), (), Reading(student, tokens_BTD, hops_B))


def said(logits: Any) -> Batch:
    teacher_BC = torch.tensor(logits, dtype=torch.float64)
    empty = torch.empty(0)
    return Batch(NONE, teacher_BC, (), empty, NONE, NONE, NONE, empty)


def binary_kl(teacher: float, student: float) -> float:
    """KL of σ(teacher) to σ(student), two classes with logits that far apart."""
    p, q = (1 / (1 + math.exp(-z)) for z in (teacher, student))
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def adversarial(task: Task = "binary", **values: Any) -> Adversarial:
    return Adversarial(AdversarialSettings(**values), Sizes((), (), task=task))


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("radius", [0.1, 0.5])
def test_adversarial_moves_the_token_as_far_as_it_may_away_from_the_teacher(
    radius: float, steps: int
) -> None:
    # The teacher is surer than the student, whose gap of 3 - 1 the worst move narrows: along
    # (-1, 1) / √2, by radius · √10, so by √2 times that.
    output, batch = read([[[3.0, 1.0]]]), said([[5.0, 0.0]])
    value = adversarial(radius=radius, steps=steps)(output, batch)
    gap = 2 - math.sqrt(2) * radius * math.sqrt(10)
    assert value.item() == pytest.approx(binary_kl(5, gap))
    assert value > binary_kl(5, 2)


def test_every_token_moves_within_its_own_ball_and_one_that_is_not_at_hand_stays() -> None:
    output, batch = read([[[3.0, 4.0], [0.0, 2.0], [9.0, 9.0]]], [1]), said([[9.0, 0.0]])
    loss, reading = adversarial(radius=0.1), output.reading
    assert reading is not None
    move_BTD = loss._worst(reading, batch)
    assert move_BTD.norm(dim=2).flatten().tolist() == pytest.approx([0.5, 0.2, 0.0])
    assert bool((move_BTD[0, :2, 0] < 0).all())
    assert bool((move_BTD[0, :2, 1] > 0).all())


def test_the_ascent_leaves_no_gradient_and_no_trace_and_the_last_reading_teaches() -> None:
    output, batch = read([[[3.0, 1.0]], [[-1.0, 2.0]]]), said([[5.0, 0.0], [0.0, 1.0]])
    reading = output.reading
    assert reading is not None
    student = reading.student
    assert isinstance(student, Sum)
    loss = adversarial()
    move_BTD = loss._worst(reading, batch)
    assert not move_BTD.requires_grad
    assert student.weight.grad is None
    assert reading.tokens_BTD.grad is None
    value = loss(output, batch)
    value.backward()
    # As if the moved tokens were given: no second-order term.
    moved_BTD = reading.tokens_BTD.detach() + move_BTD
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    ours, theirs = (weight * moved_BTD.sum(1)).log_softmax(1), batch.logits_BC.log_softmax(1)
    wanted = (theirs.exp() * (theirs - ours)).sum(1).mean()
    wanted.backward()  # type: ignore[no-untyped-call]
    assert value.item() == pytest.approx(wanted.item())
    assert student.weight.grad is not None
    assert weight.grad is not None
    assert student.weight.grad.item() == pytest.approx(weight.grad.item())
    assert reading.tokens_BTD.grad is not None
    assert student.training
    assert student.read_in == [True] * len(student.read_in)


def test_adversarial_is_finite_where_the_student_is_right_and_there_is_nowhere_to_go() -> None:
    output = read([[[2.0, 1.0]], [[0.0, 0.0]]])
    assert adversarial()(output, said(output.logits_BC.tolist())).isfinite()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_adversarial_is_worse_than_soft_and_the_more_so_the_farther_it_may_go(steps: int) -> None:
    output, batch = read([[[2.0, 1.0]], [[-1.0, 0.5]]]), said([[2.5, 0.0], [0.0, 0.5]])
    values = [Soft(SoftSettings(), Sizes((), (), task="binary"))(output, batch)]
    values += [adversarial(radius=r, steps=steps)(output, batch) for r in (0.1, 0.3)]
    assert values[0] < values[1] < values[2]


def test_adversarial_of_several_labels_is_the_mean_over_them() -> None:
    # Both labels: the teacher surer than the student; the move is along (-1, -1) / √2 of |x| = 2√2.
    output, batch = read([[[2.0, 2.0]]]), said([[4.0, 4.0]])
    value = adversarial("multilabel", radius=0.25, steps=1)(output, batch)
    assert value.item() == pytest.approx(binary_kl(4, 1.5))


def test_adversarial_has_half_the_weight_of_others_unless_told() -> None:
    settings = distill_settings({"loss": {"adversarial": {}}})
    assert settings.losses()["adversarial"].weight == 0.5


def test_hop_consistency_is_the_kl_from_all_hops_to_none_whatever_was_drawn() -> None:
    tokens = [[[1.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [5.0, 0.0]]]
    loss = HopConsistency(HopConsistencySettings(), Sizes((), ()))
    for hops in (None, [0, 1], [1, 0]):
        output = read(tokens, hops)
        value = loss(output, said([[0.0, 0.0]] * 2))
        # All hops: gaps of 3 and 2; none: 1 and -3.
        assert value.item() == pytest.approx((binary_kl(3, 1) + binary_kl(2, -3)) / 2)


def test_hop_consistency_teaches_the_reading_without_hops_alone() -> None:
    output = read([[[1.0, 0.0], [2.0, 0.0]]])
    HopConsistency(HopConsistencySettings(), Sizes((), ()))(output, said([[0.0, 0.0]])).backward()
    assert output.reading is not None
    grad = output.reading.tokens_BTD.grad
    assert grad is not None
    assert grad[0, 1].tolist() == [0, 0]
    p, q = (1 / (1 + math.exp(-z)) for z in (3, 1))
    assert grad[0, 0].tolist() == pytest.approx([q - p, p - q])


@pytest.mark.parametrize("student", ["landmark", "mlp"])
@pytest.mark.parametrize(
    ("name", "values"),
    [("hop_consistency", {}), ("align", {"map": "hop"})],
)
def test_what_reads_hops_asks_for_a_student_with_hops(
    student: str, name: str, values: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=rf"loss\.{name} .* student {student} has none") as caught:
        distill_settings({"student": student, "loss": {name: values}})
    assert caught.value.hint.startswith("choose --student hop")
    distill_settings({"student": student, "loss": {name: {**values, "weight": 0}}})
    assert name in distill_settings({"student": "hop", "loss": {name: values}}).losses()


@pytest.mark.parametrize("map_", ["depth", "attention"])
def test_token_zero_goes_with_hops(map_: str) -> None:
    with pytest.raises(UsageError, match="token_zero goes with map = hop"):
        distill_settings({"loss": {"align": {"map": map_, "token_zero": True}}})
