"""New nodes from JSON Lines: one object per node, with its features in one of three ways.

{"id": "a", "features": [0.1, 2.0, …]}             all F numbers in order
{"id": "a", "indices": [3, 17], "values": [1, 2]}  what is not zero; without values, ones
{"id": "a", "age": 31, "height": 1.8, …}           by the student's feature names
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from g2t.errors import InputError
from g2t.graph.sources.tabular import texts
from g2t.serve.batch import Batch, Faults, sparse_rows
from g2t.serve.matrices import index_row
from g2t.serve.student import ServedStudent
from g2t.serve.tables import Columns

LINES = 512


def read_records(
    path: Path, stream: TextIO | None, wanted: Columns, student: ServedStudent, faults: Faults
) -> Iterator[Batch]:
    """Yield the nodes of a file or stream of JSON Lines, a few hundred at a time."""
    try:
        with path.open(encoding="utf-8-sig") if stream is None else stream as file:
            lines, rows = enumerate(file, 1), 0
            while block := list(islice(lines, LINES)):
                filled = [(line, text) for line, text in block if text.strip()]
                yield _batch(filled, rows, path, wanted, student, faults)
                rows += len(filled)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason}", "save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if not rows:
        raise InputError(f"{path} is empty", "it needs one JSON object per line")


def _batch(
    lines: list[tuple[int, str]],
    first: int,
    path: Path,
    wanted: Columns,
    student: ServedStudent,
    faults: Faults,
) -> Batch:
    ids, rows, hops = [], [], []
    for offset, (line, text) in enumerate(lines):
        try:
            record = _record(text)
            name, row = _id(record, first + offset, wanted), _row(record, wanted, student)
            known = _hops(record, wanted, student)
        except ValueError as error:
            faults.add(f"line {line} of {path}: {error}")
            continue
        ids.append(name)
        rows.append(row)
        hops.append(known)
    hops_B = None if wanted.hops is None else torch.tensor(hops, dtype=torch.int64)
    nothing = [(np.empty(0, np.int64), np.empty(0, np.float32))]
    features = sparse_rows(rows or nothing, student)
    return Batch(ids, features, hops_B)


def _record(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("this is no JSON object")
    return record


def _id(record: dict[str, Any], row: int, wanted: Columns) -> str:
    """Return a node's id; the number of its row where nobody speaks of ids."""
    key = wanted.id or "id"
    if wanted.id is None and key not in record:
        return str(row)
    value = record.get(key)
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ValueError(f"it has no {key!r} that is a text or a number")
    if not (name := texts([value])[0]):
        raise ValueError(f"its {key!r} is empty")
    return name


def _hops(record: dict[str, Any], wanted: Columns, student: ServedStudent) -> int:
    if wanted.hops is None:
        return 0
    known = record.get(wanted.hops)
    if type(known) is not int or not 0 <= known <= student.hops:
        raise ValueError(f"it has {known!r} hops, this student reads 0 … {student.hops}")
    return known


def _row(record: dict[str, Any], wanted: Columns, student: ServedStudent) -> tuple[Any, Any]:
    """Return the features of a record as (columns, values)."""
    if "indices" in record:
        try:
            return index_row(record["indices"], record.get("values"), student.width)
        except ValueError as error:
            raise ValueError(f"its indices {error}") from None
    names = student.feature_names or wanted.features
    if "features" in record and "features" not in (names or ()):
        return _dense(record["features"], student.width)
    if names is None:
        raise ValueError("it has neither 'features' nor 'indices'")
    missing = next((name for name in names if name not in record), None)
    if missing is not None:
        raise ValueError(f"it has no {missing!r}, which the student reads")
    return _dense([record[name] for name in names], student.width, names)


def _dense(numbers: Any, width: int, names: tuple[str, ...] | None = None) -> tuple[Any, Any]:
    if not isinstance(numbers, list) or len(numbers) != width:
        count = len(numbers) if isinstance(numbers, list) else "no list of"
        raise ValueError(f"its features are {count} numbers, this student reads {width}")
    wrong = next((i for i, cell in enumerate(numbers) if type(cell) not in (int, float)), None)
    with np.errstate(over="ignore"):
        row = None if wrong is not None else np.array(numbers, dtype=np.float64).astype(np.float32)
    if row is not None and not np.isfinite(row).all():
        wrong = int(np.flatnonzero(~np.isfinite(row))[0])
    if wrong is not None or row is None:
        where = f"column {wrong}" if names is None else repr(names[wrong or 0])
        raise ValueError(f"{where} is {numbers[wrong or 0]!r}, not a finite number")
    columns = np.flatnonzero(row)
    return columns, row[columns]
