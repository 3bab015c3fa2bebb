"""Random numbers of a batch that is shared out: drawn for the whole of it, kept for one's rows.

So every rank draws the same numbers, and a row gets those that it would get on a single process.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
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
    if not training or rate == 0:
        return rows
    if _part is None:
        return rows * _mask(rows, len(rows), rate)
    return rows * _mask(rows, _part.rows, rate)[_part.mine]


def drop_entries(value_E: Tensor, rate: float, training: bool) -> Tensor:
    """Drop stored entries of sparse rows at random and scale up the rest."""
    if not training or rate == 0:
        return value_E
    if _part is None:
        return value_E * _mask(value_E, len(value_E), rate)
    return value_E * _mask(value_E, _part.entries, rate)[_part.mine_entries]


def draw(rows: int, make: Callable[[int], Tensor]) -> Tensor:
    """Return what `make` draws for so many rows, [rows, …]."""
    return make(rows) if _part is None else make(_part.rows)[_part.mine]


def _mask(like: Tensor, length: int, rate: float) -> Tensor:
    """Return 0 for what is dropped and what scales up the rest, for `length` rows like these.

    On a CPU four numbers share a draw of 64 bits, so a rate is kept to 1 in 65,536. PyTorch's
    dropout draws for each, in three times the time: it was a quarter of a student's step.
    """
    shape = (length, *like.shape[1:])
    if like.device.type != "cpu":
        return F.dropout(like.new_ones(shape), rate, True)
    count, dropped = math.prod(shape), min(round(rate * 2**16), 2**16 - 1)
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.int16)[:count].view(shape) >= dropped - 2**15
    return kept * like.new_tensor(2**16 / (2**16 - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout` of rows that may be a part of a batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop numbers at random while training."""
        return drop(input, self.p, self.training)
