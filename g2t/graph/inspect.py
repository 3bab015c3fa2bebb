"""What a graph holds, in figures, with warnings for what may surprise in training."""

from typing import Any

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr, Features
from g2t.graph.splits import CPF_TRAIN, CPF_VAL
from g2t.graph.structure import without_self_loops
from g2t.task import labelled

SCHEMA = "g2t.graph-summary/1"


def summarize(graph: Graph) -> dict[str, Any]:
    """Return the figures of a graph as a JSON-able mapping.

    Degrees count (in-)neighbours, self-loops aside; `homophily` is the fraction of edges between
    labelled nodes, self-loops aside, whose ends share a label, None where there is no such edge, or
    where nodes have several labels. `classes` counts nodes by class, or those with a label of 1.
    """
    clean = without_self_loops(graph.edges)
    loops = len(graph.edges.column_E) - len(clean.column_E)
    isolated = int((_touched(clean) == 0).sum())
    count, component_N = connected_components(clean.scipy(), directed=False)
    size_K = torch.from_numpy(component_N).bincount()
    largest_N = torch.from_numpy(component_N) == size_K.argmax()
    features, several = _features(graph.features), graph.task == "multilabel"
    return {
        "schema": SCHEMA,
        "name": graph.name,
        "nodes": graph.nodes,
        "edges": len(graph.edges.column_E),
        "directed": graph.directed,
        "self_loops": loops,
        "isolated": isolated,
        "degree": _degree(clean),
        "components": {"count": int(count), "largest": int(size_K.max())},
        "features": features,
        "classes": _per_class(graph, labelled(graph.labels)),
        "unlabelled": int((~labelled(graph.labels)).sum()),
        "homophily": None if several else _homophily(clean, graph.labels),
        "task": graph.task,
        "metric": graph.metric,
        "splits": {
            name: [len(parts.train), len(parts.val), len(parts.test)]
            for name, parts in graph.splits.items()
        },
        "fingerprints": graph.fingerprints(),
        "warnings": [
            *_structure_warnings(graph, loops, isolated, features["empty_rows"]),
            *_label_warnings(graph, largest_N),
        ],
    }


def _touched(edges: Csr) -> Tensor:
    """Return the number of edges that enter or leave every node."""
    return edges.counts_N + edges.column_E.bincount(minlength=len(edges))


def _degree(edges: Csr) -> dict[str, float]:
    degree_N = edges.counts_N
    return {
        "mean": degree_N.double().mean().item(),
        "median": float(np.median(degree_N.numpy())),
        "max": int(degree_N.max()),
    }


def _features(features: Features) -> dict[str, Any]:
    if isinstance(features, Csr):
        kind, filled_N = "csr", features.counts_N
    else:
        kind, filled_N = "dense", features.count_nonzero(1)
    rows, width = features.shape
    return {
        "kind": kind,
        "width": width,
        "density": int(filled_N.sum()) / (rows * width),
        "empty_rows": int((filled_N == 0).sum()),
    }


def _per_class(graph: Graph, among_N: Tensor) -> dict[str, int]:
    known = graph.labels[among_N & labelled(graph.labels)]
    if graph.task == "multilabel":
        counts = (known == 1).sum(0).tolist()
    else:
        counts = known.bincount(minlength=len(graph.classes)).tolist()
    return dict(zip(graph.classes, counts, strict=True))


def _homophily(edges: Csr, label_N: Tensor) -> float | None:
    row_E, column_E = label_N[edges.row_E], label_N[edges.column_E.long()]
    known_E = (row_E >= 0) & (column_E >= 0)
    if not bool(known_E.any()):
        return None
    return (row_E == column_E)[known_E].double().mean().item()


def _structure_warnings(graph: Graph, loops: int, isolated: int, empty: int) -> list[str]:
    split = "random:60/20/20:SEED"
    if graph.task != "multilabel":
        split = f"cpf:SEED or {split}"
    found = {
        f"{loops} self-loops": loops > 0,
        f"{isolated} isolated nodes: only their own features speak for them": isolated > 0,
        "edges are directed: a teacher hears in-neighbours only": graph.directed,
        f"{empty} nodes have no feature that is not zero": empty > 0,
        f"no split comes with the graph: use {split}": not graph.splits,
    }
    return [text for text, true in found.items() if true]


def _label_warnings(graph: Graph, largest_N: Tensor) -> list[str]:
    unlabelled = int((~labelled(graph.labels)).sum())
    warnings = [f"{unlabelled} nodes have no label"] if unlabelled else []
    everywhere = _per_class(graph, labelled(graph.labels))
    empty = [name for name, count in everywhere.items() if count == 0]
    if empty:
        warnings.append(f"classes without a node: {', '.join(empty)}")
    if graph.task == "multilabel":
        return warnings
    need = CPF_TRAIN + CPF_VAL
    few = [name for name, count in _per_class(graph, largest_N).items() if count < need]
    if few:
        warnings.append(
            f"classes with fewer than {need} nodes in the largest component, "
            f"so no cpf split: {', '.join(few)}"
        )
    return warnings
