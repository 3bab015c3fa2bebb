"""Macro loss: the arrangement of a batch, up to rotation and scale."""

from typing import ClassVar

from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, Need
from g2t.student.base import Output


class CKA(Loss):
    """One minus linear centred kernel alignment (Kornblith et al. 2019).

    L = 1 - ‖H̄ᵀT̄‖²_F / (‖H̄ᵀH̄‖_F ‖T̄ᵀT̄‖_F) with centred columns, last block against the teacher's last
    layer. No projector is needed: widths may differ. Sibling: `gram`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"layers"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return a value in 0 … 1."""
        return 1 - linear_cka(output.blocks[-1], batch.layers[-1])


def linear_cka(ours_BD: Tensor, theirs_BD: Tensor) -> Tensor:
    """Return the linear CKA of two sets of rows, a scalar in 0 … 1."""
    ours_BD, theirs_BD = ours_BD - ours_BD.mean(0), theirs_BD - theirs_BD.mean(0)
    cross = (ours_BD.t() @ theirs_BD).square().sum()
    own = (ours_BD.t() @ ours_BD).norm() * (theirs_BD.t() @ theirs_BD).norm()
    alignment: Tensor = cross / own.clamp(min=1e-12)
    return alignment
