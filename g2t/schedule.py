"""How the learning rate goes over the epochs of a training run, of teachers and of students."""

import math
from typing import Literal

Schedule = Literal["constant", "cosine"]


def rate_factor(epoch: int, epochs: int, warmup: int, schedule: Schedule) -> float:
    """Return the learning rate of an epoch over `train.lr`.

    It rises in equal parts over `warmup` epochs; the cosine then falls from 1 towards 0, which it
    would reach one epoch after the last.
    """
    if epoch < warmup:
        return (epoch + 1) / warmup
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2
