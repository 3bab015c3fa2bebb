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
    the teacher's last layer. L = mean_v KL(S_v^student ‖ S_v^teacher). Sibling: `edge_low`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"layers", "edges"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over nodes with neighbours in the batch; 0 without any."""
        if len(batch.source_P) == 0:
            return nothing(output)
        ours_P = local_log_softmax(output.blocks[-1], batch)
        theirs_P = local_log_softmax(batch.layers[-1], batch)
        nodes = len(torch.unique(batch.target_P))
        return (ours_P.exp() * (ours_P - theirs_P)).sum() / nodes


def local_log_softmax(states_BD: Tensor, batch: Batch) -> Tensor:
    """Return log S of every pair [P]: the softmax runs over the pairs of one target."""
    unit_BD = F.normalize(states_BD, dim=1)
    score_P = (unit_BD[batch.source_P] * unit_BD[batch.target_P]).sum(1)
    # Cosines are bounded by 1, so the exponential needs no shift.
    total_B = torch.zeros(len(states_BD), device=score_P.device, dtype=score_P.dtype)
    total_B = total_B.index_add(0, batch.target_P, score_P.exp())
    return score_P - total_B[batch.target_P].log()
