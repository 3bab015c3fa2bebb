"""Edge loss: where a node differs from its neighbour, and how much, as the teacher says."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes, nothing
from g2t.distill.losses.labels import tempered_kl
from g2t.student.base import Output


class EdgeHighSettings(LossSettings):
    """`loss.edge_high.*`."""

    temperature: float = Field(1.0, gt=0)


class EdgeHigh(Loss):
    """High-frequency knowledge of FF-G2M (Wu et al. 2023).

    L = mean over edges u -> v of KL(softmax(|t_u - t_v| / T) ‖ softmax(|z_u - z_v| / T)): in which
    classes two neighbours disagree; the factor T² of `soft` is not there, as with the authors. Of
    several labels each has its own KL of σ(|·| / T), and their mean counts. When: beside
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
            (logits_BC[batch.source_P] - logits_BC[batch.target_P]).abs() / self.temperature
            for logits_BC in (output.logits_BC, batch.logits_BC)
        )
        return tempered_kl(self.task, ours_PC, theirs_PC)
