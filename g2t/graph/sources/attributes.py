"""Node features for `table:`: number columns of the node table, or a file of their own."""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from g2t.errors import InputError
from g2t.graph.csr import Features, compact, from_scipy
from g2t.graph.sources.assemble import Note, settled
from g2t.graph.sources.npz import UNREADABLE, dense_features
from g2t.graph.sources.tabular import Chunk, Table

SUFFIXES = (".npz", ".npy", ".json")


class ColumnReader:
    """Gathers feature columns chunk by chunk: the named ones, or every one that holds numbers.

    `take` raises InputError, naming row and column, for a cell that is no finite number.
    """

    def __init__(self, table: Table, wanted: Sequence[str] | None, reserved: Sequence[str]) -> None:
        self.table = table
        self.named = wanted is not None
        if wanted is None:
            self.columns = [name for name in table.header if name not in reserved]
        else:
            self.columns = [table.column(name, "--feature-columns") for name in wanted]
        label = next((name for name in reserved[1:] if name in self.columns), None)
        if label is not None:
            raise InputError(
                f"column {label!r} is the label and cannot be a feature",
                "it would give the answer away; leave it out of --feature-columns",
            )
        self._parts: dict[str, list[Any]] = {name: [] for name in self.columns}
        self._gap: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are features: of those that were not named, the ones with numbers."""
        some = (k for k, parts in self._parts.items() if not all(np.isnan(p).all() for p in parts))
        return tuple(self._parts if self.named else some)

    def take(self, chunk: Chunk) -> None:
        """Take in the next rows."""
        for name in list(self._parts):
            number_B, wrong = _numbers(chunk.columns[name])
            if wrong is not None and not self.named:
                del self._parts[name]
                continue
            if wrong is not None:
                self._refuse(name, chunk.lines[wrong], repr(chunk.columns[name][wrong]))
            missing = np.flatnonzero(~np.isfinite(number_B))
            if len(missing):
                self._gap.setdefault(name, chunk.lines[missing[0]])
            self._parts[name].append(number_B)

    def _refuse(self, name: str, line: int, found: str) -> None:
        raise InputError(
            f"{self.table.row_word} {line} of {self.table.path} has {found} in feature column "
            f"{name!r}, not a finite number",
            "fill in missing values, or name other columns with --feature-columns",
        )

    def features(self, note: Note) -> Features:
        """Return what was gathered; raises InputError if that is nothing or has gaps."""
        columns = {name: np.concatenate(self._parts[name]) for name in self.names}
        for name in columns:
            if name in self._gap:
                self._refuse(name, self._gap[name], "an empty or NaN cell")
        if not columns:
            raise InputError(
                f"{self.table.path} has no column of numbers to use as features",
                "give a file with --features, or name columns with --feature-columns",
            )
        if not self.named:
            note(f"features: {len(columns)} number columns: {_listed(list(columns))}")
        return compact(torch.from_numpy(np.stack(list(columns.values()), 1)))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown}, … {names[-1]}"


def _numbers(cells: Sequence[Any]) -> tuple[Any, int | None]:
    """Return cells as float32, NaN where empty, and the first that is no number, if any."""
    filled = [np.nan if cell is None or cell == "" else cell for cell in cells]
    try:
        with np.errstate(over="ignore"):
            numbers = np.array(filled, dtype=np.float64).astype(np.float32)
        if numbers.ndim == 1:
            return numbers, None
    except (ValueError, TypeError):
        pass
    return None, next((i for i, cell in enumerate(filled) if not _is_scalar(cell)), 0)


def _is_scalar(cell: Any) -> bool:
    try:
        float(cell)
    except (ValueError, TypeError):
        return False
    return True


def check_feature_file(path: Path) -> None:
    """Raise InputError for a features file that is not there or of no known kind."""
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path} is of no known kind of features", f"it must end in {', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise InputError(f"there is no file {path}")


def read_features(path: Path, index: dict[str, int], rows: int) -> Features:
    """Read node features; sparse stays sparse.

    `.npz` (scipy's save_npz) and `.npy` have one row per row of the node table, `rows` in all;
    `.json` maps ids, found in `index`, to the indices of the features that are 1. Raises
    InputError for anything else.
    """
    if path.suffix == ".json":
        return _from_json(path, index)
    features = _from_npz(path) if path.suffix == ".npz" else _from_npy(path)
    if len(features) != rows:
        raise InputError(
            f"{path} has {len(features)} rows, the node table has {rows}",
            "features need one row per node, in the order of the node table",
        )
    return features


def _from_npz(path: Path) -> Features:
    try:
        matrix = sp.load_npz(path)
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)
        if matrix.dtype.kind not in "biuf" or matrix.shape[1] == 0:
            raise ValueError(
                f"{matrix.dtype} {list(matrix.shape)} is not numbers [nodes, features]"
            )
        with np.errstate(over="ignore"):
            return settled(from_scipy(matrix.astype(np.float32)))
    except (*UNREADABLE, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path} is no sparse matrix: {error}", "write it with scipy.sparse.save_npz"
        ) from None


def _from_npy(path: Path) -> Features:
    try:
        array = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise InputError(f"{path} is no readable .npy file: {error}") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays", "save one array with numpy.save")
    return dense_features(array, str(path))


def json_entries(path: Path) -> dict[str, Any]:
    """Read a JSON object of id to indices; raises InputError where it is none."""
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no readable JSON: {error}") from None
    if not isinstance(entries, dict):
        raise InputError(f"{path} is no JSON object of id -> list of indices")
    return entries


def _from_json(path: Path, index: dict[str, int]) -> Features:
    entries = json_entries(path)
    stranger = next((text for text in entries if text not in index), None)
    if stranger is not None:
        raise InputError(f"{path} has features of an unknown node {stranger!r}")
    for text, columns in entries.items():
        _check_indices(text, columns, path)
    lists = [entries.get(text, ()) for text in index]
    start_N = np.cumsum([0, *map(len, lists)])
    column_E = np.fromiter(chain.from_iterable(lists), np.int64, int(start_N[-1]))
    if len(column_E) == 0:
        raise InputError(f"{path} gives no node a feature")
    shape = (len(lists), int(column_E.max()) + 1)
    matrix = sp.csr_matrix((np.ones(len(column_E), np.float32), column_E, start_N), shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return settled(from_scipy(matrix))


def _check_indices(text: str, columns: Any, path: Path) -> None:
    if not isinstance(columns, list) or not set(map(type, columns)) <= {int}:
        raise InputError(f"the features of node {text!r} in {path} are no list of whole numbers")
    if columns and not (min(columns) >= 0 and max(columns) < 1 << 31):
        raise InputError(f"node {text!r} in {path} has a feature index outside 0 … 2^31 - 1")
