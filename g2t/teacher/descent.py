"""How a teacher's weights move: optimiser, learning rate, loss, clipping, running mean."""

import copy
import math

import torch
from torch import Tensor, nn

from g2t.averaging import average, fair_share
from g2t.errors import MissingExtra, UsageError
from g2t.teacher.settings import TrainSettings

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Descent:
    """The moving parts of a training run; `judged` is the network that is validated and kept."""

    def __init__(self, model: nn.Module, options: TrainSettings) -> None:
        self.model = model
        self.options = options
        self.optimizer = OPTIMIZERS[options.optimizer](
            model.parameters(), options.lr, weight_decay=options.weight_decay
        )
        self.judged = copy.deepcopy(model) if options.ema else model
        self.steps = 0

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks whose weights a checkpoint holds, by name."""
        averaged = {"averaged": self.judged} if self.options.ema else {}
        return {"model": self.model, **averaged}

    def begin(self, epoch: int) -> None:
        """Set the learning rate of an epoch, and train mode."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * rate_factor(epoch, self.options)
        self.model.train()

    def step(self, loss: Tensor) -> None:
        """Move the weights down the gradient of a loss, and the running mean after them."""
        self.optimizer.zero_grad()
        loss.backward()
        if self.options.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.steps += 1
        if self.options.ema:
            average(self.judged, self.model, fair_share(self.options.ema, self.steps))


def rate_factor(epoch: int, options: TrainSettings) -> float:
    """Return the learning rate of an epoch over `train.lr`.

    It rises in equal parts over `warmup` epochs; the cosine then falls from 1 towards 0, which it
    would reach one epoch after the last.
    """
    if epoch < options.warmup:
        return (epoch + 1) / options.warmup
    if options.schedule == "constant":
        return 1.0
    done = (epoch - options.warmup) / (options.epochs - options.warmup)
    return (1 + math.cos(math.pi * done)) / 2


def class_weights(labels_N: Tensor, classes: int, kind: str) -> Tensor | None:
    """Return a weight per class of training labels, float32 [C]; None where all count the same.

    `balanced`: N / (C' N_c) with C' classes present, so that the classes' sums of weights are
    equal and the mean over the nodes is 1. A class without a node weighs nothing. For labels [N, C]
    it is the weight of every yes, no's / yes's, 1 where there is none of either.
    """
    if kind == "none":
        return None
    if labels_N.dim() == 2:
        no_C, yes_C = ((labels_N == answer).sum(0).float() for answer in (0, 1))
        return torch.where((no_C > 0) & (yes_C > 0), no_C / yes_C.clamp(min=1), 1.0)
    count_C = torch.bincount(labels_N, minlength=classes)
    present = int((count_C > 0).sum())
    weight_C = len(labels_N) / (present * count_C.clamp(min=1).float())
    return weight_C.where(count_C > 0, 0.0)


def check_device(options: TrainSettings, device: torch.device) -> None:
    """Raise where an option needs CUDA and is to run elsewhere.

    UsageError where another device was chosen, MissingExtra where there is no CUDA.
    """
    wanted = {"precision=bf16": options.precision == "bf16", "compile=true": options.compile}
    for setting in (name for name, asked in wanted.items() if asked):
        if device.type == "cuda":
            continue
        if torch.cuda.is_available():
            raise UsageError(f"train.{setting} needs CUDA, not {device}", "use --device cuda")
        raise MissingExtra(
            f"train.{setting} needs CUDA, which is not here", "leave it out: the CPU takes fp32"
        )
