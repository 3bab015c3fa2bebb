"""Scores of a prediction: the task's own metric, agreement with a teacher, mean and spread."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Metric = Literal["accuracy", "roc_auc"]


def score(metric: Metric, logits_NC: Tensor, labels_N: Tensor) -> float:
    """Return the metric, a fraction, over rows whose label is known (>= 0); nan if there is none.

    `roc_auc` takes the logit difference of the two classes as the score of class 1; it is nan
    where only one class is present.
    """
    known = labels_N >= 0
    logits_NC, labels_N = logits_NC[known].float(), labels_N[known]
    if len(labels_N) == 0:
        return math.nan
    if metric == "accuracy":
        return (logits_NC.argmax(1) == labels_N).double().mean().item()
    if labels_N.min() == labels_N.max():
        return math.nan
    from torchmetrics.functional.classification import binary_auroc

    # Ranks are all that counts; a sigmoid would tie confident rows in float32.
    margin_N = logits_NC[:, 1] - logits_NC[:, 0]
    ranks_N = torch.unique(margin_N, return_inverse=True)[1].double() / len(margin_N)
    return float(binary_auroc(ranks_N, labels_N))


def agreement(logits_NC: Tensor, teacher_NC: Tensor) -> float:
    """Return the fraction of rows where two models name the same class; nan for no rows."""
    if len(logits_NC) == 0:
        return math.nan
    return (logits_NC.argmax(1) == teacher_NC.argmax(1)).double().mean().item()


def defined(value: float) -> float | None:
    """Return a figure, or None (JSON: null) where there is none."""
    return None if math.isnan(value) else value


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1); the latter is 0 for a single value."""
    data = torch.tensor(values, dtype=torch.float64)
    return data.mean().item(), data.std().item() if len(values) > 1 else 0.0


def paired(values: Sequence[float], rivals: Sequence[float]) -> tuple[float, float]:
    """Return the mean difference over pairs (same seed, same split) and its standard error."""
    differences = [mine - theirs for mine, theirs in zip(values, rivals, strict=True)]
    mean, std = mean_std(differences)
    return mean, std / math.sqrt(len(differences))
