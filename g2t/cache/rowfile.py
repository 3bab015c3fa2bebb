"""Numbers per node that another program wrote: `.npy`, or Parquet with an id column.

What leaves is a numpy array [n, W], mapped where the file allows it, and the ids of its rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from g2t.errors import InputError, MissingExtra, did_you_mean

PARQUET = (".parquet", ".pq")
#: Whole numbers, or texts.
Ids = NDArray[np.int64] | Sequence[str]
_PANDAS_INDEX = "__index_level_"


@dataclass(frozen=True)
class RowFile:
    """Numbers [n, W] of a file; `ids` are those of its rows where the file itself names them."""

    path: Path
    values: NDArray[Any]
    ids: Ids | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """The number of columns W."""
        return int(self.values.shape[1])


def open_rows(path: Path, ids_column: str | None) -> RowFile:
    """Open a file of numbers per row; of a Parquet file, `ids_column` names the rows.

    Raises InputError where it holds anything else, MissingExtra where pyarrow is needed and absent.
    """
    if path.suffix in PARQUET:
        return _open_parquet(path, ids_column)
    values = _load(path)
    if values.ndim != 2 or values.dtype.kind not in "iuf" or values.shape[1] == 0:
        raise InputError(
            f"{path} holds {values.dtype} {list(values.shape)}, not numbers [rows, columns]",
            "save one row per node with numpy.save",
        )
    return RowFile(path, values)


def read_ids(path: Path) -> Ids:
    """Read ids: `.npy` of whole numbers or texts, or a text file with one id per line."""
    if path.suffix == ".npy":
        return _ids_of(_load(path), path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read the ids in {path}: {reason}") from None
    ids = [line.strip() for line in (lines[:-1] if lines[-1] == "" else lines)]
    if "" in ids:
        raise InputError(f"line {ids.index('') + 1} of {path} is empty", "give one id per line")
    return ids


def _load(path: Path) -> NDArray[Any]:
    if path.suffix != ".npy":
        raise InputError(f"{path} is of no known kind", f"use .npy or {' or '.join(PARQUET)}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path} is no readable .npy file: {reason}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path} holds several arrays", "save one array with numpy.save")
    return array


def _ids_of(array: NDArray[Any], path: Path) -> Ids:
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise InputError(
            f"{path} holds {array.dtype} {list(array.shape)}, no ids",
            "ids are one array of whole numbers or of texts",
        )
    if array.dtype.kind == "u" and len(array) and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{path} has an id beyond 2^63 - 1: {int(array.max())}")
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    texts: list[Any] = array.tolist()
    return [t.decode(errors="replace") if isinstance(t, bytes) else t for t in texts]


def _open_parquet(path: Path, ids_column: str | None) -> RowFile:
    table = _read_parquet(path)
    names = list(table.column_names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns called {twice!r}", "rename one of them")
    ids = None
    if ids_column is not None:
        if ids_column not in names:
            raise InputError(
                f"{path} has no column {ids_column!r} for --ids-column",
                did_you_mean(ids_column, names),
            )
        ids = _ids_of(_cells(table.column(ids_column), ids_column, path), path)
        names.remove(ids_column)
    return RowFile(path, _numbers(table, names, path), ids)


def _read_parquet(path: Path) -> Any:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtra(
            f"reading {path} needs pyarrow", "type: pip install 'g2t[parquet]'"
        ) from None
    try:
        return parquet.ParquetFile(path).read()
    except (OSError, ValueError) as error:  # pyarrow's own errors are subclasses of these
        raise InputError(f"{path} is no readable Parquet file: {error}") from None


def _cells(column: Any, name: str, path: Path) -> NDArray[Any]:
    """Return the ids of a column as an array of whole numbers or texts."""
    if column.null_count:
        missing = column.is_null().to_pylist().index(True)
        raise InputError(f"row {missing + 1} of {path} has no id in column {name!r}")
    array: NDArray[Any] = column.to_numpy()
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _numbers(table: Any, names: list[str], path: Path) -> NDArray[Any]:
    """Return one column of lists, or all columns of numbers side by side, [n, W]."""
    types = import_module("pyarrow.types")
    kinds = [table.schema.field(name).type for name in names]
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if len(names) == 1 and any(is_list(kinds[0]) for is_list in lists):
        return _lists(table.column(names[0]), names[0], path)
    for name, kind in zip(names, kinds, strict=True):
        number = types.is_integer(kind) or types.is_floating(kind)
        if not number or name.startswith(_PANDAS_INDEX):
            raise InputError(
                f"column {name!r} of {path} ({kind}) holds no numbers of a node",
                "leave it out of the file, or name it with --ids-column if it holds the ids",
            )
    if not names:
        raise InputError(f"{path} has no column of numbers")
    return np.stack([table.column(name).to_numpy() for name in names], 1)


def _lists(column: Any, name: str, path: Path) -> NDArray[Any]:
    """Return lists of one length as rows; a missing number becomes NaN."""
    compute = import_module("pyarrow.compute")
    lengths = compute.list_value_length(column).to_pylist()
    width = lengths[0] if lengths else 0
    wrong = next((row for row, length in enumerate(lengths) if not length or length != width), None)
    if wrong is not None:
        raise InputError(
            f"row {wrong + 1} of {path} has {lengths[wrong] or 'no'} numbers in column {name!r}, "
            f"the first has {width or 'none'}"
        )
    numbers: NDArray[Any] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "iuf":
        raise InputError(f"column {name!r} of {path} holds {column.type}, not numbers")
    return numbers.reshape(len(column), width)
