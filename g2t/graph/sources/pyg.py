"""PyTorch Geometric's own datasets: its classes find, download and parse; we keep sparse what is.

Raw files are read from `ROOT/CLASS/NAME/raw`, ROOT being `--root` or `$G2T_HOME/datasets`. PyG
works on links to them in a temporary folder, so nothing is written beside them.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric import datasets

from g2t.errors import InputError, UsageError, did_you_mean
from g2t.files import home
from g2t.graph.bundle import Graph, Parts
from g2t.graph.csr import Features, compact, from_scipy
from g2t.graph.sources import Request, Source
from g2t.graph.sources.assemble import (
    SourceSettings,
    choose_metric,
    clean_edges,
    mask_splits,
    note_unlabelled,
    settled,
)
from g2t.graph.sources.labels import count_classes, label_matrix
from g2t.graph.sources.npz import load_arrays
from g2t.metrics import Metric
from g2t.task import task_of

PARTS = ("data", "indices", "indptr", "shape")


@dataclass(frozen=True)
class Family:
    """One dataset class of PyG: its names, and the metric that its binary sets are scored with.

    `sparse`: the raw .npz is read here, because PyG would make its features dense.
    """

    dataset: Any
    names: tuple[str, ...]
    sparse: bool = False
    binary: Metric = "accuracy"

    def find(self, name: str) -> str:
        """Return the name as PyG writes it; raises UsageError for one that PyG does not have."""
        known = {_plain(choice): choice for choice in self.names}
        if _plain(name) not in known:
            title = self.dataset.__name__
            raise UsageError(f"{title} has no dataset {name!r}", did_you_mean(name, self.names))
        return known[_plain(name)]


@dataclass(frozen=True)
class _Raw:
    """What a dataset's raw files say, before it is cleaned."""

    features: Features
    source_E: Tensor
    target_E: Tensor
    labels: Tensor
    splits: dict[str, Parts]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _without(dataset: Any, *steps: str) -> Any:
    """Return a dataset class of PyG that leaves out some of its steps."""
    return type(dataset.__name__, (dataset,), dict.fromkeys(steps, lambda *_: None))


def _raw_paths(family: Family, root: Path, name: str) -> list[Path]:
    """Return where PyG expects the raw files; neither downloads nor processes."""
    silent = _without(family.dataset, "_download", "_process", "load")
    return [Path(path) for path in silent(str(root / family.dataset.__name__), name).raw_paths]


def _raw_files(family: Family, settings: SourceSettings, request: Request) -> dict[str, Path]:
    """Return the raw files by their names, downloaded if no root is given and they are not here."""
    name = family.find(request.argument)
    root = request.root or home() / "datasets"
    paths = _raw_paths(family, root, name)
    if request.root is None and not all(path.exists() for path in paths):
        request.note(f"downloading {family.dataset.__name__} {name} to {paths[0].parent}")
        _download(family, name, paths[0].parent)
    if not paths[0].parent.is_dir():
        raise InputError(
            f"there is no folder {paths[0].parent}",
            f"--root must hold {family.dataset.__name__}/, or leave --root out to download",
        )
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is missing", "complete the folder, or leave --root out")
    return {path.name: path for path in paths}


def _download(family: Family, name: str, raw: Path) -> None:
    """Let PyG download into a temporary folder; what is moved to `raw` is complete."""
    try:
        raw.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=raw.parent) as folder:
            with _quiet():
                got = _without(family.dataset, "_process", "load")(folder, name)
            Path(got.raw_dir).rename(raw)
    except Exception as error:  # PyG, fsspec and urllib each raise their own
        raise InputError(
            f"cannot download {family.dataset.__name__} {name}: {error}",
            "check the network, or give a folder with the raw files with --root",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow PyG's own progress lines."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def _read(family: Family, settings: SourceSettings, request: Request) -> Graph:
    name = family.find(request.argument)
    files = list(_raw_files(family, settings, request).values())
    raw = _parse_npz(files[0]) if family.sparse else _parse(family, name, files, request)
    nodes, classes = len(raw.labels), count_classes(raw.labels)
    task = task_of(raw.labels, classes)
    note_unlabelled(raw.labels, request.note)
    # As in PyG, the npz family is undirected whatever its files say.
    wanted = bool(settings.directed) if family.sparse else settings.directed
    edges, directed = clean_edges(raw.source_E, raw.target_E, nodes, wanted, request.note)
    return Graph(
        name=name,
        features=raw.features,
        edges=edges,
        labels=raw.labels,
        classes=tuple(str(label) for label in range(classes)),
        metric=choose_metric(
            settings.metric, family.binary if task == "binary" else "accuracy", task, classes
        ),
        directed=directed,
        splits=raw.splits,
    )


def _parse(family: Family, name: str, files: list[Path], request: Request) -> _Raw:
    """Let PyG's class parse links to the raw files."""
    with TemporaryDirectory() as folder:
        links = _raw_paths(family, Path(folder), name)
        links[0].parent.mkdir(parents=True)
        for link, file in zip(links, files, strict=True):
            link.symlink_to(file.absolute())
        try:
            with _quiet():
                data = family.dataset(str(Path(folder) / family.dataset.__name__), name)[0]
        except Exception as error:  # a damaged file fails anywhere in PyG's parsers
            raise InputError(
                f"PyG cannot read {files[0].parent}: {error}", "replace the raw files and try again"
            ) from error
    labels = _labels(data.y, files[0].parent)
    splits = {}
    if "train_mask" in data:
        masks = (data.train_mask, data.val_mask, data.test_mask)
        splits = mask_splits(masks, labels, request.note)
    source_E, target_E = data.edge_index
    return _Raw(compact(data.x), source_E, target_E, labels, splits)


def _labels(y: Tensor, folder: Path) -> Tensor:
    """Return [N] or [N, 1] classes as int64 [N], several labels per node as int8 [N, C]."""
    if y.dim() == 2 and y.shape[1] > 1:
        return label_matrix(y.numpy(), f"y of {folder}")
    return y.flatten().long()


def _parse_npz(file: Path) -> _Raw:
    """Read what `torch_geometric.io.read_npz` reads, with the same meaning, never dense."""
    names = [f"{matrix}_{part}" for matrix in ("attr", "adj") for part in PARTS]
    arrays = load_arrays(file, [*names, "labels"])
    try:
        features, adjacency = (_matrix(arrays, name) for name in ("attr", "adj"))
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"{file} is damaged: {error}", "replace the raw file") from None
    features.sum_duplicates()
    features.data = features.data.astype("float32")
    features.data[features.data > 0] = 1
    pairs = adjacency.tocoo()
    source_E, target_E = (torch.from_numpy(end.astype("int64")) for end in (pairs.row, pairs.col))
    keep_E = source_E != target_E
    label_N = torch.from_numpy(arrays["labels"].astype("int64"))
    return _Raw(settled(from_scipy(features)), source_E[keep_E], target_E[keep_E], label_N, {})


def _matrix(arrays: dict[str, Any], name: str) -> Any:
    data, indices, indptr, shape = (arrays[f"{name}_{part}"] for part in PARTS)
    matrix = sp.csr_matrix((data, indices, indptr), shape)
    matrix.check_format(full_check=True)
    return matrix


def _source(family: Family) -> Source[SourceSettings]:
    files = partial(_raw_files, family)
    return Source(SourceSettings, partial(_read, family), files, family.names, downloads=True)


PLANETOID = _source(Family(datasets.Planetoid, ("Cora", "CiteSeer", "PubMed")))
CITATION_FULL = _source(
    Family(datasets.CitationFull, ("Cora", "Cora_ML", "CiteSeer", "DBLP", "PubMed"), sparse=True)
)
AMAZON = _source(Family(datasets.Amazon, ("Computers", "Photo"), sparse=True))
COAUTHOR = _source(Family(datasets.Coauthor, ("CS", "Physics"), sparse=True))
HETEROPHILOUS = _source(
    Family(
        datasets.HeterophilousGraphDataset,
        ("Roman-empire", "Amazon-ratings", "Minesweeper", "Tolokers", "Questions"),
        binary="roc_auc",
    )
)
WEBKB = _source(Family(datasets.WebKB, ("Cornell", "Texas", "Wisconsin")))
LINKX = _source(Family(datasets.LINKXDataset, tuple(datasets.LINKXDataset.datasets)))
