"""What validation decides of a trained student, by the rank that epochs are compared by.

Whether its hops vote, and the share of its answers that is told from memory.
"""

from typing import Any

import torch
from torch import Tensor

from g2t.cache.reader import Cache
from g2t.distill.settings import DistillSettings
from g2t.distill.signals import holds_out, shown_rows
from g2t.errors import UsageError
from g2t.metrics import score
from g2t.student.base import Inputs, Student, answers
from g2t.student.memory import Memory
from g2t.student.normalize import to_length
from g2t.task import mean_logits, task_loss

#: Worth of the validation loss beside the score.
TIE_BREAK = 0.01

#: Shares of an answer that may be told from memory; of equals the first is chosen.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def check_memory(settings: DistillSettings[Any, Any, Any], setting: str) -> None:
    """Raise UsageError where losses would see the validation nodes that decide on a memory."""
    if settings.model.memory and not holds_out(setting, settings.train):
        raise UsageError(
            "model.memory is decided on by validation nodes, and here the losses see them",
            "add --set train.hold_out_val=true, or teach with --setting production",
        )


def scored(logits_BC: Tensor, cache: Cache) -> tuple[float, float]:
    """Return metric and cross-entropy of what is said of the validation nodes."""
    logits, labels = logits_BC.cpu(), cache.labels[cache.parts.val]
    loss = task_loss(cache.manifest.task, logits, labels).item()
    return score(cache.manifest.metric, logits, labels), loss


def worth(val: float, val_loss: float) -> float:
    """Return what validation ranks by: the score, which is coarse, and the loss where it ties."""
    return val - TIE_BREAK * val_loss


def better_by_vote(student: Student, inputs: Inputs, cache: Cache) -> bool:
    """Tell whether the mean over 0 … K hops is better on validation than all K alone."""
    if student.hops == 0:
        return False
    said = answers(student, inputs, cache.parts.val, range(student.hops + 1))
    return worth(*scored(torch.stack(said).mean(0), cache)) > worth(*scored(said[-1], cache))


@torch.no_grad()
def best_memory(student: Student, inputs: Inputs, cache: Cache, nearest: int) -> Memory | None:
    """Return a memory of all rows that losses may see, at the best share; None if that is 0.

    Shares are compared by what is said of the validation nodes without a hop at hand.
    """
    device, task = next(student.parameters()).device, cache.manifest.task
    shown_M, val_B = shown_rows(cache).nonzero().flatten(), cache.parts.val
    rows = to_length(student.own(inputs, shown_M.to(device)), 1.0)
    logits_MC = cache.logits()[shown_M].float().to(device)
    memory = Memory(rows, logits_MC, nearest, SHARES[0], task)
    said_BC = answers(student, inputs, val_B, (0,))[0]
    told_BC = memory.told(student.own(inputs, val_B.to(device)))
    mixed = {share: mean_logits(task, (said_BC, told_BC), (1 - share, share)) for share in SHARES}
    worths = {share: worth(*scored(logits_BC, cache)) for share, logits_BC in mixed.items()}
    memory.share = max(SHARES, key=worths.__getitem__)
    return memory if memory.share else None
