"""Robustness: the student should say what the teacher says where its input is slightly worse."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes, reading_of
from g2t.distill.losses.labels import tempered_kl
from g2t.student.base import Output, Reading


class AdversarialSettings(LossSettings):
    """`loss.adversarial.*`."""

    weight: float = Field(0.5, ge=0, description="0: the term is left out and costs nothing")
    radius: float = Field(0.3, gt=0, description="most that a token moves, over its own length")
    steps: int = Field(2, ge=1, description="steps of ascent; each reads the tokens once more")


class Adversarial(Loss):
    """Adversarial feature augmentation, NOSMOG (Tian et al. 2023).

    L = mean_i KL(softmax(t_i) ‖ softmax(f(x_i + δ_i))) at the worst δ that `steps` of projected
    gradient ascent on this KL find (Madry et al. 2018), with |δ_ik| <= radius · |x_ik| for every
    token k. NOSMOG moves raw features within a box; here x are the embedded tokens, so that sparse
    features stay sparse, and each step is as long as the radius. Only the last reading teaches:
    nothing of the ascent reaches the weights. Several labels as in `soft`. When: nodes without
    edges that are not in the graph; each step takes a forward and a backward of its own.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})
    reads_again: ClassVar[bool] = True
    Settings: ClassVar[type[LossSettings]] = AdversarialSettings

    def __init__(self, settings: AdversarialSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.radius, self.steps = settings.radius, settings.steps

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over all rows, read once more."""
        reading = reading_of(output)
        moved_BTD = reading.tokens_BTD + self._worst(reading, batch)
        logits_BC = reading.again(moved_BTD, reading.hops_B).logits_BC
        return tempered_kl(self.task, logits_BC, batch.logits_BC)

    @torch.enable_grad()
    def _worst(self, reading: Reading, batch: Batch) -> Tensor:
        """Return the move of every token, without gradient, [B, T, D]."""
        tokens_BTD = reading.tokens_BTD.detach()
        most_BT1 = self.radius * tokens_BTD.norm(dim=2, keepdim=True)
        move_BTD = torch.zeros_like(tokens_BTD)
        for _ in range(self.steps):
            move_BTD.requires_grad_()
            logits_BC = reading.again(tokens_BTD + move_BTD, reading.hops_B).logits_BC
            value = tempered_kl(self.task, logits_BC, batch.logits_BC)
            (uphill_BTD,) = torch.autograd.grad(value, move_BTD)
            # Gradients are tiny where the student is right; a token that nobody reads has none.
            stepped = move_BTD.detach() + most_BT1 * F.normalize(uphill_BTD, dim=2, eps=1e-30)
            length_BT1 = stepped.norm(dim=2, keepdim=True)
            move_BTD = stepped * (most_BT1 / length_BT1.clamp(min=1e-30)).clamp(max=1)
        return move_BTD
