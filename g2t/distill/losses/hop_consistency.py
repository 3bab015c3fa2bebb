"""Robustness: a node's features alone should say what it says with all of its hops."""

from typing import ClassVar

import torch
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, reading_of
from g2t.distill.losses.labels import tempered_kl
from g2t.student.base import Output


class HopConsistencySettings(LossSettings):
    """`loss.hop_consistency.*`."""

    @property
    def needs_hops(self) -> bool:
        """Always: without hops both readings are one."""
        return True


class HopConsistency(Loss):
    """Hop-dropout consistency: the student with all hops teaches itself without any.

    L = mean_i KL(softmax(f(x_i, all hops)) ‖ softmax(f(x_i, no hop))), the first without gradient:
    self-distillation between two settings of one network, as in slimmable networks (Yu and Huang
    2019). Both read the tokens of the step, so they agree on what was dropped of the input. Several
    labels as in `soft`. When: nodes that arrive without edges; two readings more per step. Sibling:
    `align` with `token_zero`, which asks the same of an embedding.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    reads_again: ClassVar[bool] = True
    Settings: ClassVar[type[LossSettings]] = HopConsistencySettings

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over all rows, read twice more."""
        reading = reading_of(output)
        tokens_BTD = reading.tokens_BTD
        with torch.no_grad():
            every_BC = reading.again(tokens_BTD, None).logits_BC
        none_B = torch.zeros(len(tokens_BTD), dtype=torch.int64, device=tokens_BTD.device)
        alone_BC = reading.again(tokens_BTD, none_B).logits_BC
        return tempered_kl(self.task, alone_BC, every_BC)
