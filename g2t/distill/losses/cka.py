"""Macro loss: the arrangement of a batch, up to rotation and scale."""

from typing import ClassVar

from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, Need
from g2t.distill.losses.distance import cka_distance
from g2t.student.base import Output


class CKA(Loss):
    """One minus linear centred kernel alignment (Kornblith et al. 2019).

    L = 1 - ‖H̄ᵀT̄‖²_F / (‖H̄ᵀH̄‖_F ‖T̄ᵀT̄‖_F) with centred columns, last block against the teacher's last
    layer. No projector is needed: widths may differ. Sibling: `gram`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"layers"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return a value in 0 … 1."""
        return cka_distance(output.blocks[-1], batch.layers[-1])
