"""Node losses on labels: the truth, the teacher's probabilities, the teacher's first choice."""

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes, nothing
from g2t.student.base import Output


class Hard(Loss):
    """Cross-entropy with the true labels, mean over the batch's training rows.

    L = -1/n Σ log softmax(z_i)[y_i]. When: without a teacher, or beside `soft` where labels are
    many. Siblings: `pseudo` (the teacher's labels), `soft`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over rows with a label; 0 without any."""
        known_B = batch.labels_B >= 0
        if not bool(known_B.any()):
            return nothing(output)
        return F.cross_entropy(output.logits_BC[known_B], batch.labels_B[known_B])


class SoftSettings(LossSettings):
    """`loss.soft.*`."""

    temperature: float = Field(1.0, gt=0)


class Soft(Loss):
    """KL divergence from the student's to the teacher's tempered probabilities.

    L = T² · mean_i KL(softmax(t_i / T) ‖ softmax(z_i / T)) (Hinton et al. 2015; for graphs GLNN,
    Zhang et al. 2022, with T = 1). When: always; it carries nearly all of the accuracy.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})
    Settings: ClassVar[type[LossSettings]] = SoftSettings

    def __init__(self, settings: SoftSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.temperature = settings.temperature

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over all rows."""
        return tempered_kl(output.logits_BC, batch.logits_BC, self.temperature)


def tempered_kl(student_BC: Tensor, teacher_BC: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² · mean KL(softmax(teacher / T) ‖ softmax(student / T)), a scalar."""
    ours_BC = (student_BC / temperature).log_softmax(1)
    theirs_BC = (teacher_BC / temperature).log_softmax(1)
    return F.kl_div(ours_BC, theirs_BC, reduction="batchmean", log_target=True) * temperature**2


class Pseudo(Loss):
    """Cross-entropy with the teacher's first choice: the honest baseline of every soft label.

    L = -1/B Σ log softmax(z_i)[argmax t_i] (Lee 2013). A structural loss has to beat this too.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over all rows."""
        return F.cross_entropy(output.logits_BC, batch.logits_BC.argmax(1))
