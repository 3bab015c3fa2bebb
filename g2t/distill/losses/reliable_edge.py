"""Edge loss: a node learns from those neighbours of whom the teacher is sure, noise or not."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes
from g2t.distill.losses.neighbours import learn_from_neighbours
from g2t.student.base import Output


class ReliableEdgeSettings(LossSettings):
    """`loss.reliable_edge.*`."""

    temperature: float = Field(1.0, gt=0)
    power: float = Field(1.0, gt=0, description="a in the weight 1 - ρ^a of a neighbour")


class ReliableEdge(Loss):
    """Knowledge-inspired reliable distillation, KRD (Wu et al. 2023).

    L = Σ w_v KL(softmax(t_v / T) ‖ softmax(z_u / T)) / Σ w_v over self-loops, with w = 1, and over
    edges v -> u, with w_v = 1 - ρ_v^a, where ρ_v in 0 … 1 is how much noise on the features changes
    the entropy of the teacher at v. The authors keep an edge with probability w_v and fit a anew in
    every epoch; here edges are weighted instead, so a batch has one value, and a is `power`, where
    their fit starts. Several labels count as in `soft`. When: homophilous graphs.
    Siblings: `edge_low`, for which all neighbours count; `hardness_edge`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "edges", "reliability"})
    Settings: ClassVar[type[LossSettings]] = ReliableEdgeSettings

    def __init__(self, settings: ReliableEdgeSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.temperature, self.power = settings.temperature, settings.power

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the weighted mean over the batch's pairs and its own rows; 0 without pairs."""
        weight_P = 1 - batch.reliability_B[batch.source_P].clamp(0, 1) ** self.power
        return learn_from_neighbours(self.task, output, batch, weight_P, self.temperature)
