"""What a row of logits says: one of C classes, or yes or no to each of C labels.

`binary` and `multiclass` read it by a softmax, their labels are [N]; `multilabel` reads every
column by a sigmoid, its labels are [N, C] of 0, 1 and, where unknown, -1.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Task = Literal["binary", "multiclass", "multilabel"]


def task_of(labels: Tensor, classes: int) -> Task:
    """Return the task that labels [N] or [N, C] of so many classes make."""
    if labels.dim() == 2:
        return "multilabel"
    return "binary" if classes == 2 else "multiclass"


def labelled(labels: Tensor) -> Tensor:
    """Tell of every node whether any label of it is known, bool [N]."""
    known = labels >= 0
    return known if labels.dim() == 1 else known.any(1)


def decide(task: Task, logits_BC: Tensor) -> Tensor:
    """Return what logits say as labels: the first choice [B], or the labels above 1/2 [B, C]."""
    return (logits_BC > 0).to(torch.int8) if task == "multilabel" else logits_BC.argmax(1)


def task_loss(
    task: Task,
    logits_BC: Tensor,
    labels: Tensor,
    weight_C: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy with the known labels [B] or [B, C]; nan where there is none.

    The mean over rows, L = -1/n Σ log softmax(z_i)[y_i]; for `multilabel` over the known entries,
    L = -1/n Σ y log σ(z) + (1 - y) log σ(-z). `weight_C` is the weight of each class, for
    `multilabel` that of the yes to each label; `smoothing` moves that share of a label to all
    classes alike, for `multilabel` to yes and no.
    """
    known = labels >= 0
    if task != "multilabel":
        return F.cross_entropy(
            logits_BC[known], labels[known], weight=weight_C, label_smoothing=smoothing
        )
    target_BC = labels.to(logits_BC) * (1 - smoothing) + smoothing / 2
    each_BC = F.binary_cross_entropy_with_logits(
        logits_BC, target_BC, pos_weight=weight_C, reduction="none"
    )
    return each_BC[known].mean()


def log_probabilities(task: Task, logits_BC: Tensor) -> Tensor:
    """Return log p of every outcome: of C classes [B, C]; of C labels, yes and no, [B, 2C]."""
    if task == "multilabel":
        return torch.cat([F.logsigmoid(logits_BC), F.logsigmoid(-logits_BC)], 1)
    return logits_BC.log_softmax(1)


def logits_of(task: Task, log_p_BO: Tensor) -> Tensor:
    """Return the logits [B, C] of log p as `log_probabilities` gives it."""
    if task != "multilabel":
        return log_p_BO
    yes_BC, no_BC = log_p_BO.chunk(2, 1)
    return yes_BC - no_BC


def probabilities(task: Task, logits_BC: Tensor) -> Tensor:
    """Return the probability of every class, or of every label by itself, [B, C]."""
    return logits_BC.sigmoid() if task == "multilabel" else logits_BC.softmax(1)


def mean_logits(
    task: Task, members: Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    """Return logits of the members' mean probabilities, [B, C]; one alone stays as it is.

    Of classes log p̄, of labels log p̄ - log(1 - p̄). Averaged in logarithms, so that no probability
    underflows to 0 (deep ensembles: Lakshminarayanan et al. 2017). `weights` sum to 1; without
    them all count alike.
    """
    if len(members) == 1:
        return members[0]
    shares = torch.tensor(weights or [1 / len(members)] * len(members)).log()
    logs_MBC = torch.stack(
        [
            log_probabilities(task, logits_BC.float()) + share
            for logits_BC, share in zip(members, shares, strict=True)
        ]
    )
    return logits_of(task, torch.logsumexp(logs_MBC, 0))


def entropy(task: Task, logits_BC: Tensor) -> Tensor:
    """Return the entropy of every row [B], for `multilabel` the sum over its labels."""
    log_p = log_probabilities(task, logits_BC)
    return -(log_p.exp() * log_p).sum(1)


def decisions(task: Task, logits_BC: Tensor) -> int:
    """Return how many decisions a row takes: one, or one for every label."""
    return logits_BC.shape[1] if task == "multilabel" else 1
