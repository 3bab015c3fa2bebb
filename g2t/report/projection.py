"""Embeddings in two dimensions: PCA always, t-SNE where scikit-learn is there.

Shape letters: `B` chosen nodes, `D` width.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph, read_graph
from g2t.report.gather import Cell, Entry

if TYPE_CHECKING:
    from g2t.evaluate.case import Setup

#: Nodes that are shown, drawn with a fixed seed, and students.
POINTS, STUDENTS = 600, 5
#: Where t-SNE stands still enough.
NEIGHBOURS = 30.0


def has_tsne() -> bool:
    """Tell whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def setup_of(cell: Cell, paths: Sequence[Path]) -> "Setup | None":
    """Open the first of some graphs that is the cell's; None where none is.

    Raises InputError and IntegrityError where one cannot be read.
    """
    from g2t.evaluate import Setup

    opened = (Setup(path) for path in paths)
    return next((setup for setup in opened if setup.fingerprint == cell.graph_digest), None)


def check_given(given: Path, cells: Sequence[Cell]) -> None:
    """Raise IntegrityError where the given graph is that of no cell."""
    graph = read_graph(given)
    if graph.fingerprints()["graph"] not in [cell.graph_digest for cell in cells]:
        raise IntegrityError(
            f"no student of this report learned from graph {given} ({graph.name})",
            "give the graph that their teacher was taught on, or leave --graph out",
        )


def projections(cell: Cell, setup: "Setup", tsne: bool) -> dict[str, Any] | None:
    """Return two coordinates of some nodes by each student, first seed, all hops at hand.

    Nodes are those in use by the split of the first student, so that panels show the same ones;
    colours are classes, -1 where a node has none or several. None where no student is at hand.
    """
    panels, index_B = [], None
    methods = {"pca": pca, **({"t-sne": tsne_of} if tsne else {})}
    chosen = [row for row in cell.rows if row.first.student is not None][:STUDENTS]
    for row in chosen:
        rows_ND, nodes_N = _embedding(row.first, setup)
        if index_B is None:
            draw = torch.Generator().manual_seed(0)
            index_B = nodes_N[torch.randperm(len(nodes_N), generator=draw)[:POINTS].sort().values]
        known_B = index_B[torch.isin(index_B, nodes_N)]
        rows_BD = rows_ND[torch.searchsorted(nodes_N, known_B)]
        for name, method in methods.items():
            panels.append(
                {
                    "label": row.label,
                    "method": name,
                    "seed": row.first.seed,
                    "points": _rounded(method(rows_BD)),
                    "classes": _classes(setup.graph, known_B),
                }
            )
    return {"names": list(setup.graph.classes), "panels": panels} if panels else None


def _embedding(entry: Entry, setup: "Setup") -> tuple[Tensor, Tensor]:
    """Return the last block's embedding [N, D] of the nodes in use, and these nodes [N]."""
    from g2t.evaluate.answers import Asked
    from g2t.evaluate.card.case import embeddings
    from g2t.evaluate.case import open_case

    assert entry.student is not None  # rows without one are not asked for
    case = open_case(entry.student.path, setup)
    asked = Asked(case.student.model, setup.graph, case.split, None)
    return embeddings(asked)[-1].double(), case.split.nodes


def pca(rows_BD: Tensor) -> Tensor:
    """Return the first two principal components [B, 2], zero where there are fewer.

    Of each, the entry of largest magnitude is positive, so that signs are no matter of luck.
    """
    centred_BD = rows_BD.double() - rows_BD.double().mean(0)
    u, s, _ = torch.linalg.svd(centred_BD, full_matrices=False)
    scores = torch.zeros(len(rows_BD), 2, dtype=torch.float64)
    found = (u * s)[:, :2]
    scores[:, : found.shape[1]] = found
    largest = scores.abs().argmax(0)
    sign = torch.sign(scores[largest, torch.arange(2)])
    return scores * sign.where(sign != 0, torch.ones(()).double())


def tsne_of(rows_BD: Tensor) -> Tensor:
    """Return t-SNE [B, 2] (van der Maaten & Hinton 2008), started from PCA; of a few nodes, PCA."""
    from sklearn.manifold import TSNE

    if len(rows_BD) < 8:
        return pca(rows_BD)
    perplexity = min(NEIGHBOURS, (len(rows_BD) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init="pca", random_state=0, n_jobs=1)
    return torch.from_numpy(model.fit_transform(rows_BD.float().numpy())).double()


def _rounded(points_B2: Tensor) -> list[list[float]]:
    """Return points within [-1, 1], as exact as a figure can show."""
    scale = float(points_B2.abs().max()) or 1.0
    return [[round(x, 3) for x in point] for point in (points_B2 / scale).tolist()]


def _classes(graph: Graph, nodes_B: Tensor) -> list[int]:
    labels = graph.labels[nodes_B]
    return [-1] * len(nodes_B) if labels.dim() == 2 else [int(label) for label in labels]


def class_counts(panel: Mapping[str, Any]) -> dict[int, int]:
    """Return how many points of a panel are of each class."""
    counts: dict[int, int] = {}
    for label in panel["classes"]:
        counts[label] = counts.get(label, 0) + 1
    return counts
