"""Macro loss: a student's blocks should tell which cluster of the teacher's layer a node is in."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from g2t.distill.losses.align import depth_map
from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes
from g2t.student.base import Output


class Codebook(Loss):
    """Codes of the teacher's layers as targets, after VQGraph (Yang et al. 2024).

    Block l of L answers, by a linear head of its own, which k-means code c the row has in teacher
    layer φ(l) = ⌈l · L' / L⌉: L = mean_l mean_i -log softmax(W_l h_i)[c_i,φ(l)]. VQGraph trains its
    codebook with the teacher and matches soft assignments, softmax over the distances to all codes,
    on the last layer; here the teacher stays as it is, codes are hard, and every layer has its own.
    When: for embeddings that cluster as the teacher's do. Sibling: `align`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"codes"})

    def __init__(self, settings: LossSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.layers = depth_map(len(sizes.student), len(sizes.codes))
        self.heads = nn.ModuleList(
            nn.Linear(width, sizes.codes[layer])
            for width, layer in zip(sizes.student, self.layers, strict=True)
        )

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over blocks and rows."""
        entropies = [
            F.cross_entropy(head(block), batch.codes_BL[:, layer])
            for head, block, layer in zip(self.heads, output.blocks, self.layers, strict=True)
        ]
        return torch.stack(entropies).mean()
