"""Where a student starts: landmarks at k-means centres of the teacher's layers."""

import warnings

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from g2t.distill.losses.align import depth_map, standardised

#: Rows that k-means looks at.
SAMPLE = 10_000


def landmark_centres(
    layers: tuple[Tensor, ...], blocks: int, landmarks: int, seed: int
) -> list[Tensor]:
    """Return for each block the centres [M, D] of the teacher layer at its depth.

    The layer's columns are standardised first, so that no single one decides.
    """
    return [_centres(layers[layer], landmarks, seed) for layer in depth_map(blocks, len(layers))]


def _centres(layer_ND: Tensor, landmarks: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(layer_ND), generator=generator)[:SAMPLE]
    data = standardised(layer_ND[rows].float()).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty cluster keeps its start, which is fine here
        centres, _ = kmeans2(data, min(landmarks, len(data)), minit="++", rng=seed)
    return torch.from_numpy(centres)
