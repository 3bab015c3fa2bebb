"""Macro loss: how the communities of the graph lie to each other."""

from typing import ClassVar

import torch
from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, Need, nothing
from g2t.distill.losses.distance import gram_distance
from g2t.student.base import Output

#: With fewer there is no arrangement to match.
LEAST_CLUSTERS = 3


class Cluster(Loss):
    """Cluster-level distillation of MuGSI (Yao et al. 2024), over the communities of one graph.

    L = ½ mean_ab (cos(s_a, s_b) - cos(t_a, t_b))², s_a and t_a the means of the last block and of
    the teacher's last layer over the rows of the batch that are in community a (Louvain, Blondel et
    al. 2008, on the observed edges). MuGSI cuts each of many small graphs and pools all its nodes;
    a batch has a sample of each community, so its means are noisy where that is small. When: larger
    batches, graphs with communities. Sibling: `gram`, over rows.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"layers", "clusters"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return half the mean over all pairs of communities; 0 for fewer than three."""
        found, place_B = torch.unique(batch.cluster_B, return_inverse=True)
        if len(found) < LEAST_CLUSTERS:
            return nothing(output)
        ours, theirs = (
            _pooled(states_BD, place_B, len(found))
            for states_BD in (output.blocks[-1], batch.layers[-1])
        )
        return gram_distance(ours, theirs) / 2


def _pooled(states_BD: Tensor, place_B: Tensor, count: int) -> Tensor:
    """Return the mean of the rows of every community, [count, D]."""
    sums = states_BD.new_zeros(count, states_BD.shape[1]).index_add(0, place_B, states_BD)
    return sums / place_B.bincount(minlength=count)[:, None]
