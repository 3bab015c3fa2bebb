"""Edge loss: a node's answer should fit what the teacher says of its neighbours."""

from typing import ClassVar

from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, Need
from g2t.distill.losses.neighbours import learn_from_neighbours
from g2t.student.base import Output


class EdgeLow(Loss):
    """Low-frequency knowledge of FF-G2M (Wu et al. 2023).

    L = mean over edges u -> v and self-loops of KL(softmax(t_u) ‖ softmax(z_v)): the student at v
    also learns from the teacher at v's neighbours, several labels as in `soft`. When:
    homophilous graphs. Siblings: `edge_high`, how neighbours differ; `lsp`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "edges"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over the batch's pairs and its own rows; 0 without pairs."""
        weight_P = batch.logits_BC.new_ones(len(batch.source_P))
        return learn_from_neighbours(self.task, output, batch, weight_P)
