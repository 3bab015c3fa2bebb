"""Layers of a teacher that does not describe itself, run block by block through its own network.

A block of rows and all of their in-neighbours make a small graph, with the operators' values taken
from the whole graph. Right for any convolution that reaches one hop; slower than the panels, since
neighbours' rows are fetched from disk as they come.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.export.edges import Edges
from g2t.export.source import FeatureSource, Source
from g2t.export.walk import Output, Work, write_blocks
from g2t.graph.csr import Csr, Features, stack, take_rows
from g2t.teacher.frame import GNN, Structure

#: Rows between two wanted ones that are rather read than skipped.
GAP = 16


@dataclass(frozen=True)
class Begun:
    """What a network makes of features before its first step, computed at every read."""

    features: FeatureSource
    network: GNN

    @property
    def dense_width(self) -> int:
        """Columns of a row in memory."""
        return self.features.dense_width + max(self.network.widths)

    def wait(self) -> None:
        """Features are always there."""

    def read(self, start: int, stop: int) -> Features:
        """Return the rows [start, stop)."""
        return self.network.begin(self.features.read(start, stop))


@torch.inference_mode()
def walk_network(
    work: Work,
    network: GNN,
    index: int,
    source: Source,
    first: Source,
    outputs: Sequence[Output],
    task: str,
) -> None:
    """Run step `index` over all rows and write what it gives, not activated; finished shards stay.

    `source` are the states before it, `first` those before step 0.
    """

    def state(block: range) -> Tensor:
        rows_B = torch.arange(block.start, block.stop)
        near, structure = neighbourhood(work.observed, work.looped, rows_B)
        rows = gather(source, near)
        begun = gather(first, near) if network.reads_first else None
        own = torch.searchsorted(near, rows_B)
        return network.step(index, rows, structure, begun)[own]

    walk_rows(work, [source, first] if network.reads_first else [source], outputs, state, task)


def walk_rows(
    work: Work,
    sources: Sequence[Source],
    outputs: Sequence[Output],
    state: Callable[[range], Tensor],
    task: str,
) -> None:
    """Write what a function of blocks of rows gives, once its sources can be read."""
    width = max(output.width for output in outputs)
    widest = max(sources, key=lambda source: source.dense_width)
    todo = work.todo(outputs)
    for source in sources if todo else ():
        source.wait()
    for done, shard in enumerate(todo, 1):
        blocks = work.blocks(work.observed, widest, width, shard)
        write_blocks(outputs, shard, blocks, state)
        work.progress.update(task, done, len(todo), {})


def neighbourhood(observed: Edges, looped: Edges, rows_B: Tensor) -> tuple[Tensor, Structure]:
    """Return the nodes that some rows are computed from, ascending, and the edges into the rows.

    The operators keep the degrees of the whole graph; other nodes than the rows have no in-edges.
    """
    inward = _rows_of(observed, rows_B)
    near = torch.unique(torch.cat([rows_B, inward.column_E.long()]))
    edges = _spread(inward, near, torch.searchsorted(near, rows_B))
    return near, Structure(edges, _degrees(looped, near) - 1, edges.start_N.device)


def _degrees(edges: Edges, rows_B: Tensor) -> Tensor:
    """Return how many edges some ascending rows have."""
    return torch.cat(
        [
            edges.starts(first, last).diff()[rows_B[a:b] - first]
            for a, b, first, last in _runs(rows_B)
        ]
    )


def _rows_of(edges: Edges, rows_B: Tensor) -> Csr:
    """Return some ascending rows of edges."""
    parts = []
    for a, b, first, last in _runs(rows_B):
        start_S, column_E = edges.block(first, last)
        parts.append(Csr(start_S, column_E, None, len(edges)).rows(rows_B[a:b] - first))
    return stack(parts)


def _spread(rows: Csr, near: Tensor, target_B: Tensor) -> Csr:
    """Renumber columns by their position in `near` and give every node of `near` a row."""
    count = torch.zeros(len(near), dtype=torch.int64)
    count[target_B] = rows.counts_N
    column_E = torch.searchsorted(near, rows.column_E.long()).int()
    return Csr(F.pad(count.cumsum(0), (1, 0)), column_E, None, len(near))


def gather(source: Source, rows_B: Tensor) -> Features:
    """Return some ascending rows of a source, runs of neighbouring ones in one read."""
    parts = [
        take_rows(source.read(first, last), rows_B[a:b] - first)
        for a, b, first, last in _runs(rows_B)
    ]
    sparse = [part for part in parts if isinstance(part, Csr)]
    return stack(sparse) if sparse else torch.cat([p for p in parts if isinstance(p, Tensor)])


def _runs(rows_B: Tensor) -> list[tuple[int, int, int, int]]:
    """Cut ascending rows where gaps are wide: (from, to) in `rows_B`, (first, last + 1) row."""
    cuts = ((rows_B.diff() > GAP).nonzero().flatten() + 1).tolist()
    bounds = pairwise([0, *cuts, len(rows_B)])
    return [(a, b, int(rows_B[a]), int(rows_B[b - 1]) + 1) for a, b in bounds]
