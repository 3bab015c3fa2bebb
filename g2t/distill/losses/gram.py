"""Macro loss: how all pairs of a batch lie to each other."""

from typing import ClassVar

from torch import Tensor

from g2t.distill.losses.base import Batch, Loss, Need
from g2t.distill.losses.distance import gram_distance
from g2t.student.base import Output


class Gram(Loss):
    """Global structure preserving on a sample (Joshi et al. 2022; NOSMOG's RSD, Tian et al. 2023).

    L = mean_ij (cos(h_i, h_j) - cos(t_i, t_j))², last block against the teacher's last layer, over
    the rows of the batch and never N × N. Sibling: `cka`, blind to scale and rotation.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"layers"})

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over all pairs of rows."""
        return gram_distance(output.blocks[-1], batch.layers[-1])
