"""Mini-batches of a cache's rows in random order, without holding the cache.

How it shuffles: where all rows of the tensors fit into the buffer, they are read once, and an epoch
is a random permutation of them. Else blocks of consecutive rows are read in random order, with
`pread`, until half of the buffer is full; its rows are permuted and handed out as batches while a
thread reads the next blocks into the other half. So rows that stand far apart meet in a batch only
if their blocks share a half, which holds many. Either way an epoch has every row exactly once.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from g2t.cache.reader import Rows
from g2t.errors import UsageError
from g2t.ranks import ALONE, Ranks
from g2t.units import format_size

#: Blocks that half of the buffer should hold.
MIXED = 16

#: Wanted rows within so many consecutive ones are read at once by `take`.
PIECE = 64

#: Where row numbers stand in the buffer; no tensor of a cache is called so.
_NUMBER = "#"

#: Row numbers int64 [B], and by name the rows [B, W] of every tensor, in the type of `Rows.dtype`.
Drawn = tuple[Tensor, dict[str, Tensor]]

#: Memory for rows of every tensor, and the two of which one is read into while the other is used.
Space = dict[str, Tensor]
Halves = tuple[Space, Space]


class Stream:
    """Several tensors of one cache, drawn from row by row at the cost of `buffer` bytes.

    One epoch at a time: epochs share the buffer. Of several ranks each reads every so many-th
    block, and all are given what any of them asks for; the buffer is that of all ranks together.
    """

    def __init__(
        self,
        tensors: Mapping[str, Rows],
        rows: int,
        buffer: int,
        block: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.rows = rows
        self.buffer = buffer
        self.block = block
        self.ranks = ranks
        self._tensors = dict(tensors)
        self._halves: Halves | None = None
        #: Every tensor as a whole, where they fit; what other ranks read is never touched.
        self.held: dict[str, Tensor] | None = None
        if rows * self.row_bytes <= buffer:
            self.held = {name: self._hold(tensor) for name, tensor in tensors.items()}

    def _hold(self, tensor: Rows) -> Tensor:
        if self.ranks.alone:
            return tensor.read(0, self.rows)
        held = torch.empty(self.rows, tensor.entry.width, dtype=tensor.dtype)
        for start in range(0, self.rows, self.block):
            if self._is_mine(start):
                tensor.read_into(start, held[start : start + self.block])
        return held

    def _is_mine(self, start: int) -> bool:
        return start // self.block % self.ranks.count == self.ranks.number

    def _mine(self, rows_B: Tensor) -> Tensor:
        return rows_B // self.block % self.ranks.count == self.ranks.number

    def _joined(self, rows_B: Tensor, drawn: Space) -> Space:
        """Return what the ranks have of some rows, each those of its own blocks."""
        if self.ranks.alone or not drawn:
            return drawn
        found = self.ranks.joined(list(drawn.values()), self._mine(rows_B))
        return dict(zip(drawn, found, strict=True))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all tensors."""
        return sum(tensor.entry.width * tensor.dtype.itemsize for tensor in self._tensors.values())

    def take(self, name: str, rows_B: Tensor) -> Tensor:
        """Return some rows of a tensor, in any order and repeated as asked, [B, W]."""
        if self.held is not None:
            return self._joined(rows_B, {name: self.held[name].index_select(0, rows_B)})[name]
        if self.ranks.alone:
            return take(self._tensors[name], rows_B)
        tensor = self._tensors[name]
        mine_B = self._mine(rows_B)
        taken = torch.empty(len(rows_B), tensor.entry.width, dtype=tensor.dtype)
        taken[mine_B] = take(tensor, rows_B[mine_B])
        return self.ranks.joined([taken], mine_B)[0]

    def epoch(self, batch: int) -> Iterator[Drawn]:
        """Draw every row once, in batches of which only the last may be short.

        The order depends on the global random state at the start of the epoch alone. Raises
        UsageError where the buffer cannot hold two batches and two blocks.
        """
        if self.held is None:
            yield from self._by_blocks(batch)
            return
        for rows_B in torch.split(torch.randperm(self.rows), batch):
            yield rows_B, self._joined(rows_B, _pick(self.held, rows_B))

    def _by_blocks(self, batch: int) -> Iterator[Drawn]:
        halves = self._reserve(batch)
        # A generator of its own: what the loop draws between batches does not change the order.
        draw = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
        order = torch.randperm(-(-self.rows // self.block), generator=draw) * self.block
        most = (len(halves[0][_NUMBER]) - batch) // self.block
        fills = torch.tensor_split(order, -(-len(order) // most))  # evenly: none is badly mixed
        carried = {name: rows[:0] for name, rows in halves[0].items()}
        for index, (space, filled) in enumerate(self._read_ahead(halves, fills), 1):
            for name, rows in carried.items():
                space[name][filled : filled + len(rows)] = rows
            filled += len(carried[_NUMBER])
            mixed = torch.randperm(filled, generator=draw)
            ready = filled - filled % batch if index < len(fills) else filled
            for pick_B in torch.split(mixed[:ready], batch) if ready else ():
                drawn = _pick(space, pick_B)
                rows_B = drawn.pop(_NUMBER)
                yield rows_B, self._joined(rows_B, drawn)
            carried = _pick(space, mixed[ready:])  # too few for a batch: they join the next fill

    def _read_ahead(self, halves: Halves, fills: Sequence[Tensor]) -> Iterator[tuple[Space, int]]:
        """Yield the halves in turn, full, with the rows in them, while the other is being read."""
        with ThreadPoolExecutor(1, "g2t-stream") as reader:
            ahead = reader.submit(self._fill, halves[0], fills[0])
            for index in range(len(fills)):
                filled = ahead.result()
                if index + 1 < len(fills):
                    ahead = reader.submit(self._fill, halves[1 - index % 2], fills[index + 1])
                yield halves[index % 2], filled

    def _reserve(self, batch: int) -> Halves:
        """Return the halves of the buffer: rows of every tensor, and their numbers."""
        row_bytes = self.row_bytes + 8
        count, least = self.buffer // row_bytes // 2, batch + self.block
        if count < least:
            raise UsageError(
                f"a buffer of {format_size(self.buffer)} cannot hold two batches of {batch} rows "
                f"and two blocks of {self.block}, {row_bytes} bytes a row",
                f"set train.buffer to {format_size(2 * least * row_bytes)} or more",
            )
        if self._halves is None:
            self._halves = self._space(count), self._space(count)
        return self._halves

    def _space(self, count: int) -> Space:
        rows = {
            name: torch.empty(count, tensor.entry.width, dtype=tensor.dtype)
            for name, tensor in self._tensors.items()
        }
        return {**rows, _NUMBER: torch.empty(count, dtype=torch.int64)}

    def _fill(self, space: Space, starts: Tensor) -> int:
        """Read the blocks that begin at some rows; return how many rows that makes."""
        filled = 0
        for start in starts.tolist():
            stop = min(start + self.block, self.rows)
            end = filled + stop - start
            if self._is_mine(start):
                for name, tensor in self._tensors.items():
                    tensor.read_into(start, space[name][filled:end])
            torch.arange(start, stop, out=space[_NUMBER][filled:end])
            filled = end
        return filled


def well_mixed(tensors: Mapping[str, Rows], buffer: int, block: int) -> int:
    """Return the rows to read at once: `block`, or fewer if half a buffer holds few such blocks.

    A batch of one or two blocks is no random sample where neighbouring rows are alike: see
    tests/bench/block_shuffle.py.
    """
    row_bytes = sum(rows.entry.width * rows.dtype.itemsize for rows in tensors.values()) + 8
    return max(1, min(block, buffer // row_bytes // 2 // MIXED))


def _pick(space: Space, pick_B: Tensor) -> Space:
    return {name: rows.index_select(0, pick_B) for name, rows in space.items()}


def take(tensor: Rows, rows_B: Tensor) -> Tensor:
    """Return some rows of a tensor, in any order and repeated as asked, [B, W].

    They are read in the order of the file; neighbours are read together.
    """
    taken = torch.empty(len(rows_B), tensor.entry.width, dtype=tensor.dtype)
    order_B = rows_B.argsort()
    sorted_B = rows_B[order_B]
    _, counts = torch.unique_consecutive(sorted_B // PIECE, return_counts=True)
    parts = torch.split(sorted_B, counts.tolist())
    for part, place in zip(parts, torch.split(order_B, counts.tolist()), strict=True):
        start = int(part[0])
        taken[place] = tensor.read(start, int(part[-1]) + 1)[part - start]
    return taken
