"""Node losses on labels: the truth, the teacher's probabilities, the teacher's first choice."""

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes, nothing
from g2t.student.base import Output
from g2t.task import Task, decide, decisions, log_probabilities, task_loss


class Hard(Loss):
    """Cross-entropy with the true labels, mean over the batch's training rows.

    L = -1/n Σ log softmax(z_i)[y_i]; of several labels per node the binary cross-entropy, mean over
    the known ones. When: without a teacher, or beside `soft` where labels are many. Siblings:
    `pseudo` (the teacher's labels), `soft`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over rows with a label; 0 without any."""
        if not bool((batch.labels_B >= 0).any()):
            return nothing(output)
        return task_loss(self.task, output.logits_BC, batch.labels_B)


class SoftSettings(LossSettings):
    """`loss.soft.*`."""

    temperature: float = Field(1.0, gt=0)


class Soft(Loss):
    """KL divergence from the student's to the teacher's tempered probabilities.

    L = T² · mean_i KL(softmax(t_i / T) ‖ softmax(z_i / T)) (Hinton et al. 2015; for graphs GLNN,
    Zhang et al. 2022, with T = 1); of several labels the mean over their own KLs, yes
    against no. When: always; it carries nearly all of the accuracy.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})
    Settings: ClassVar[type[LossSettings]] = SoftSettings

    def __init__(self, settings: SoftSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.temperature = settings.temperature

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over all rows."""
        return tempered_kl(self.task, output.logits_BC, batch.logits_BC, self.temperature)


def tempered_kl(
    task: Task, student_BC: Tensor, teacher_BC: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return T² · mean KL(teacher at T ‖ student at T) over rows and decisions, a scalar."""
    ours = log_probabilities(task, student_BC / temperature)
    theirs = log_probabilities(task, teacher_BC / temperature)
    mean = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return mean * temperature**2 / decisions(task, student_BC)


class Pseudo(Loss):
    """Cross-entropy with the teacher's first choice: the honest baseline of every soft label.

    L = -1/B Σ log softmax(z_i)[argmax t_i] (Lee 2013). Of several labels those count as true that
    the teacher gives more than 1/2. A structural loss has to beat this too.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over all rows."""
        return task_loss(self.task, output.logits_BC, decide(self.task, batch.logits_BC))
