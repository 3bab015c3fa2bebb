"""New nodes from files of features alone: `.npz` and `.npy` by row, `.json` by id."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from g2t.errors import InputError
from g2t.graph.csr import Features, from_scipy
from g2t.graph.sources.attributes import check_feature_file, json_entries
from g2t.graph.sources.npz import UNREADABLE
from g2t.serve.batch import Batch, Faults, dense_rows, rows_per_batch, sparse_rows
from g2t.serve.student import ServedStudent


class FeatureFile:
    """The features of nodes that a table names: `take` finds them by row, or in JSON by id.

    `.npy` stays on disk; a sparse `.npz` and JSON are held in memory. Raises InputError for a file
    that is missing, unreadable or of another width.
    """

    def __init__(self, path: Path, student: ServedStudent) -> None:
        check_feature_file(path)
        self.path, self.student = path, student
        self.by_id: dict[str, Any] | None = None
        self.matrix: Any = None
        if path.suffix == ".json":
            self.by_id = json_entries(path)
        else:
            self.matrix = _matrix(path, student.width)

    @property
    def rows(self) -> int:
        """How many nodes it has features of."""
        return int(self.matrix.shape[0]) if self.by_id is None else len(self.by_id)

    def take(
        self, ids: Sequence[str], first: int, wanted: Any, places: Sequence[str], faults: Faults
    ) -> tuple[Any, Features]:
        """Return which of the rows first, first + 1, … have features, and these.

        `wanted` are the offsets to look at; a row without features is a fault.
        """
        if self.by_id is not None:
            return self._by_id(ids, wanted, places, faults)
        inside = wanted[first + wanted < self.rows]
        for i in wanted[len(inside) :]:
            faults.add(f"{places[i]} is row {first + i}, and {self.path} has {self.rows} rows")
        return self._finite(first + inside, inside, places, faults)

    def _finite(
        self, rows: Any, offsets: Any, places: Sequence[str], faults: Faults
    ) -> tuple[Any, Features]:
        block = self.matrix[rows]
        with np.errstate(over="ignore"):
            block = block.astype(np.float32)
        if sp.issparse(block):
            bad = np.unique(block.tocoo().row[~np.isfinite(block.data)])
        else:
            bad = np.flatnonzero(~np.isfinite(block).all(1))
        for i in bad:
            faults.add(f"{places[offsets[i]]} has NaN or infinity in {self.path}, row {rows[i]}")
        good = np.setdiff1d(np.arange(len(rows)), bad)
        if not sp.issparse(block):
            return offsets[good], dense_rows(block[good], self.student)
        kept = from_scipy(block[good])
        return offsets[good], kept if self.student.kind == "csr" else kept.dense()

    def _by_id(
        self, ids: Sequence[str], wanted: Any, places: Sequence[str], faults: Faults
    ) -> tuple[Any, Features]:
        assert self.by_id is not None
        kept, rows = [], []
        for i in wanted:
            if ids[i] not in self.by_id:
                faults.add(f"{places[i]}: {self.path} has no features of node {ids[i]!r}")
                continue
            try:
                rows.append(index_row(self.by_id[ids[i]], None, self.student.width))
                kept.append(i)
            except ValueError as error:
                faults.add(f"{places[i]}: features of node {ids[i]!r} in {self.path} {error}")
        if not rows:
            nothing = np.empty((0, self.student.width), np.float32)
            return np.array([], dtype=np.int64), dense_rows(nothing, self.student)
        return np.array(kept), sparse_rows(rows, self.student)


def read_matrix(path: Path, student: ServedStudent, faults: Faults) -> Iterator[Batch]:
    """Yield the nodes of a file of features: called by row number from 0, in JSON by their ids."""
    file = FeatureFile(path, student)
    names = None if file.by_id is None else list(file.by_id)
    if not file.rows:
        raise InputError(f"{path} is empty", "give one row of features or more")
    size = rows_per_batch(student)
    for start in range(0, file.rows, size):
        stop = min(start + size, file.rows)
        ids = [str(i) for i in range(start, stop)] if names is None else names[start:stop]
        places = [f"row {i} (from 0) of {path}" for i in range(start, stop)]
        kept, features = file.take(ids, start, np.arange(stop - start), places, faults)
        yield Batch([ids[i] for i in kept], features)


def index_row(columns: Any, values: Any, width: int) -> tuple[Any, Any]:
    """Return one sparse row as (ascending columns, values), values of 1 where none are given.

    Raises ValueError, with a verb, where this is no list of columns 0 … width - 1 each once (twice
    is once where there are no values), or values are not finite numbers, one for each.
    """
    if not isinstance(columns, list) or not set(map(type, columns)) <= {int}:
        raise ValueError("are no list of whole numbers")
    if columns and not (min(columns) >= 0 and max(columns) < width):
        wrong = next(column for column in columns if not 0 <= column < width)
        raise ValueError(f"name column {wrong}, and the student reads columns 0 … {width - 1}")
    if values is None:
        once = np.unique(np.array(columns, dtype=np.int64))
        return once, np.ones(len(once), np.float32)
    known = isinstance(values, list) and set(map(type, values)) <= {int, float}
    if not known or len(values) != len(columns):
        raise ValueError("do not have one number for each index")
    once, order = np.unique(np.array(columns, dtype=np.int64), return_index=True)
    with np.errstate(over="ignore"):
        numbers = np.array(values, dtype=np.float64).astype(np.float32)
    if len(once) < len(columns) or not np.isfinite(numbers).all():
        raise ValueError("name a column twice, or have NaN or infinity")
    return once, numbers[order]


def _matrix(path: Path, width: int) -> Any:
    try:
        if path.suffix == ".npy":
            matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            matrix = sp.csr_matrix(sp.load_npz(path))
            matrix.check_format(full_check=True)
        if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
            raise ValueError(
                f"{matrix.dtype} {list(matrix.shape)} is not numbers [nodes, features]"
            )
    except (*UNREADABLE, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path} is no readable {path.suffix} file of features: {error}",
            "write it with numpy.save, or scipy.sparse.save_npz",
        ) from None
    if matrix.shape[1] != width:
        raise InputError(
            f"{path} has {matrix.shape[1]} columns, this student reads {width}",
            "give the columns that it learned from, in their order",
        )
    return matrix
