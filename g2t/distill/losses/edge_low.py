"""Edge loss: a node's answer should fit what the teacher says of its neighbours."""

from typing import ClassVar

import torch
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, Need, nothing
from g2t.distill.losses.labels import tempered_kl
from g2t.student.base import Output


class EdgeLow(Loss):
    """Low-frequency knowledge of FF-G2M (Wu et al. 2023).

    L = mean over edges u -> v and self-loops of KL(softmax(t_u) ‖ softmax(z_v)): the student at v
    also learns from the teacher at v's neighbours, several labels as in `soft`. When:
    homophilous graphs. Sibling: `lsp`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "edges"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over the batch's pairs and its own rows; 0 without pairs."""
        if len(batch.source_P) == 0:
            return nothing(output)
        anchors = torch.unique(batch.target_P)
        pairs = len(batch.source_P) + len(anchors)
        own = tempered_kl(self.task, output.logits_BC[anchors], batch.logits_BC[anchors])
        neighbours = tempered_kl(
            self.task, output.logits_BC[batch.target_P], batch.logits_BC[batch.source_P]
        )
        return (own * len(anchors) + neighbours * len(batch.source_P)) / pairs
