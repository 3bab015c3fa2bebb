"""What every source does alike: clean edges, choose the metric, turn masks into splits."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from g2t.config import Settings
from g2t.errors import InputError
from g2t.graph.bundle import Parts
from g2t.graph.csr import Csr, Features, from_pairs
from g2t.metrics import Metric

Note = Callable[[str], None]


class SourceSettings(Settings):
    """What can be set for every source.

    `directed`: keep edges one-way, or store both ways (None: as the source has them; files of a
    user are undirected). `metric`: `auto` is the source's own, accuracy where it has none.
    """

    directed: bool | None = None
    metric: Literal["auto", "accuracy", "roc_auc"] = "auto"


def clean_edges(
    source_E: Tensor, target_E: Tensor, nodes: int, directed: bool | None, note: Note
) -> tuple[Csr, bool]:
    """Return the edges as rows of in-neighbours, each once, and whether they are directed.

    Undirected edges are stored both ways; `directed=None` leaves the pairs as they are and tells
    which they are. Self-loops are kept. What was merged or kept is said through `note`.
    """
    edges = from_pairs(source_E, target_E, nodes)
    merged = len(source_E) - len(edges.column_E)
    row_E, column_E = edges.row_E, edges.column_E.long()
    loops = int((row_E == column_E).sum())
    if directed is not True:
        both = from_pairs(torch.cat([column_E, row_E]), torch.cat([row_E, column_E]), nodes)
        symmetric = len(both.column_E) == len(edges.column_E)
        directed = directed is None and not symmetric
        if not directed and not symmetric:
            # Of n one-way pairs, 2(n - r) are stored when r of them came in both directions.
            merged += len(column_E) - loops - (len(both.column_E) - loops) // 2
            edges = both
    if merged:
        note(f"{merged} duplicate edges merged{'' if directed else ' (a-b and b-a are one edge)'}")
    if loops:
        note(f"{loops} self-loops kept")
    return edges, directed


def choose_metric(wanted: str, own: Metric, classes: int) -> Metric:
    """Return the metric that was asked for, or the source's own for `auto`.

    Raises InputError for ROC-AUC on other than two classes.
    """
    if wanted == "roc_auc" and classes != 2:
        raise InputError(
            f"ROC-AUC needs two classes, and this graph has {classes}", "use --set metric=accuracy"
        )
    return own if wanted == "auto" else wanted  # type: ignore[return-value]


def settled(features: Csr) -> Features:
    """Return sparse features, made dense where more than a quarter is filled, as `compact` does."""
    rows, width = features.shape
    return features.dense() if len(features.column_E) > rows * width / 4 else features


def note_unlabelled(label_N: Tensor, note: Note) -> None:
    """Say how many nodes have no label, if any."""
    unlabelled = int((label_N < 0).sum())
    if unlabelled:
        note(f"{unlabelled} nodes have no label (-1)")


def mask_splits(
    masks: tuple[Tensor, Tensor, Tensor], label_N: Tensor, note: Note
) -> dict[str, Parts]:
    """Turn train, val and test masks into splits: [N] is `public`, [N, S] are `official:0` ….

    A split without training nodes is skipped; nodes without a label are left out, with a note.
    """
    if masks[0].dim() == 1:
        named = {"public": masks}
    else:
        named = {
            f"official:{i}": (masks[0][:, i], masks[1][:, i], masks[2][:, i])
            for i in range(masks[0].shape[1])
        }
    splits = {}
    for name, parts in named.items():
        unlabelled = sum(int((part & (label_N < 0)).sum()) for part in parts)
        if unlabelled:
            note(f"{unlabelled} nodes without a label are left out of split {name}")
        train, val, test = ((part & (label_N >= 0)).nonzero().flatten() for part in parts)
        if len(train):
            splits[name] = Parts(train, val, test)
    return splits
