"""How a teacher's weights move: optimiser, learning rate, loss, clipping, running mean."""

import copy

import torch
from torch import Tensor, nn

from g2t.averaging import average, fair_share
from g2t.ranks import ALONE, Ranks
from g2t.schedule import rate_factor
from g2t.teacher.settings import TrainSettings

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Descent:
    """The moving parts of a training run; `judged` is the network that is validated and kept."""

    def __init__(self, model: nn.Module, options: TrainSettings, ranks: Ranks = ALONE) -> None:
        self.model = model
        self.ranks = ranks
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
        options = self.options
        factor = rate_factor(epoch, options.epochs, options.warmup, options.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr * factor
        self.model.train()

    def step(self, loss: Tensor, asked: bool = False) -> bool:
        """Move the weights down the gradient of a loss, and the running mean after them.

        `asked` is whether this rank was asked to stop; tells whether any was.
        """
        self.optimizer.zero_grad()
        loss.backward()
        asked = self.ranks.add_gradients(self.model.parameters(), asked)
        if self.options.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.steps += 1
        if self.options.ema:
            average(self.judged, self.model, fair_share(self.options.ema, self.steps))
        return asked


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
