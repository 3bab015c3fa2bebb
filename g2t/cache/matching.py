"""Which row of a foreign file belongs to which node: by id, every id once, none unknown."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2t.cache.rowfile import Ids
from g2t.errors import InputError
from g2t.graph.bundle import Graph


def name_of(graph: Graph, node: int) -> str:
    """Return the id that the user knows a node by."""
    return str(node) if graph.ids is None else graph.ids[node]


def places(graph: Graph, nodes_N: Tensor, ids: Ids, where: Path) -> Tensor:
    """Return for each of some nodes the row whose id is its own, int64 [N].

    `where` is the file that the ids come from. Raises InputError, naming the first id, where one is
    unknown to the graph or stands there twice, and where a node has none.
    """
    node_R = _nodes_of(graph, ids, where)
    place = torch.full((graph.nodes,), -1, dtype=torch.int64)
    rows_R = torch.arange(len(node_R))
    place[node_R] = rows_R
    if len(node_R):
        # Of a node's several rows, the last one that is written stays.
        first = torch.full((graph.nodes,), len(node_R)).scatter_reduce_(0, node_R, rows_R, "amin")
        again = (first[node_R] != rows_R).nonzero().flatten()
        if len(again):
            node = name_of(graph, int(node_R[again[0]]))
            raise InputError(f"{where} names node {node!r} twice, again in row {int(again[0]) + 1}")
    place_N = place[nodes_N]
    missing = (place_N < 0).nonzero().flatten()
    if len(missing):
        node, more = name_of(graph, int(nodes_N[missing[0]])), len(missing) - 1
        raise InputError(
            f"{where} has no row for node {node!r}" + (f", nor for {more} more" if more else ""),
            "every node of the split needs one, test nodes included",
        )
    return place_N


def _nodes_of(graph: Graph, ids: Ids, where: Path) -> Tensor:
    """Return the node of every id, int64 [R]; raises InputError for the first unknown one."""
    if graph.ids is None and isinstance(ids, np.ndarray):
        node_R = ids
    elif graph.ids is None:
        node_R = np.array([_number(text) for text in ids], dtype=np.int64)
    else:
        index = {text: node for node, text in enumerate(graph.ids)}
        texts = map(str, ids.tolist()) if isinstance(ids, np.ndarray) else ids
        node_R = np.array([index.get(text, -1) for text in texts], dtype=np.int64)
    unknown = np.flatnonzero((node_R < 0) | (node_R >= graph.nodes))
    if len(unknown):
        row = int(unknown[0])
        raise InputError(
            f"{where} names node {str(ids[row])!r} in row {row + 1}, which graph {graph.name} does "
            "not have",
            f"its nodes are called {name_of(graph, 0)} … {name_of(graph, graph.nodes - 1)}",
        )
    return torch.from_numpy(np.ascontiguousarray(node_R))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def refuse_not_finite(
    graph: Graph, nodes_B: Tensor, rows_BW: NDArray[np.float32], where: Path
) -> None:
    """Raise InputError, naming the first node, where a row is not finite in float32."""
    wrong = np.flatnonzero(~np.isfinite(rows_BW).all(1))
    if len(wrong):
        node = name_of(graph, int(nodes_B[wrong[0]]))
        raise InputError(
            f"{where} holds a number for node {node!r} that is missing, infinite or too large"
        )
