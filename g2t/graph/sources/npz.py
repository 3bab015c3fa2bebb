"""`npz:FILE`: one numpy archive, laid out as the filtered heterophilous graphs are.

Arrays: `node_features` [N, F], `node_labels` [N] (0 … C-1, -1 where unknown) or [N, C] (0 or 1 for
each label, -1 or NaN where unknown), `edges` [E, 2] and optional boolean `train_masks`,
`val_masks`, `test_masks` [S, N] (Platonov et al. 2023).
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from g2t.errors import InputError
from g2t.graph.bundle import Graph, Parts
from g2t.graph.csr import Features, compact
from g2t.graph.sources import Request, Source
from g2t.graph.sources.assemble import (
    SourceSettings,
    choose_metric,
    clean_edges,
    mask_splits,
    note_unlabelled,
)
from g2t.graph.sources.labels import count_classes, label_matrix
from g2t.task import task_of

#: What numpy and scipy raise on files that are damaged, foreign, or hold pickles.
UNREADABLE = (OSError, ValueError, EOFError, KeyError, MemoryError, BadZipFile, zlib.error)

MASKS = ("train_masks", "val_masks", "test_masks")


def load_arrays(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Read named arrays of an .npz file, never a pickle; raises InputError naming what is wrong."""
    with _opened(path) as file:
        archive = _archive(file, path)
        missing = [name for name in names if name not in archive.files]
        if missing:
            have = ", ".join(archive.files) or "nothing"
            raise InputError(f"{path} has no array {missing[0]!r}; it has {have}")
        wanted = [*names, *(name for name in optional if name in archive.files)]
        return {name: _member(archive, name, path) for name in wanted}


def _opened(path: Path) -> BinaryIO:
    # numpy, given a path, forgets to close a file that it cannot read.
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _archive(file: BinaryIO, path: Path) -> Any:
    try:
        archive = np.load(file, allow_pickle=False)
    except UNREADABLE as error:
        raise InputError(f"{path} is no readable .npz file: {error}") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{path} is no .npz file: it holds a single array")
    return archive


def _member(archive: Any, name: str, path: Path) -> Any:
    try:
        return archive[name]
    except UNREADABLE as error:
        raise InputError(
            f"array {name!r} of {path} cannot be read: {error}",
            "save plain numbers; object arrays are pickles and are not read",
        ) from None


def dense_features(array: Any, what: str) -> Features:
    """Return a numeric [N, F] array as features, sparse where that pays; else raise InputError."""
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "biuf":
        raise InputError(
            f"{what} is {array.dtype} {list(array.shape)}, not numbers [nodes, features]"
        )
    with np.errstate(over="ignore"):
        values_NF = array.astype(np.float32, copy=False)
    return compact(torch.from_numpy(np.ascontiguousarray(values_NF)))


def _files(settings: SourceSettings, request: Request) -> dict[str, Path]:
    return {"file": request.file(request.argument)}


def _read(settings: SourceSettings, request: Request) -> Graph:
    path = request.file(request.argument)
    arrays = load_arrays(path, ("node_features", "node_labels", "edges"), MASKS)
    labels = _labels(arrays["node_labels"], path)
    nodes, classes = len(labels), count_classes(labels)
    features = dense_features(arrays["node_features"], f"node_features of {path}")
    if len(features) != nodes:
        raise InputError(f"{path} has {len(features)} rows of node_features and {nodes} labels")
    pairs_E2 = _pairs(arrays["edges"], nodes, path)
    note_unlabelled(labels, request.note)
    edges, directed = clean_edges(
        pairs_E2[:, 0], pairs_E2[:, 1], nodes, bool(settings.directed), request.note
    )
    return Graph(
        name=path.stem,
        features=features,
        edges=edges,
        labels=labels,
        classes=tuple(str(label) for label in range(classes)),
        metric=choose_metric(settings.metric, "accuracy", task_of(labels, classes), classes),
        directed=directed,
        splits=_splits(arrays, labels, request, path),
    )


def _labels(array: Any, path: Path) -> Tensor:
    """Check [N] labels: whole numbers from -1 on, every class 0 … C-1 present; [N, C]: 0 or 1."""
    if array.ndim == 2:
        return label_matrix(array, f"node_labels of {path}")
    whole = array.dtype.kind in "iu" or (
        array.dtype.kind == "f" and bool((np.isfinite(array) & (array == np.floor(array))).all())
    )
    if array.ndim != 1 or not whole or len(array) == 0:
        raise InputError(
            f"node_labels of {path} is {array.dtype} {list(array.shape)}, not whole numbers [nodes]"
        )
    present = np.unique(array)
    classes = present[present >= 0]
    if len(classes) == 0:
        raise InputError(f"no node of {path} has a label")
    wrong = present[(present < -1) | (present >= len(classes))]
    if len(wrong):
        node = int(np.flatnonzero(array == wrong[0])[0])
        raise InputError(
            f"label {int(wrong[0])} of node {node} in {path} is out of range: "
            f"{len(classes)} classes occur",
            "labels are 0 … C-1 without gaps, and -1 where unknown",
        )
    return torch.from_numpy(array.astype(np.int64))


def _pairs(array: Any, nodes: int, path: Path) -> Tensor:
    """Check [E, 2] edges: whole numbers that name known nodes."""
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise InputError(
            f"edges of {path} is {array.dtype} {list(array.shape)}, not whole numbers [edges, 2]"
        )
    if len(array) == 0:
        raise InputError(f"{path} has no edges", "a teacher needs edges")
    wrong = np.argwhere((array < 0) | (array >= nodes))
    if len(wrong):
        row, side = wrong[0]
        raise InputError(
            f"row {row} of edges in {path} leads to an unknown node {array[row, side]}",
            f"nodes are 0 … {nodes - 1}",
        )
    return torch.from_numpy(array.astype(np.int64))


def _splits(
    arrays: dict[str, Any], labels: Tensor, request: Request, path: Path
) -> dict[str, Parts]:
    given = [name for name in MASKS if name in arrays]
    if not given:
        return {}
    if len(given) < len(MASKS):
        absent = next(name for name in MASKS if name not in arrays)
        raise InputError(f"{path} has {given[0]!r} but no {absent!r}")
    shapes = {arrays[name].shape for name in MASKS}
    shape = arrays[MASKS[0]].shape
    if len(shapes) > 1 or len(shape) != 2 or shape[1] != len(labels):
        raise InputError(f"the masks of {path} are not all [splits, {len(labels)}]")
    if any(arrays[name].dtype.kind != "b" for name in MASKS):
        raise InputError(f"the masks of {path} are not boolean")
    train, val, test = (torch.from_numpy(arrays[name]).T for name in MASKS)
    return mask_splits((train, val, test), labels, request.note)


NPZ = Source(SourceSettings, _read, _files, ("FILE",))
