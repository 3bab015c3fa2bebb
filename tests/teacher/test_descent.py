"""How weights move, against numbers worked out by hand."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from g2t.averaging import average, fair_share
from g2t.errors import UsageError
from g2t.task import task_loss
from g2t.teacher.descent import Descent, class_weights
from g2t.teacher.settings import TrainSettings, teach_settings


def options(**values: Any) -> TrainSettings:
    return teach_settings({"train": values}).train


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(UsageError, match=r"train\.warmup 5 leaves none of 5 epochs"):
        options(epochs=5, warmup=5)


def test_classes_balance_as_counted_by_hand() -> None:
    """Four of class 0, one of class 1, none of class 2: 5/(2·4), 5/(2·1) and nothing."""
    labels = torch.tensor([0, 0, 1, 0, 0])
    weights = class_weights(labels, 3, "balanced")
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.625, 2.5, 0])
    assert weights[labels].mean().item() == pytest.approx(1)
    assert class_weights(labels, 3, "none") is None


def test_the_loss_smooths_labels_and_weighs_classes() -> None:
    """-Σ_i w(y_i) log p_i(y_i) / Σ_i w(y_i); smoothing moves a share to the mean over classes."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    logp = logits.log_softmax(1)
    weighted = -(0.5 * logp[0, 0] + 0.5 * logp[1, 0] + 2 * logp[2, 1]) / 3
    found = task_loss("binary", logits, labels, torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(found, weighted)
    hard = -(logp[0, 0] + logp[1, 0] + logp[2, 1]) / 3
    smooth = 0.8 * hard - 0.2 * logp.mean()
    torch.testing.assert_close(task_loss("binary", logits, labels, None, 0.2), smooth)


def test_the_running_mean_forgets_its_start() -> None:
    """Decay 0.5 over 1, 2, 4: weights 1/7, 2/7, 4/7, and nothing of what it began with."""
    mean, live = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(mean.weight, 1000.0)
    for step, value in enumerate((1.0, 2.0, 4.0), 1):
        nn.init.constant_(live.weight, value)
        average(mean, live, fair_share(0.5, step))
    assert mean.weight.item() == pytest.approx((1 + 4 + 16) / 7)


def test_the_running_mean_takes_statistics_and_counts() -> None:
    live = nn.BatchNorm1d(2)
    mean = copy.deepcopy(live)
    live(torch.tensor([[0.0, 4.0], [2.0, 8.0]]))
    average(mean, live, 0.5)
    assert isinstance(mean.running_mean, Tensor)
    assert mean.running_mean.tolist() == pytest.approx([0.05, 0.3])
    assert mean.num_batches_tracked is not None
    assert mean.num_batches_tracked.item() == 1


def line(start: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, start)
    return model


def test_a_gradient_is_clipped_to_its_norm() -> None:
    descent = Descent(line(1.0), options(clip=0.5))
    descent.step(30 * descent.model.weight.sum())  # type: ignore[operator]
    (weight,) = descent.model.parameters()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(("optimizer", "wanted"), [("adam", 1 - 0.1), ("adamw", 1 - 0.1 * 0.5)])
def test_weight_decay_is_in_the_gradient_or_beside_it(optimizer: str, wanted: float) -> None:
    """Without any loss Adam's first step is the rate itself; AdamW shrinks by rate times decay."""
    descent = Descent(line(1.0), options(optimizer=optimizer, lr=0.1, weight_decay=0.5))
    descent.begin(0)
    descent.step(0 * descent.model.weight.sum())  # type: ignore[operator]
    (weight,) = descent.model.parameters()
    assert weight.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"fanouts": [5]}, "need train.batch"),
        ({"sampler": "clusters"}, "need train.batch"),
        ({"batch": 4, "fanouts": [0]}, "at least 1, or -1"),
        ({"batch": 4, "compile": True}, "all nodes at once"),
        ({"ema": 1.0}, "less than 1"),
        ({"clip": 0}, "greater than 0"),
        ({"schedule": "linear"}, "constant"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        options(**wrong)
