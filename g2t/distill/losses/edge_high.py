"""Edge loss: where a node differs from its neighbour, and how much, as the teacher says."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes, nothing
from g2t.distill.losses.labels import tempered_kl
from g2t.student.base import Output
from g2t.task import log_probabilities, logits_of


class EdgeHighSettings(LossSettings):
    """`loss.edge_high.*`."""

    temperature: float = Field(1.0, gt=0)


class EdgeHigh(Loss):
    """High-frequency knowledge of FF-G2M (Wu et al. 2023).

    L = mean over edges u -> v of KL(softmax(|t_u - t_v| / T) ‖ softmax(|z_u - z_v| / T)): in which
    classes two neighbours disagree; the factor T² of `soft` is not there, as with the authors. Rows
    t and z are log-probabilities, where the authors take logits as they come: a constant added to a
    row's logits changes nothing that they say, and would change their difference. Of several
    labels each has a softmax of its own, over yes and no, and their mean counts. When: beside
    `edge_low`, which alone makes neighbours alike; graphs with little homophily.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "edges"})
    Settings: ClassVar[type[LossSettings]] = EdgeHighSettings

    def __init__(self, settings: EdgeHighSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.temperature = settings.temperature

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over the batch's pairs; 0 without any."""
        if len(batch.source_P) == 0:
            return nothing(output)
        ours_PC, theirs_PC = (
            self._differences(logits_BC, batch) for logits_BC in (output.logits_BC, batch.logits_BC)
        )
        return tempered_kl(self.task, ours_PC, theirs_PC)

    def _differences(self, logits_BC: Tensor, batch: Batch) -> Tensor:
        """Return |t_u - t_v| / T of every pair, read as logits, [P, C]."""
        said_BO = log_probabilities(self.task, logits_BC)
        apart_PO = (said_BO[batch.source_P] - said_BO[batch.target_P]).abs()
        return logits_of(self.task, apart_PO / self.temperature)
