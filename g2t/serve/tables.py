"""New nodes from CSV and Parquet: the columns that the student reads, found by name and checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from g2t.errors import InputError, UsageError, did_you_mean
from g2t.graph.sources.tabular import csv_blocks, csv_header, parquet_file, texts
from g2t.serve.batch import Batch, Faults, dense_rows
from g2t.serve.matrices import FeatureFile
from g2t.serve.student import ServedStudent

PARQUET_ROWS = 1 << 12


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; without `id` nodes are called by their row number, from 0.

    Unset names are found as `g2t import table:` finds them.
    """

    id: str | None = None
    features: tuple[str, ...] | None = None
    hops: str | None = None


def choose_columns(
    header: Sequence[str], wanted: Columns, student: ServedStudent, where: Path, alone: bool
) -> Columns:
    """Return the columns of a table to read; with `alone` false, features come from a file.

    Raises InputError, naming the nearest, for a column that is missing, and for another number of
    columns than the student reads; UsageError for feature names that are not the student's.
    """
    for name, option in ((wanted.id, "--id-column"), (wanted.hops, "--hops-column")):
        if name is not None and name not in header:
            raise InputError(
                f"{where} has no column {name!r} for {option}", did_you_mean(name, header)
            )
    if not alone:
        return Columns(wanted.id or ("id" if "id" in header else header[0]), (), wanted.hops)
    names = _feature_names(wanted, student)
    id_column = wanted.id or _id_column(header, names, student.width)
    if names is None:
        names = tuple(name for name in header if name not in (id_column, wanted.hops))
    missing = [name for name in names if name not in header]
    if missing:
        raise InputError(
            f"{where} has no column {missing[0]!r}, which the student reads"
            + (f" ({len(missing)} columns are missing)" if len(missing) > 1 else ""),
            did_you_mean(missing[0], header),
        )
    if len(names) != student.width:
        raise InputError(
            f"{where} has {len(names)} feature columns, this student reads {student.width}",
            "name them in the student's order with --feature-columns A,B,…, or give a file with "
            "--features",
        )
    return Columns(id_column, names, wanted.hops)


def _feature_names(wanted: Columns, student: ServedStudent) -> tuple[str, ...] | None:
    known = student.feature_names
    if known is None or wanted.features is None or wanted.features == known:
        return known or wanted.features
    raise UsageError(
        "--feature-columns are not those that the student learned from, in their order",
        f"leave it out: the student knows its columns, {', '.join(known[:5])} …",
    )


def _id_column(header: Sequence[str], names: tuple[str, ...] | None, width: int) -> str | None:
    if names is None:
        return None if len(header) == width else "id" if "id" in header else header[0]
    free = [name for name in header if name not in names]
    return "id" if "id" in free else header[0] if header[0] in free else None


def read_csv(
    path: Path,
    stream: TextIO | None,
    wanted: Columns,
    student: ServedStudent,
    file: FeatureFile | None,
    faults: Faults,
) -> Iterator[Batch]:
    """Yield the rows of a CSV file or stream, a few hundred at a time."""
    blocks = csv_blocks(path, stream)
    header = csv_header(path, blocks)
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns called {twice!r}", "rename one of them")
    columns = choose_columns(header, wanted, student, path, file is None)
    maker = RowMaker(path, "line", columns, student, file, faults)
    at = {name: header.index(name) for name in (columns.id, columns.hops) if name is not None}
    picks = [header.index(name) for name in columns.features or ()]
    pick = itemgetter(*picks) if len(picks) > 1 else lambda row: tuple(row[i] for i in picks)
    for rows, lines in blocks:
        if set(map(len, rows)) != {len(header)}:
            rows, lines = _whole(rows, lines, len(header), path, faults)
        cells = {name: [row[place] for row in rows] for name, place in at.items()}
        yield maker.batch(cells, list(map(pick, rows)), lines)


def _whole(
    rows: list[list[str]], lines: Sequence[int], count: int, path: Path, faults: Faults
) -> tuple[list[list[str]], list[int]]:
    """Leave out the rows that do not have as many cells as the header."""
    kept = []
    for row, line in zip(rows, lines, strict=True):
        if len(row) == count:
            kept.append((row, line))
        else:
            faults.add(f"line {line} of {path} has {len(row)} cells, the header has {count}")
    return [row for row, _ in kept], [line for _, line in kept]


def read_parquet(
    path: Path,
    wanted: Columns,
    student: ServedStudent,
    file: FeatureFile | None,
    faults: Faults,
) -> Iterator[Batch]:
    """Yield the rows of a Parquet file, a few thousand at a time."""
    with parquet_file(path) as opened:
        header = list(opened.schema_arrow.names)
        columns = choose_columns(header, wanted, student, path, file is None)
        maker = RowMaker(path, "row", columns, student, file, faults)
        named = [name for name in (columns.id, columns.hops) if name is not None]
        asked = [*named, *(columns.features or ())]
        first = 1
        try:
            for block in opened.iter_batches(PARQUET_ROWS, columns=list(dict.fromkeys(asked))):
                cells = {name: block.column(name).to_pylist() for name in named}
                rows = _parquet_rows(block, columns.features or ())
                yield maker.batch(cells, rows, range(first, first + block.num_rows))
                first += block.num_rows
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None


def _parquet_rows(block: Any, names: Sequence[str]) -> Any:
    """Return the cells of some columns, [B, F] float64 where all are numbers, else as they are."""
    columns = [block.column(name).to_numpy(zero_copy_only=False) for name in names]
    if not columns:
        return [()] * block.num_rows
    try:
        return np.stack([column.astype(np.float64) for column in columns], 1)
    except (ValueError, TypeError):
        return list(zip(*(column.tolist() for column in columns), strict=True))


class RowMaker:
    """Turns cells into batches; wrong rows go to `faults`, named by their line."""

    def __init__(
        self,
        path: Path,
        word: str,
        columns: Columns,
        student: ServedStudent,
        file: FeatureFile | None,
        faults: Faults,
    ) -> None:
        self.path, self.word, self.columns = path, word, columns
        self.student, self.file, self.faults = student, file, faults
        self.seen = 0

    def batch(self, cells: dict[str, Any], rows: Any, lines: Sequence[int]) -> Batch:
        """Return the rows of which nothing is wrong."""
        first, count = self.seen, len(lines)
        self.seen += count
        numbers_BF = self._numbers(rows)
        good = np.ones(count, dtype=bool)
        if numbers_BF is None or not np.isfinite(numbers_BF).all():
            numbers_BF = self._row_by_row(rows, lines, good)
        if self.columns.id is None:
            ids = [str(first + i) for i in range(count)]
        else:
            ids = texts(cells[self.columns.id]) if count else []
            self._check_ids(ids, lines, good)
        hops = self._hops(cells, lines, good)
        if self.file is None:
            kept = np.flatnonzero(good)
            features = dense_rows(numbers_BF[kept], self.student)
        else:
            places = [self._place(line) for line in lines]
            kept, features = self.file.take(ids, first, np.flatnonzero(good), places, self.faults)
        hops_B = None if hops is None else torch.tensor([hops[i] for i in kept], dtype=torch.int64)
        return Batch([ids[i] for i in kept], features, hops_B)

    def _place(self, line: int) -> str:
        return f"{self.word} {line} of {self.path}"

    def _numbers(self, rows: Any) -> Any:
        """Return cells as float32 [B, F], None where one of them is no number."""
        width = len(self.columns.features or ())
        with np.errstate(over="ignore"):
            if isinstance(rows, np.ndarray):
                return rows.astype(np.float32)
            if not width or not rows:
                return np.empty((len(rows), width), np.float32)
            try:
                flat = np.fromiter(map(float, chain.from_iterable(rows)), np.float64)
            except (ValueError, TypeError):
                return None
            return flat.astype(np.float32).reshape(len(rows), width)

    def _row_by_row(self, rows: Any, lines: Sequence[int], good: Any) -> Any:
        """Return [B, F] with zeros in the rows that are not finite numbers; marks these."""
        names = self.columns.features or ()
        numbers_BF = np.zeros((len(lines), len(names)), np.float32)
        for i, (row, line) in enumerate(zip(rows, lines, strict=True)):
            for j, cell in enumerate(row):
                number = _number(cell)
                if not np.isfinite(number):
                    shown = "an empty cell" if cell in ("", None) else repr(cell)
                    place = f"{self._place(line)} has {shown} in feature column {names[j]!r}"
                    good[i] = False
                    self.faults.add(f"{place}, not a finite number", "fill in missing values")
                    break
                numbers_BF[i, j] = number
        return numbers_BF

    def _check_ids(self, ids: list[str], lines: Sequence[int], good: Any) -> None:
        if all(ids):
            return
        for i, text in enumerate(ids):
            if not text and good[i]:
                good[i] = False
                self.faults.add(f"{self._place(lines[i])} has no {self.columns.id!r}")

    def _hops(self, cells: dict[str, Any], lines: Sequence[int], good: Any) -> list[int] | None:
        if self.columns.hops is None:
            return None
        most, hops = self.student.hops, []
        for i, text in enumerate(texts(cells[self.columns.hops]) if lines else ()):
            known = int(text) if text.isdecimal() and len(text) < 9 else -1
            if not 0 <= known <= most and good[i]:
                good[i] = False
                said = f"{self._place(lines[i])} has {text!r} hops, this student reads 0 … {most}"
                self.faults.add(said)
            hops.append(known)
        return hops


def _number(cell: Any) -> Any:
    try:
        with np.errstate(over="ignore"):
            return np.float32(float(cell))
    except (ValueError, TypeError):
        return np.float32(np.nan)
