"""Where new nodes come from: a file of a known kind, or stdin."""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast

from g2t.errors import InputError, UsageError
from g2t.graph.sources.tabular import PARQUET
from g2t.serve.batch import Batch, Faults, gathered, rows_per_batch
from g2t.serve.matrices import FeatureFile, read_matrix
from g2t.serve.records import read_records
from g2t.serve.student import ServedStudent
from g2t.serve.tables import Columns, read_csv, read_parquet

STDIN = Path("stdin")
LINES = (".jsonl", ".ndjson")
MATRICES = (".npz", ".npy", ".json")


@dataclass(frozen=True)
class Source:
    """An input: a file, or stdin where `path` is None; `features` is a file beside a table."""

    path: Path | None
    features: Path | None = None
    columns: Columns = field(default_factory=Columns)


def read_batches(source: Source, student: ServedStudent, faults: Faults) -> Iterator[Batch]:
    """Yield the nodes of an input in its order, some thousands at a time.

    CSV, Parquet and JSON Lines are read as they come; of features alone, `.npy` is. Raises
    InputError for a file that is missing, empty or does not fit the student, UsageError for
    options that the kind of file does not take.
    """
    parts = _parts(source, student, faults)
    batches = gathered(parts, rows_per_batch(student))
    first = next(batches, None)
    if first is None and not faults.count:
        raise InputError(f"{source.path or STDIN} is empty", "it needs one row per node")
    if first is not None:
        yield first
        yield from batches


def _parts(source: Source, student: ServedStudent, faults: Faults) -> Iterator[Batch]:
    file = None if source.features is None else FeatureFile(source.features, student)
    path, columns = source.path, source.columns
    if path is None:
        stream, lines = _stdin()
        if lines:
            _refuse_features(source)
            return read_records(STDIN, stream, columns, student, faults)
        return read_csv(STDIN, stream, columns, student, file, faults)
    if not path.exists() or path.is_dir():
        raise InputError(f"there is no file {path}")
    if path.suffix in PARQUET:
        return read_parquet(path, columns, student, file, faults)
    if path.suffix in LINES:
        _refuse_features(source)
        return read_records(path, None, columns, student, faults)
    if path.suffix in MATRICES:
        _refuse_features(source)
        if columns != Columns():
            raise UsageError(f"{path} has no columns by name", "leave the options of columns out")
        return read_matrix(path, student, faults)
    return read_csv(path, None, columns, student, file, faults)


def _refuse_features(source: Source) -> None:
    if source.features is not None:
        raise UsageError(
            f"{source.path or STDIN} has features itself; --features goes with a CSV or Parquet "
            "table of ids",
            "leave --features out",
        )


def _stdin() -> tuple[TextIO, bool]:
    """Return stdin as text, and whether it is JSON Lines: its first character tells."""
    raw = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
    lines = raw.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline=None if lines else ""), lines
