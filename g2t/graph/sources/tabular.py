"""CSV and Parquet files, read by columns in bounded chunks, with the place of every row.

Cells of CSV are text; cells of Parquet are Python values. `texts` makes both comparable.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from g2t.errors import InputError, MissingExtra, did_you_mean

#: Fewer lists than the 700 at which Python's collector wakes: twice as fast as large blocks.
CSV_ROWS = 1 << 9
PARQUET_ROWS = 1 << 16
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table: cells by column, and for every row the line of the file (from 1)."""

    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]


@dataclass(frozen=True)
class Table:
    """A CSV or Parquet file and the names of its columns."""

    path: Path
    header: tuple[str, ...]

    @property
    def row_word(self) -> str:
        """What a place in this file is called."""
        return "row" if self.path.suffix in PARQUET else "line"

    def column(self, name: str, option: str) -> str:
        """Return a column's name; raises InputError, naming the nearest, if it is not there."""
        if name not in self.header:
            raise InputError(
                f"{self.path} has no column {name!r} for {option}", did_you_mean(name, self.header)
            )
        return name

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Read some columns; raises InputError for rows that do not fit the header."""
        if self.path.suffix in PARQUET:
            return _parquet_chunks(self.path, list(dict.fromkeys(columns)))
        return _csv_chunks(self.path, self.header, columns)


def open_table(path: Path) -> Table:
    """Open a file and read its header; raises InputError where there is none."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    header = _parquet_header(path) if path.suffix in PARQUET else _csv_header(path)
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns called {twice!r}", "rename one of them")
    return Table(path, tuple(header))


def csv_blocks(
    path: Path, stream: TextIO | None = None
) -> Iterator[tuple[list[list[str]], Sequence[int]]]:
    """Yield blocks of rows, the header alone first, and their lines; from a stream if one is given.

    What is wrong with the file becomes InputError; `path` is what it is called then.
    """
    line = 0
    try:
        opened = path.open(newline="", encoding="utf-8-sig") if stream is None else None
        with opened or nullcontext(stream) as file:
            assert file is not None
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            while rows := list(islice(reader, CSV_ROWS if line else 1)):
                lines: Sequence[int] = range(line + 1, reader.line_num + 1)
                if len(lines) != len(rows):  # cells of several lines
                    ends = accumulate(1 + "".join(row).count("\n") for row in rows)
                    lines = [line + end for end in ends]
                line = reader.line_num
                if [] in rows:  # blank lines
                    filled = [i for i, row in enumerate(rows) if row]
                    rows, lines = [rows[i] for i in filled], [lines[i] for i in filled]
                yield rows, lines
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason}", "save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} of {path} is no CSV: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _csv_header(path: Path) -> list[str]:
    return csv_header(path, csv_blocks(path))


def csv_header(path: Path, blocks: Iterator[tuple[list[list[str]], Sequence[int]]]) -> list[str]:
    """Take the header from the blocks of a file; raises InputError where there is none."""
    header = next((rows[0] for rows, _ in blocks if rows), None)
    if not header:
        raise InputError(f"{path} is empty", "it needs a header line and rows")
    if all(is_number(name) for name in header):
        raise InputError(
            f"{path} has no header: its first line is {','.join(header)}",
            "add a first line that names the columns",
        )
    return header


def _csv_chunks(path: Path, header: Sequence[str], columns: Sequence[str]) -> Iterator[Chunk]:
    blocks = ((rows, lines) for rows, lines in csv_blocks(path) if rows)
    next(blocks)
    for rows, lines in blocks:
        if set(map(len, rows)) != {len(header)}:
            wrong = next(i for i, row in enumerate(rows) if len(row) != len(header))
            raise InputError(
                f"line {lines[wrong]} of {path} has {len(rows[wrong])} cells, "
                f"the header has {len(header)}"
            )
        at = {name: itemgetter(header.index(name)) for name in columns}
        yield Chunk({name: list(map(cell, rows)) for name, cell in at.items()}, lines)


def parquet_file(path: Path) -> Any:
    """Open a Parquet file; raises InputError if it is none, MissingExtra without pyarrow."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra(
            f"reading {path} needs pyarrow", "type: pip install 'g2t[parquet]'"
        ) from None
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are subclasses of these
        raise InputError(f"{path} is no readable Parquet file: {error}") from None


def _parquet_header(path: Path) -> list[str]:
    with parquet_file(path) as file:
        return list(file.schema_arrow.names)


def _parquet_chunks(path: Path, columns: list[str]) -> Iterator[Chunk]:
    first = 1
    with parquet_file(path) as file:
        try:
            for batch in file.iter_batches(PARQUET_ROWS, columns=columns):
                cells = {name: batch.column(name).to_pylist() for name in columns}
                yield Chunk(cells, range(first, first + batch.num_rows))
                first += batch.num_rows
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None


def texts(cells: Sequence[Any]) -> list[str]:
    """Return ids or labels as text, "" where missing; 3, 3.0 and "3" are the same."""
    if set(map(type, cells)) == {str}:
        return list(cells)
    return [cell if type(cell) is str else _text(cell) for cell in cells]


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    if isinstance(cell, float):
        # pandas turns a column of whole numbers with gaps into floats.
        return "" if math.isnan(cell) else str(int(cell) if cell.is_integer() else cell)
    return str(cell)


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
