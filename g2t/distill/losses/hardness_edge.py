"""Edge loss: a node that is hard to learn gets more help from neighbours that the teacher knows."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes
from g2t.distill.losses.neighbours import learn_from_neighbours
from g2t.student.base import Output
from g2t.task import entropy, probabilities


class HardnessEdgeSettings(LossSettings):
    """`loss.hardness_edge.*`."""

    temperature: float = Field(1.0, gt=0)
    alpha: float = Field(1.0, gt=0, description="α in the weight 1 - exp(-α …) of a neighbour")


class HardnessEdge(Loss):
    """Hardness-aware distillation, HGMD (Wu et al. 2024).

    L = Σ w_uv KL(softmax(t_v / T) ‖ softmax(z_u / T)) / Σ w_uv over self-loops, with w = 1, and
    over edges v -> u, with w_uv = 1 - exp(-α cos(p_u, p_v) √(H(p_u) H(q_u)) / H(p_v)), p the
    teacher's probabilities, q the student's, H their entropy. The authors keep an edge with
    probability w and let α fall to a hundredth during training; here edges are weighted instead, so
    a batch has one value, α stays, and no gradient goes through w, or a student would gain by being
    sure. Several labels count as in `soft`, their entropies add up. When: homophilous graphs.
    Sibling: `reliable_edge`, whose weights ask the neighbour alone.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "edges"})
    Settings: ClassVar[type[LossSettings]] = HardnessEdgeSettings

    def __init__(self, settings: HardnessEdgeSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.temperature, self.alpha = settings.temperature, settings.alpha

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the weighted mean over the batch's pairs and its own rows; 0 without pairs."""
        weight_P = self._weights(output, batch)
        return learn_from_neighbours(self.task, output, batch, weight_P, self.temperature)

    @torch.no_grad()
    def _weights(self, output: Output, batch: Batch) -> Tensor:
        u_P, v_P = batch.target_P, batch.source_P
        p_BC = probabilities(self.task, batch.logits_BC)
        theirs_B = entropy(self.task, batch.logits_BC)
        hardness_B = (theirs_B * entropy(self.task, output.logits_BC)).clamp(min=0).sqrt()
        likeness_P = F.cosine_similarity(p_BC[u_P], p_BC[v_P], dim=1)
        ease_P = hardness_B[u_P] / theirs_B[v_P].clamp(min=1e-6)
        return 1 - (-self.alpha * likeness_P * ease_P).exp()
