"""Losses where a node has several labels: by hand, and as so many tasks of two classes."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from g2t.config import look_up
from g2t.distill.losses import LOSSES
from g2t.distill.losses.base import Batch, Loss, Sizes
from g2t.distill.losses.labels import Hard, Pseudo, Soft, SoftSettings
from g2t.student.base import Output

ROWS, LABELS, WIDTHS, CODES = 9, 4, (5, 6), (3, 7)
LN2, LN3 = math.log(2), math.log(3)
#: Losses that read logits: their settings, so that nothing is at its default.
READ: dict[str, dict[str, float]] = {
    "hard": {},
    "soft": {"temperature": 2.0},
    "pseudo": {},
    "edge_low": {},
    "reliable_edge": {"temperature": 3.0, "power": 2.0},
    "edge_high": {"temperature": 2.0},
}
#: Those that are no mean over labels: weights look at all of them, or at the student once more.
TOGETHER = {"hardness_edge", "adversarial"}
#: Those that a real student has to read for; the contract suite has one.
AGAIN = {"adversarial", "hop_consistency"}


def several(labels: int = LABELS) -> Sizes:
    return Sizes(WIDTHS, WIDTHS, CODES, "multilabel" if labels != 1 else "binary")


def loss_called(name: str, sizes: Sizes) -> Loss:
    torch.manual_seed(0)
    kind = look_up(LOSSES, name, "loss")
    loss: Loss = kind(kind.Settings(**READ.get(name, {})), sizes)
    return loss.double()


def random(*shape: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def batch() -> Batch:
    pair_2P = torch.randint(0, ROWS, (2, 20), generator=torch.Generator().manual_seed(5))
    return Batch(
        labels_B=(random(ROWS, LABELS, seed=1) > 0).to(torch.int8),
        logits_BC=2 * random(ROWS, LABELS, seed=2),
        layers=tuple(random(ROWS, width, seed=width) for width in WIDTHS),
        reliability_B=random(ROWS, seed=3).sigmoid(),
        codes_BL=torch.stack([torch.arange(ROWS) % k for k in CODES], 1),
        source_P=pair_2P[0],
        target_P=pair_2P[1],
        score_P=random(20, seed=4).tanh(),
        cluster_B=torch.arange(ROWS) % 4,
    )


def output() -> Output:
    blocks = tuple(random(ROWS, width, seed=20 + width).requires_grad_() for width in WIDTHS)
    return Output(random(ROWS, LABELS, seed=9).requires_grad_(), blocks)


def pair(logits_B: Tensor) -> Tensor:
    """The two classes, no and yes, of one label."""
    return torch.stack([torch.zeros_like(logits_B), logits_B], 1)


def test_every_loss_that_reads_logits_or_labels_is_in_this_file() -> None:
    reads = {name for name in LOSSES if {"labels", "logits"} & look_up(LOSSES, name, "loss").needs}
    assert reads == set(READ) | TOGETHER


@pytest.mark.parametrize("name", READ)
def test_the_loss_is_the_mean_over_tasks_of_two_classes(name: str) -> None:
    mine, known = output(), batch()
    alone = [
        loss_called(name, several(1))(
            replace(mine, logits_BC=pair(mine.logits_BC[:, label])),
            replace(
                known,
                labels_B=known.labels_B[:, label].long(),
                logits_BC=pair(known.logits_BC[:, label]),
            ),
        )
        for label in range(LABELS)
    ]
    together = loss_called(name, several())(mine, known)
    assert together.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-9)
    assert together > 0


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in AGAIN])
def test_every_loss_is_finite_and_pulls_at_the_student(name: str) -> None:
    mine = output()
    value = loss_called(name, several())(mine, batch())
    assert value.shape == ()
    assert value.isfinite()
    value.backward()
    grads = [t.grad for t in (mine.logits_BC, *mine.blocks) if t.grad is not None]
    assert sum(float(grad.abs().sum()) for grad in grads) > 0


def test_hard_by_hand_ignores_unknown_labels() -> None:
    logits = torch.tensor([[LN3, -LN3], [LN3, 99.0], [7.0, 7.0]], dtype=torch.float64)
    labels = torch.tensor([[1, 1], [0, -1], [-1, -1]], dtype=torch.int8)
    mine, known = output(), batch()
    value = Hard(Hard.Settings(), several())(
        replace(mine, logits_BC=logits), replace(known, labels_B=labels)
    )
    # -ln 3/4, -ln 1/4 and -ln 1/4.
    assert value.item() == pytest.approx((6 * LN2 - LN3) / 3)
    none = replace(known, labels_B=torch.full_like(known.labels_B, -1))
    assert Hard(Hard.Settings(), several())(mine, none).item() == 0


def soft(temperature: float) -> Loss:
    return Soft(SoftSettings(temperature=temperature), several())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_soft_by_hand(temperature: float) -> None:
    ours = torch.tensor([[LN3, 0.0]], dtype=torch.float64) * temperature
    theirs = torch.zeros(1, 2, dtype=torch.float64)
    value = soft(temperature)(replace(output(), logits_BC=ours), replace(batch(), logits_BC=theirs))
    # Label 0: ½ ln(½ / ¾) + ½ ln(½ / ¼) = ½ ln 4/3; label 1 is 0; the mean of both, times T².
    assert value.item() == pytest.approx(temperature**2 * math.log(4 / 3) / 4)


@pytest.mark.parametrize("make", [lambda: soft(1.0), lambda: soft(4.0)])
def test_soft_is_zero_where_the_student_is_the_teacher(make: Callable[[], Loss]) -> None:
    known = batch()
    value = make()(replace(output(), logits_BC=known.logits_BC), known)
    assert value.item() == pytest.approx(0, abs=1e-12)


def test_pseudo_by_hand() -> None:
    ours = torch.tensor([[LN3, -LN3]], dtype=torch.float64)
    theirs = torch.tensor([[0.1, 8.0]], dtype=torch.float64)
    value = Pseudo(Pseudo.Settings(), several())(
        replace(output(), logits_BC=ours), replace(batch(), logits_BC=theirs)
    )
    assert value.item() == pytest.approx((4 * LN2 - LN3) / 2)
