"""Weighted sums over in-neighbours for a panel of columns: all of an export's edge work.

`torch.nn.functional.embedding_bag` fuses gather, weight and sum, reads fp16 in place and adds in
fp32. What it returns is fp16 again, so sums must not leave its range: rows are cut into pieces
whose weights sum to one or less, and rescaled in fp32. fp32 tables are summed by pieces too: one
running sum over a hub's edges loses digits, with like messages up to four of its seven.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: Edges of a piece at most. In fp16, equal weights stay above its subnormal range; in fp32, sums of
#: like messages keep a relative error of 4e-6.
PIECES = {torch.float16: 4096, torch.float32: 256}


@dataclass(frozen=True)
class Bag:
    """A block's edges, ready to pool tables of one type; `rows` of them.

    `begin_P` int32 [pieces + 1]; `scale_P` and `row_P` put pieces together: None where weights
    stand as they are, and where every row is one piece.
    """

    rows: int
    column_E: Tensor
    begin_P: Tensor
    weight_E: Tensor | None
    scale_P: Tensor | None
    row_P: Tensor | None

    def pool(self, table_NW: Tensor) -> Tensor:
        """Return Σ_u weight · table[u] for every row, float32 [rows, W]."""
        if adds_in_float32(table_NW.dtype):
            pieces_PW = _fused(self.column_E, table_NW, self.begin_P, self.weight_E).float()
        else:
            pieces_PW = self._gathered(table_NW)
        if self.scale_P is not None:
            pieces_PW *= self.scale_P[:, None]
        if self.row_P is None:
            return pieces_PW
        sums_BW = torch.zeros(self.rows, table_NW.shape[1], dtype=torch.float64)
        return sums_BW.index_add_(0, self.row_P, pieces_PW.double()).float()

    def _gathered(self, table_NW: Tensor) -> Tensor:
        """Return the sum of every piece in float32, several times slower than the fused call."""
        count_P = self.begin_P.diff().long()
        rows_EW = table_NW[self.column_E.long()].float()
        if self.weight_E is not None:
            rows_EW *= self.weight_E.float()[:, None]
        pieces_PW = torch.zeros(len(count_P), table_NW.shape[1])
        return pieces_PW.index_add_(0, torch.repeat_interleave(count_P), rows_EW)


@cache
def adds_in_float32(dtype: torch.dtype) -> bool:
    """Tell whether this machine's fused sum of a type keeps what a sum in that type would lose.

    PyTorch does not promise it: it holds for its x86 kernels.
    """
    if dtype == torch.float32:
        return True
    column_E = torch.tensor([0] + [1] * 4095, dtype=torch.int32)
    begin_P = torch.tensor([0, 4096], dtype=torch.int32)
    table_NW = torch.tensor([[1.0], [2.0**-11]]).repeat(1, 32).to(dtype)
    found_PW = _fused(column_E, table_NW, begin_P, torch.ones(4096, dtype=dtype))
    return bool((found_PW.float() - 3).abs().max() < 0.01)


def _fused(column_E: Tensor, table_NW: Tensor, begin_P: Tensor, weight_E: Tensor | None) -> Tensor:
    return F.embedding_bag(
        column_E,
        table_NW,
        begin_P,
        mode="sum",
        per_sample_weights=weight_E,
        include_last_offset=True,
    )


def make_bag(
    start_B: Tensor, column_E: Tensor, dtype: torch.dtype, weight_E: Tensor | None = None
) -> Bag:
    """Prepare a block of rows (`start_B` int64 [B + 1] from 0) for tables of a type.

    `weight_E` float32 [E], not negative; without it every edge counts once.
    """
    rows = len(start_B) - 1
    begin_P, row_P = _pieces(start_B, PIECES[dtype])
    scale_P = None
    if dtype != torch.float32:
        weight_E, scale_P = _in_range(begin_P.diff(), dtype, weight_E)
    whole = len(row_P) == rows
    return Bag(rows, column_E, begin_P.int(), weight_E, scale_P, None if whole else row_P)


def _in_range(
    count_P: Tensor, dtype: torch.dtype, weight_E: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return weights of a type that sum to one or less in every piece, and what undoes that."""
    piece_E = torch.repeat_interleave(count_P)
    if weight_E is None:
        # A power of two, so that neither weighting nor rescaling rounds anything.
        scale_P = torch.exp2(count_P.clamp(min=1).float().log2().ceil())
        return (1 / scale_P)[piece_E].to(dtype), scale_P
    total_P = torch.zeros(len(count_P)).index_add_(0, piece_E, weight_E)
    one = torch.ones(())
    # They sum to one half: rounded up, all of them, they would lift the largest message over.
    twice_P = torch.where(total_P > 0, 2 * total_P, one)
    rounded_E = (weight_E / twice_P[piece_E]).to(dtype)
    # Rescaled by what they sum to once rounded, so that the errors of like weights do not add up.
    rounded_P = torch.zeros(len(count_P)).index_add_(0, piece_E, rounded_E.float())
    return rounded_E, total_P / torch.where(total_P > 0, rounded_P, one)


def _pieces(start_B: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Cut rows into pieces of at most so many edges: where each begins [P + 1], its row [P]."""
    count_B = start_B.diff()
    pieces_B = ((count_B + most - 1) // most).clamp(min=1)
    row_P = torch.repeat_interleave(pieces_B)
    first_B = pieces_B.cumsum(0) - pieces_B
    nth_P = torch.arange(len(row_P)) - first_B[row_P]
    return torch.cat([start_B[row_P] + nth_P * most, start_B[-1:]]), row_P
