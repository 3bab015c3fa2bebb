"""Multiscale alignment: every student block against a teacher layer."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes
from g2t.student.base import Output


class Align(Loss):
    """Multiscale feature alignment by depth, after the hints of FitNets (Romero et al. 2015).

    Block l of L is projected and compared with teacher layer φ(l) = ⌈l · L' / L⌉ of L', whose
    columns are standardised over the batch: L = mean_l mean_i (1 - cos(W_l h_i, t_i)).
    When: for embeddings that resemble the teacher's; it has not raised accuracy.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"layers"})

    def __init__(self, settings: LossSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.layers = depth_map(len(sizes.student), len(sizes.teacher))
        self.projectors = nn.ModuleList(
            nn.Linear(width, sizes.teacher[layer])
            for width, layer in zip(sizes.student, self.layers, strict=True)
        )

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean cosine distance over blocks and rows."""
        distances = [
            1 - F.cosine_similarity(project(block), standardised(batch.layers[layer]), dim=1).mean()
            for project, block, layer in zip(
                self.projectors, output.blocks, self.layers, strict=True
            )
        ]
        return torch.stack(distances).mean()


def depth_map(blocks: int, layers: int) -> tuple[int, ...]:
    """Return, for each of L blocks, the index of the teacher layer at the same relative depth."""
    return tuple(-(-(block * layers) // blocks) - 1 for block in range(1, blocks + 1))


def standardised(states_BD: Tensor) -> Tensor:
    """Return columns with mean 0 and deviation 1; constant columns become 0."""
    centred_BD = states_BD - states_BD.mean(0)
    return centred_BD / centred_BD.std(0, unbiased=False).clamp(min=1e-6)
