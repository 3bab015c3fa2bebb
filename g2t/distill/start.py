"""Where a student starts: landmarks at k-means centres of the teacher's layers."""

import warnings
from collections.abc import Sequence

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from g2t.cache.reader import Rows
from g2t.cache.stream import take
from g2t.distill.losses.align import depth_map, standardised

#: Rows that k-means looks at; no others are read.
SAMPLE = 10_000


def landmark_centres(
    layers: Sequence[Rows], blocks: int, landmarks: int, seed: int
) -> list[Tensor]:
    """Return for each block the centres [M, D] of the teacher layer at its depth.

    The layer's columns are standardised first, so that no single one decides.
    """
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randperm(len(layers[0]), generator=generator)[:SAMPLE]
    chosen = depth_map(blocks, len(layers))
    return [_centres(take(layers[layer], sample).float(), landmarks, seed) for layer in chosen]


def _centres(sample_SD: Tensor, landmarks: int, seed: int) -> Tensor:
    data = standardised(sample_SD).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty cluster keeps its start, which is fine here
        centres, _ = kmeans2(data, min(landmarks, len(data)), minit="++", rng=seed)
    return torch.from_numpy(centres)
