"""What logits say of several labels: by hand, and as so many tasks of two classes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from g2t.task import (
    decide,
    decisions,
    entropy,
    labelled,
    log_probabilities,
    probabilities,
    task_loss,
    task_of,
)

LN2, LN3 = math.log(2), math.log(3)
#: A label at 3/4, at 1/2 and at 1/4.
LOGITS = torch.tensor([[LN3, 0.0, -LN3]], dtype=torch.float64)


def pair(logits_N: Tensor) -> Tensor:
    """The two classes, no and yes, of one label."""
    return torch.stack([torch.zeros_like(logits_N), logits_N], 1)


def test_labels_make_the_task() -> None:
    assert task_of(torch.zeros(4), 2) == "binary"
    assert task_of(torch.zeros(4), 3) == "multiclass"
    assert task_of(torch.zeros(4, 2), 2) == "multilabel"


def test_a_node_is_labelled_by_any_known_label() -> None:
    assert labelled(torch.tensor([0, -1, 2])).tolist() == [True, False, True]
    assert labelled(torch.tensor([[-1, 0], [-1, -1]])).tolist() == [True, False]


def test_probabilities_decisions_and_entropy_by_hand() -> None:
    assert probabilities("multilabel", LOGITS).tolist() == [pytest.approx([0.75, 0.5, 0.25])]
    assert decide("multilabel", LOGITS).tolist() == [[1, 0, 0]]
    assert (decisions("multilabel", LOGITS), decisions("multiclass", LOGITS)) == (3, 1)
    # H(3/4) = 2 ln 2 - 3/4 ln 3, twice, and H(1/2) = ln 2.
    wanted = 2 * (2 * LN2 - 0.75 * LN3) + LN2
    assert entropy("multilabel", LOGITS).tolist() == [pytest.approx(wanted)]
    log_p = log_probabilities("multilabel", LOGITS)
    assert log_p.exp().tolist() == [pytest.approx([0.75, 0.5, 0.25, 0.25, 0.5, 0.75])]


def test_one_class_of_several_is_read_by_a_softmax() -> None:
    logits = torch.tensor([[LN3, 0.0]], dtype=torch.float64)
    for task in ("binary", "multiclass"):
        assert probabilities(task, logits).tolist() == [pytest.approx([0.75, 0.25])]
        assert entropy(task, logits).item() == pytest.approx(2 * LN2 - 0.75 * LN3)
        assert decide(task, logits).tolist() == [0]
        assert task_loss(task, logits, torch.tensor([1])).item() == pytest.approx(2 * LN2)


def test_loss_is_the_mean_over_known_labels_only() -> None:
    logits = torch.cat([LOGITS, torch.full_like(LOGITS, 50.0)])
    labels = torch.tensor([[1, 1, -1], [-1, -1, -1]], dtype=torch.int8)
    # -ln 3/4 and -ln 1/2; the third label and the second row are unknown.
    wanted = (2 * LN2 - LN3 + LN2) / 2
    assert task_loss("multilabel", logits, labels).item() == pytest.approx(wanted)
    single = task_loss("multiclass", logits, torch.tensor([0, -1]))
    assert single.item() == pytest.approx(math.log(3 + 1 + 1 / 3) - LN3)
    assert task_loss("multilabel", logits, torch.full_like(labels, -1)).isnan()


def test_certainty_beyond_the_type_stays_finite() -> None:
    sure = torch.tensor([[200.0, -200.0]])
    assert entropy("multilabel", sure).tolist() == [0.0]
    assert task_loss("multilabel", sure, torch.tensor([[0, 1]])).item() == pytest.approx(200.0)


@given(st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=6))
def test_several_labels_are_so_many_tasks_of_two_classes(rows: list[list[float]]) -> None:
    logits = torch.tensor(rows, dtype=torch.float64)
    alone = [entropy("binary", pair(column)) for column in logits.T]
    together = entropy("multilabel", logits)
    assert together.tolist() == pytest.approx(sum(alone).tolist(), abs=1e-9)  # type: ignore[union-attr]
    labels = (torch.arange(logits.numel()).view_as(logits) % 2).to(torch.int8)
    losses = [
        task_loss("binary", pair(z), y.long()) for z, y in zip(logits.T, labels.T, strict=True)
    ]
    mean = torch.stack(losses).mean().item()
    assert task_loss("multilabel", logits, labels).item() == pytest.approx(mean, abs=1e-9)
