"""Rows of an input on their way to a student: batches, and what becomes of a row that is wrong."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from g2t.errors import InputError
from g2t.graph.csr import Csr, Features, from_scipy, stack
from g2t.serve.student import ServedStudent

#: Numbers that a batch holds at most, and its rows: what bounds the memory of a prediction.
MOST_CELLS, MOST_ROWS, LEAST_ROWS = 1 << 22, 8192, 64
#: Wrong rows that are told one by one.
SHOWN = 5


@dataclass(frozen=True)
class Batch:
    """Some rows in the order of the input: their ids, features, and hops at hand if it says so."""

    ids: Sequence[str]
    features: Features
    hops_B: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


class Faults:
    """What to do with a wrong row: stop with an InputError, or leave it out and count it."""

    def __init__(self, skip: bool, note: Callable[[str], None]) -> None:
        self.skip, self.note, self.count = skip, note, 0

    def add(self, message: str, hint: str = "mend it") -> None:
        """Take in one wrong row; raises InputError unless rows are skipped."""
        if not self.skip:
            raise InputError(message, f"{hint}, or leave wrong rows out with --on-error skip")
        self.count += 1
        if self.count <= SHOWN:
            self.note(f"skipped: {message}")


def rows_per_batch(student: ServedStudent) -> int:
    """Return how many rows are answered at once: fewer where rows are wide."""
    tokens = student.hops + 1 if student.kind == "dense" else 1
    wide = student.width if student.kind == "dense" else 512
    return max(LEAST_ROWS, min(MOST_ROWS, MOST_CELLS // (wide * tokens)))


def dense_rows(rows_BF: Any, student: ServedStudent) -> Features:
    """Return a float32 array [B, F] as what the student reads."""
    if student.kind == "csr":
        return from_scipy(sp.csr_matrix(rows_BF))
    return torch.from_numpy(np.ascontiguousarray(rows_BF))


def sparse_rows(rows: Sequence[tuple[Any, Any]], student: ServedStudent) -> Features:
    """Return rows of (columns, values) as what the student reads."""
    start_N = np.cumsum([0, *(len(columns) for columns, _ in rows)])
    columns = np.concatenate([columns for columns, _ in rows]).astype(np.int64)
    values = np.concatenate([values for _, values in rows]).astype(np.float32)
    matrix = sp.csr_matrix((values, columns, start_N), (len(rows), student.width))
    features = from_scipy(matrix)
    return features if student.kind == "csr" else features.dense()


def gathered(parts: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Join small batches until they have `size` rows or more; empty ones vanish."""
    waiting: list[Batch] = []
    for part in parts:
        if len(part):
            waiting.append(part)
        if sum(map(len, waiting)) >= size:
            yield joined(waiting)
            waiting = []
    if waiting:
        yield joined(waiting)


def joined(parts: Sequence[Batch]) -> Batch:
    """Return several batches as one; all or none of them say which hops are at hand."""
    if len(parts) == 1:
        return parts[0]
    ids = [text for part in parts for text in part.ids]
    hops = [part.hops_B for part in parts if part.hops_B is not None]
    return Batch(ids, put_together([p.features for p in parts]), torch.cat(hops) if hops else None)


def put_together(blocks: Sequence[Features]) -> Features:
    """Return blocks of rows of one kind on top of each other."""
    sparse = [block for block in blocks if isinstance(block, Csr)]
    if sparse:
        return stack(sparse)
    return torch.cat([block for block in blocks if not isinstance(block, Csr)])
