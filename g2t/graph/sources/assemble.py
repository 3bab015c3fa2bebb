"""What every source does alike: clean edges, choose the metric, turn masks into splits."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from g2t.config import Settings
from g2t.errors import InputError
from g2t.graph.bundle import Parts
from g2t.graph.csr import Csr, Features, from_pairs
from g2t.metrics import METRICS, Metric
from g2t.task import Task, labelled

Note = Callable[[str], None]


class SourceSettings(Settings):
    """What can be set for every source.

    `directed`: keep edges one-way, or store both ways (None: as the source has them; files of a
    user are undirected). `metric`: `auto` is the source's own, else accuracy, or roc_auc where
    nodes have several labels.
    """

    directed: bool | None = None
    metric: Literal["auto", "accuracy", "roc_auc", "f1"] = "auto"


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


def choose_metric(
    wanted: Metric | Literal["auto"], own: Metric, task: Task, classes: int
) -> Metric:
    """Return the metric that was asked for, or for `auto` the source's own if it fits the task.

    Raises InputError for a metric that the task does not have.
    """
    known = METRICS[task]
    if wanted == "auto":
        return own if own in known else known[0]
    if wanted not in known:
        if wanted == "roc_auc":
            what = f"ROC-AUC needs two classes, and this graph has {classes}"
        else:
            what = f"metric {wanted} does not go with the {task} task of this graph"
        raise InputError(what, f"use --set metric={known[0]}")
    return wanted


def settled(features: Csr) -> Features:
    """Return sparse features, made dense where more than a quarter is filled, as `compact` does."""
    rows, width = features.shape
    return features.dense() if len(features.column_E) > rows * width / 4 else features


def note_unlabelled(labels: Tensor, note: Note) -> None:
    """Say how many nodes have no label, if any."""
    unlabelled = int((~labelled(labels)).sum())
    if unlabelled:
        note(f"{unlabelled} nodes have no label (-1)")


def mask_splits(
    masks: tuple[Tensor, Tensor, Tensor], labels: Tensor, note: Note
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
    known_N = labelled(labels)
    for name, parts in named.items():
        unlabelled = sum(int((part & ~known_N).sum()) for part in parts)
        if unlabelled:
            note(f"{unlabelled} nodes without a label are left out of split {name}")
        train, val, test = ((part & known_N).nonzero().flatten() for part in parts)
        if len(train):
            splits[name] = Parts(train, val, test)
    return splits
