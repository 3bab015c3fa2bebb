"""Clusters of a graph by METIS, for batches that lose few edges (Chiang et al. 2019)."""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from g2t.errors import MissingExtra, UsageError
from g2t.graph.csr import Csr


def cluster(edges: Csr, parts: int, seed: int) -> Tensor:
    """Return the cluster of every node, int64 [N]; direction and self-loops do not count.

    Raises MissingExtra without pymetis, UsageError for more clusters than nodes.
    """
    if parts > len(edges):
        raise UsageError(f"train.parts is {parts}, the graph has {len(edges)} nodes")
    try:
        import pymetis
    except ImportError:
        raise MissingExtra(
            "train.sampler=clusters needs the package pymetis, which is not installed",
            "pip install 'g2t[partition]', or use train.sampler=neighbour",
        ) from None
    matrix = edges.scipy()
    both = sp.csr_matrix(matrix + matrix.T)
    both.setdiag(0)
    both.eliminate_zeros()
    adjacency = pymetis.CSRAdjacency(both.indptr, both.indices)
    options = pymetis.Options(seed=seed % 2**31)
    _, found = pymetis.part_graph(parts, adjacency=adjacency, options=options)
    return torch.from_numpy(np.asarray(found, dtype=np.int64))
