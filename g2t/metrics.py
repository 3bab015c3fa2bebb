"""Scores of a prediction: the task's own metric, agreement, mean and spread, and differences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from g2t.task import Task, decide

Metric = Literal["accuracy", "roc_auc", "f1"]

#: Of the intervals of differences.
CONFIDENCE = 0.95

#: A standard error below this is rounding: scores are shares of counts.
ALIKE = 1e-12

#: Draws of a bootstrap interval, from a generator of a fixed seed.
RESAMPLES = 10_000

#: What each task is scored with; the first is the usual one.
METRICS: Mapping[Task, tuple[Metric, ...]] = {
    "multiclass": ("accuracy",),
    "binary": ("accuracy", "roc_auc"),
    "multilabel": ("roc_auc", "f1"),
}


def score(metric: Metric, logits_NC: Tensor, labels: Tensor) -> float:
    """Return the metric, a fraction, over the labels that are known (>= 0); nan if there is none.

    For labels [N] `roc_auc` takes the logit difference of the two classes as the score of class 1;
    it is nan where only one class is present. For labels [N, C] it is the mean over those labels
    that are both 0 and 1 somewhere, and `f1` counts all entries together, with logits above 0 as 1.
    """
    if labels.dim() == 2:
        return (_mean_auc if metric == "roc_auc" else _micro_f1)(logits_NC.float(), labels)
    known = labels >= 0
    logits_NC, labels_N = logits_NC[known].float(), labels[known]
    if len(labels_N) == 0:
        return math.nan
    if metric == "accuracy":
        return (logits_NC.argmax(1) == labels_N).double().mean().item()
    return _auc(logits_NC[:, 1] - logits_NC[:, 0], labels_N)


def _auc(margin_N: Tensor, labels_N: Tensor) -> float:
    """Return the area under the curve; nan where not both 0 and 1 are there."""
    if len(labels_N) == 0 or labels_N.min() == labels_N.max():
        return math.nan
    from torchmetrics.functional.classification import binary_auroc

    # Ranks are all that counts; a sigmoid would tie confident rows in float32.
    ranks_N = torch.unique(margin_N, return_inverse=True)[1].double() / len(margin_N)
    return float(binary_auroc(ranks_N, labels_N.long()))


def _mean_auc(logits_NC: Tensor, labels_NC: Tensor) -> float:
    areas = []
    for logits_N, labels_N in zip(logits_NC.T, labels_NC.T, strict=True):
        known = labels_N >= 0
        areas.append(_auc(logits_N[known], labels_N[known]))
    areas = [area for area in areas if not math.isnan(area)]
    return sum(areas) / len(areas) if areas else math.nan


def _micro_f1(logits_NC: Tensor, labels_NC: Tensor) -> float:
    """Return 2 TP / (2 TP + FP + FN); nan where nothing is and nothing is said to be."""
    known = labels_NC >= 0
    said, true = logits_NC[known] > 0, labels_NC[known] > 0
    both = int(said.sum() + true.sum())
    return 2 * int((said & true).sum()) / both if both else math.nan


def agreement(task: Task, logits_NC: Tensor, teacher_NC: Tensor) -> float:
    """Return how often two models decide alike: over rows, or over all labels of all rows.

    nan for no rows.
    """
    if len(logits_NC) == 0:
        return math.nan
    return (decide(task, logits_NC) == decide(task, teacher_NC)).double().mean().item()


def defined(value: float) -> float | None:
    """Return a figure, or None (JSON: null) where there is none."""
    return None if math.isnan(value) else value


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1); the latter is 0 for a single value."""
    data = torch.tensor(values, dtype=torch.float64)
    return data.mean().item(), data.std().item() if len(values) > 1 else 0.0


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Return values with mean and deviation; where one has no score, or none is, there is none."""
    known = [value for value in values if value is not None]
    mean, std = mean_std(known) if known and len(known) == len(values) else (None, None)
    return {"mean": mean, "std": std, "values": list(values)}


def paired(values: Sequence[float], rivals: Sequence[float]) -> tuple[float, float]:
    """Return the mean difference over pairs (same seed, same split) and its standard error."""
    differences = [mine - theirs for mine, theirs in zip(values, rivals, strict=True)]
    mean, std = mean_std(differences)
    return mean, std / math.sqrt(len(differences))


def difference(mine: Mapping[int, float], rival: Mapping[int, float]) -> dict[str, Any] | None:
    """Return the mean difference over common seeds, its standard error and its interval.

    The interval is Student's, mean ± t s / √n with n - 1 degrees of freedom; one seed has none, and
    differences that are all alike say nothing of their spread. `clear` says that it excludes 0.
    None where no seed is common.
    """
    seeds = sorted(mine.keys() & rival.keys())
    if not seeds:
        return None
    mean, error = paired([mine[seed] for seed in seeds], [rival[seed] for seed in seeds])
    found: dict[str, Any] = {"n": len(seeds), "mean": mean}
    if len(seeds) == 1:
        return {**found, "standard_error": None, "low": None, "high": None, "clear": False}
    if error < ALIKE:
        return {**found, "standard_error": 0.0, "low": None, "high": None, "clear": False}
    from scipy.special import stdtrit

    half = float(stdtrit(len(seeds) - 1, (1 + CONFIDENCE) / 2)) * error
    low, high = mean - half, mean + half
    clear = low > 0 or high < 0
    return {**found, "standard_error": error, "low": low, "high": high, "clear": clear}


def bootstrap(differences: Sequence[float]) -> tuple[float, float]:
    """Return the percentile interval of the mean over resamples of differences (Efron 1979).

    Each of 10,000 resamples draws as many as there are, with replacement, by a fixed seed. Of few
    it is too narrow: its spread is √((n - 1) / n) of Student's before the tails.
    """
    values = torch.tensor(differences, dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    index_RB = torch.randint(len(values), (RESAMPLES, len(values)), generator=draw)
    tail = (1 - CONFIDENCE) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = values[index_RB].mean(1).quantile(ends).tolist()
    return low, high
