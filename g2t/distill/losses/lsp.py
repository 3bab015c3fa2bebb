"""Edge loss: which neighbours resemble a node most should be the same to student and teacher."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, Need, nothing
from g2t.student.base import Output


class LSP(Loss):
    """Local structure preserving (Yang et al. 2020), with cosine similarity.

    For node v, S_v is the softmax over its in-neighbours u of cos(h_u, h_v), on the last block and
    the teacher's last layer. L = mean_v KL(S_v^student ‖ S_v^teacher). The teacher's cosines are
    cached as edge scores, so its layers are not read. Sibling: `edge_low`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"edges", "edge_scores"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over nodes with neighbours in the batch; 0 without any."""
        if len(batch.source_P) == 0:
            return nothing(output)
        unit_BD = F.normalize(output.blocks[-1], dim=1)
        ours_P = (unit_BD[batch.source_P] * unit_BD[batch.target_P]).sum(1)
        ours_P = local_log_softmax(ours_P, batch.target_P)
        theirs_P = local_log_softmax(batch.score_P, batch.target_P)
        nodes = len(torch.unique(batch.target_P))
        return (ours_P.exp() * (ours_P - theirs_P)).sum() / nodes


def local_log_softmax(cosine_P: Tensor, target_P: Tensor) -> Tensor:
    """Return log S of every pair [P]: the softmax runs over the pairs of one target."""
    # Cosines are bounded by 1, so the exponential needs no shift.
    total_B = cosine_P.new_zeros(int(target_P.max()) + 1)
    return cosine_P - total_B.index_add(0, target_P, cosine_P.exp())[target_P].log()
