"""Fixed projections of wide features to few columns, made once and kept with the cache."""

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from g2t.errors import UsageError
from g2t.export.generic import gather
from g2t.export.plan import projected_width
from g2t.export.source import FeatureSource
from g2t.graph.csr import Csr
from g2t.graph.lazy import GraphFile

#: An SVD looks at this many runs of this many rows, evenly spread.
RUNS, RUN = 64, 1024


def make_projection(project: str, graph: GraphFile, nodes: Tensor) -> Tensor:
    """Return the projection `svd:W` or `random:W` of a graph's features, float32 [F, W].

    `svd`: the right singular vectors of up to 65,536 rows with the W largest singular values.
    `random`: Gaussian with variance 1/W (Johnson & Lindenstrauss 1984). Both are the same at every
    call. Raises UsageError where W is not below the features' rank bound.
    """
    width, features = projected_width(project), graph.width
    if project.startswith("random"):
        generator = torch.Generator().manual_seed(0)
        drawn: Tensor = torch.randn(features, width, generator=generator) / width**0.5
        return drawn
    sample = sampled_rows(len(nodes))
    if width >= min(features, len(sample)):
        raise UsageError(
            f"svd:{width} asks for as many directions as there are columns or rows",
            f"choose fewer than {min(features, len(sample))}",
        )
    rows = gather(FeatureSource(graph, nodes), sample)
    matrix = rows.scipy() if isinstance(rows, Csr) else rows.numpy()
    begin = np.random.default_rng(0).standard_normal(min(matrix.shape))
    _, _, right = scipy.sparse.linalg.svds(matrix.astype(np.float64), k=width, v0=begin)
    right = right[::-1]  # largest first
    sign = np.sign(right[np.arange(width), np.abs(right).argmax(1)])
    return torch.from_numpy((right * sign[:, None]).T.astype(np.float32).copy())


def sampled_rows(rows: int) -> Tensor:
    """Return ascending row numbers: all where they are few, else evenly spread runs."""
    if rows <= RUNS * RUN:
        return torch.arange(rows)
    first = torch.linspace(0, rows - RUN, RUNS).long()
    return (first[:, None] + torch.arange(RUN)).flatten()
