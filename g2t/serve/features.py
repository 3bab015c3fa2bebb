"""Features as callers have them, turned into what a student reads.

Shape letters: `N` nodes, `F` features, `E` edges.
"""

from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from g2t.errors import InputError
from g2t.graph.csr import Csr, Features, from_pairs, from_scipy

#: Features of new nodes: dense [N, F] or sparse rows.
FeaturesLike: TypeAlias = Tensor | np.ndarray[Any, Any] | sp.spmatrix | sp.sparray | Csr
#: Edges source -> target: int [2, E] as PyG's `edge_index`, or rows of in-neighbours.
EdgesLike: TypeAlias = Tensor | np.ndarray[Any, Any] | Csr


def as_features(given: FeaturesLike, width: int, sparse: bool) -> Features:
    """Return features as dense float32 [N, F] or as sparse rows, whichever the student reads.

    Raises InputError for another width, for what are no numbers, and for NaN or infinity.
    """
    matrix = _matrix(given)
    if matrix.shape[1] != width:
        raise InputError(
            f"features have {matrix.shape[1]} columns, this student reads {width}",
            "give the columns that it learned from, in their order",
        )
    values = matrix.values() if isinstance(matrix, Csr) else matrix
    if not bool(values.isfinite().all()):
        raise InputError(
            f"row {_first_bad(matrix)} of the features has NaN or infinity (rows count from 0)",
            "fill in missing values",
        )
    if sparse:
        return matrix if isinstance(matrix, Csr) else from_scipy(sp.csr_matrix(matrix.numpy()))
    return matrix.dense() if isinstance(matrix, Csr) else matrix


def _matrix(given: FeaturesLike) -> Features:
    if isinstance(given, Csr):
        return given
    if isinstance(given, (sp.spmatrix, sp.sparray)):
        return from_scipy(sp.csr_matrix(given))
    tensor = torch.as_tensor(given)
    if tensor.dim() != 2 or tensor.is_complex():
        raise InputError(
            f"features are {tensor.dtype} {list(tensor.shape)}, not numbers [nodes, features]",
            "give one row per node, also for one node alone",
        )
    return tensor.detach().cpu().float()


def _first_bad(matrix: Features) -> int:
    if isinstance(matrix, Csr):
        return int(matrix.row_E[~matrix.values().isfinite()][0])
    return int((~matrix.isfinite()).any(1).nonzero()[0])


def as_edges(given: EdgesLike, nodes: int, undirected: bool) -> Csr:
    """Return edges as rows of in-neighbours; undirected ones are stored both ways.

    Raises InputError for another shape and for an end outside 0 … nodes - 1.
    """
    if isinstance(given, Csr):
        if len(given) != nodes:
            raise InputError(f"edges are of {len(given)} nodes, features of {nodes}")
        return given
    pairs = torch.as_tensor(given)
    whole = not (pairs.is_floating_point() or pairs.is_complex() or pairs.dtype == torch.bool)
    if pairs.dim() != 2 or pairs.shape[0] != 2 or not whole:
        raise InputError(
            f"edges are {pairs.dtype} {list(pairs.shape)}, not whole numbers [2, edges]",
            "row 0 holds the sources, row 1 the targets, as in PyG's edge_index",
        )
    pairs = pairs.cpu().long()
    if pairs.numel() and not 0 <= int(pairs.min()) <= int(pairs.max()) < nodes:
        raise InputError(f"an edge leads to a node outside 0 … {nodes - 1}")
    source_E, target_E = pairs
    if undirected:
        source_E, target_E = torch.cat([source_E, target_E]), torch.cat([target_E, source_E])
    return from_pairs(source_E, target_E, nodes)


def no_edges(nodes: int) -> Csr:
    """Return the edges of nodes that have none."""
    start_N = torch.zeros(nodes + 1, dtype=torch.int64)
    return Csr(start_N, torch.empty(0, dtype=torch.int32), None, nodes)
