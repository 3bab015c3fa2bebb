"""Random numbers of a batch that is shared out: drawn for the whole of it, kept for one's rows.

So every rank draws the same numbers, and a row gets those that it would get on a single process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

#: Places in the whole: a run of them, or one by one.
Places = slice | Tensor


@dataclass(frozen=True)
class Part:
    """The rows at hand of a batch of `rows`; where rows are sparse, their entries of `entries`."""

    rows: int
    mine: Places
    entries: int
    mine_entries: Places


_part: Part | None = None


@contextmanager
def drawing_for(part: Part | None) -> Iterator[None]:
    """Draw for a part within this block; None: what is at hand is the whole."""
    global _part
    before, _part = _part, part
    try:
        yield
    finally:
        _part = before


def drop(rows: Tensor, rate: float, training: bool) -> Tensor:
    """Drop numbers of dense rows at random and scale up the rest."""
    if _part is None or not training:
        return F.dropout(rows, rate, training)
    return rows * _mask(rows, _part.rows, rate)[_part.mine]


def drop_entries(value_E: Tensor, rate: float, training: bool) -> Tensor:
    """Drop stored entries of sparse rows at random and scale up the rest."""
    if _part is None or not training:
        return F.dropout(value_E, rate, training)
    return value_E * _mask(value_E, _part.entries, rate)[_part.mine_entries]


def draw(rows: int, make: Callable[[int], Tensor]) -> Tensor:
    """Return what `make` draws for so many rows, [rows, …]."""
    return make(rows) if _part is None else make(_part.rows)[_part.mine]


def _mask(like: Tensor, length: int, rate: float) -> Tensor:
    return F.dropout(like.new_ones(length, *like.shape[1:]), rate, True)


class Dropout(nn.Dropout):
    """`nn.Dropout` of rows that may be a part of a batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop numbers at random while training."""
        return drop(input, self.p, self.training)
