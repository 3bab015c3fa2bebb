"""Where a layer's rows come from: the graph's features, or the shards of the layer before."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from g2t.cache.format import TensorEntry, shard_name
from g2t.cache.reader import Rows
from g2t.cache.writer import CacheWriter
from g2t.export.layer import linear
from g2t.export.share import wait_for
from g2t.graph.csr import Csr, Features
from g2t.graph.lazy import GraphFile, observed_rows
from g2t.graph.scaling import scale_features
from g2t.stored import open_stored


class Source(Protocol):
    """Rows of all nodes, [N, width], read a block at a time; `dense_width` counts for memory."""

    @property
    def dense_width(self) -> int:
        """Columns of a row in memory."""

    def wait(self) -> None:
        """Return once every row can be read."""

    def read(self, start: int, stop: int) -> Features:
        """Return the rows [start, stop)."""


@dataclass(frozen=True)
class FeatureSource:
    """The features of the cache's nodes, scaled as the teacher saw them.

    `before` is the teacher's linear layer (with ReLU) ahead of the first convolution, `projection`
    [F, W] a fixed linear map, and `noise` the standard deviation of what KRD adds to the features,
    to stored entries where they are sparse.
    """

    graph: GraphFile
    nodes: Tensor
    scaling: str = "raw"
    before: tuple[Tensor, Tensor | None] | None = None
    projection: Tensor | None = None
    noise: float = 0.0

    @property
    def dense_width(self) -> int:
        """Columns of a row in memory: for sparse rows, as many as they have entries."""
        width = -(-2 * self.graph.entries // self.graph.nodes)
        for matrix in (self.before and self.before[0].t(), self.projection):
            if matrix is not None:
                width += matrix.shape[1]
        return width

    def wait(self) -> None:
        """Features are always there."""

    def read(self, start: int, stop: int) -> Features:
        """Return the rows [start, stop)."""
        rows = scale_features(observed_rows(self.graph, self.nodes, start, stop), self.scaling)
        if self.noise:
            rows = _noisy(rows, self.noise, start)
        if self.projection is not None:
            return (
                rows.project(self.projection) if isinstance(rows, Csr) else rows @ self.projection
            )
        if self.before is not None:
            return linear(rows, *self.before).relu_()
        return rows


class ShardSource:
    """The rows of a tensor that is being exported, decoded."""

    def __init__(self, writer: CacheWriter, entry: TensorEntry) -> None:
        self.writer = writer
        self.entry = entry
        self._rows: Rows | None = None

    @property
    def dense_width(self) -> int:
        """Columns of a row."""
        return self.entry.width

    def wait(self) -> None:
        """Wait for the shards of other workers."""
        folder, shards = self.writer.folder, range(self.writer.shards)
        paths = [folder / shard_name(self.entry.name, index) for index in shards]
        wait_for(paths, folder)
        opened = [open_stored(path) for path in paths]
        self._rows = Rows(self.entry, self.writer.shard_rows, opened)

    def read(self, start: int, stop: int) -> Tensor:
        """Return the rows [start, stop), float32."""
        if self._rows is None:
            self.wait()
        assert self._rows is not None
        return self._rows.read(start, stop).float()


def _noisy(rows: Features, noise: float, first: int) -> Features:
    """Add noise to stored values; an entry's noise depends on its row and column alone."""
    if isinstance(rows, Csr):
        drawn_E = normal(rows.row_E + first, rows.column_E.long())
        return Csr(rows.start_N, rows.column_E, rows.values() + noise * drawn_E, rows.width)
    row_B1 = torch.arange(first, first + len(rows))[:, None]
    return rows + noise * normal(row_B1, torch.arange(rows.shape[1]))


def normal(row: Tensor, column: Tensor) -> Tensor:
    """Return standard normal numbers that are a fixed function of (row, column), float32.

    A counter-based generator: any part of the noise can be drawn by itself, in any order.
    """
    bits = (row * 0x9E3779B97F4A7C1 + column) * 0x1B873593CC9E2D51
    for shift, factor in ((31, 0x7FB5D329728EA185), (27, 0x1DADEF4BC2DD44D7), (33, 1)):
        # Right shifts of signed numbers keep their sign; xor mixes all the same.
        bits = (bits ^ (bits >> shift)) * factor
    uniform = ((bits & 0xFFFFFFFF).double() + 0.5) / 2**32
    drawn: Tensor = torch.special.erfinv(2 * uniform - 1) * 2**0.5
    return drawn.float()
