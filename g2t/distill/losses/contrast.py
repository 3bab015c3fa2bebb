"""Macro loss: a student's row should tell its own teacher row from those of all others."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from g2t.distill.losses.align import standardised
from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes
from g2t.distill.losses.distance import TEMPERATURE, contrast_distance
from g2t.student.base import Output


class ContrastSettings(LossSettings):
    """`loss.contrast.*`."""

    temperature: float = Field(TEMPERATURE, gt=0)


class Contrast(Loss):
    """Contrastive representation distillation, G-CRD (Joshi et al. 2022).

    L = -mean_i log softmax_j(cos(W h_i, t_j) / τ)[i]: InfoNCE (van den Oord et al. 2018) of the
    projected last block and the teacher's last layer, columns standardised over the batch; the
    other rows of the batch are the negatives. The authors learn projectors on both sides. Here the
    teacher's side has none: a learned one may drop whatever the student cannot tell, while fixed
    rows keep all that the teacher knows, and nothing can collapse. When: for embeddings (links,
    retrieval); it has not raised accuracy. Siblings: `gram`, `align` with distance `contrast`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"layers"})
    Settings: ClassVar[type[LossSettings]] = ContrastSettings

    def __init__(self, settings: ContrastSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.temperature = settings.temperature
        self.project = nn.Linear(sizes.student[-1], sizes.teacher[-1])

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over rows; 0 for a single one, which has no negatives."""
        ours_BD = self.project(output.blocks[-1])
        return contrast_distance(ours_BD, standardised(batch.layers[-1]), self.temperature)
