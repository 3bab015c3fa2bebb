"""One layer over all rows of a graph, from the shards of the layer before to its own.

Aggregation acts per column, so only some column panels of the messages are held at a time:

    for each group of panels that fits into memory:
        fill the panels with every row's messages           (sequential reads)
        for each shard: add up the panels over in-edges     (sequential writes, if groups are many)
    for each shard: finish its rows, write it

What is written does not depend on how many panels are held, nor on who writes which shard.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from g2t.artifact import SCRATCH
from g2t.cache.codec import is_finite
from g2t.cache.format import DTYPES, GRAPH, StoredDtype
from g2t.cache.writer import CacheWriter, RowStream, temporary_of
from g2t.errors import InputError
from g2t.export.edges import Edges, looped_edges
from g2t.export.layer import Layer, Panel
from g2t.export.memory import panels_held
from g2t.export.share import Share
from g2t.export.source import Source
from g2t.runtime import Progress
from g2t.stored import Stored, open_stored

#: Bounds of a block: its rows, the bytes of their float32 values, its edges.
BLOCK_ROWS, BLOCK_BYTES, BLOCK_EDGES = 8192, 4 * 2**20, 2**19

#: Bytes that a block holds per edge: column, weight, row, piece and what is made on the way.
EDGE_BYTES = 48


@dataclass(frozen=True)
class Output:
    """One tensor that a walk writes: a row-wise function of the layer's state [B, D].

    A walk over a teacher's layer gives the state before its activation.
    """

    writer: CacheWriter
    name: str
    width: int
    dtype: StoredDtype
    topk: int | None = None
    of: Callable[[Tensor], Tensor] = field(default=lambda state_BD: state_BD)

    def is_done(self, shard: int) -> bool:
        """Tell whether a shard stands already."""
        return self.writer.is_done(self.name, shard)

    def open(self, shard: int) -> RowStream:
        """Open a shard for its rows."""
        return self.writer.stream(self.name, shard, self.width, self.dtype, self.topk)


@dataclass(frozen=True)
class Work:
    """What every walk of an export shares.

    `precision` is the type of the panels, `budget` the bytes that the process may hold, `base` the
    bytes that it held before the first walk.
    """

    writer: CacheWriter
    precision: StoredDtype
    budget: int
    base: int
    share: Share
    progress: Progress

    @cached_property
    def observed(self) -> Edges:
        """The edges of the cache, from its graph file."""
        tensors = open_stored(self.writer.folder / GRAPH)
        return Edges(tensors["edges.start"], tensors["edges.column"])

    @cached_property
    def looped(self) -> Edges:
        """The same with every node's self-loop once."""
        return looped_edges(self.observed, self.writer.folder)

    @property
    def scratch(self) -> Path:
        """The folder of what only helps the export."""
        return self.writer.folder / SCRATCH

    def todo(self, outputs: Sequence[Output]) -> list[int]:
        """Return the shards of this worker that lack an output."""
        return [
            shard
            for shard in self.share.mine(self.writer.shards)
            if not all(output.is_done(shard) for output in outputs)
        ]

    def edges_of(self, layer: Layer) -> Edges:
        """Return the edges that a layer aggregates over."""
        return self.looped if layer.looped else self.observed

    def blocks(self, edges: Edges, source: Source, width: int, shard: int) -> Iterator[range]:
        """Cut a shard into blocks that are bounded in rows, bytes and edges; same at every call."""
        start, stop = self.writer.span(shard)
        row_bytes = 4 * max(source.dense_width, width)
        most = max(min(BLOCK_ROWS, BLOCK_BYTES // row_bytes), 64)
        start_S = edges.starts(start, stop)
        at = 0
        while at < stop - start:
            limit = torch.searchsorted(start_S, start_S[at] + BLOCK_EDGES, right=True) - 1
            end = max(at + 1, min(at + most, stop - start, int(limit)))
            yield range(start + at, start + end)
            at = end


def walk(work: Work, layer: Layer, source: Source, outputs: Sequence[Output], task: str) -> None:
    """Run a layer over all rows and write what it gives; finished shards are left alone.

    Raises UsageError where the budget cannot hold a single panel, InputError where a value does not
    fit a type.
    """
    todo = work.todo(outputs)
    if not todo:
        return
    source.wait()
    groups = panel_groups(work, layer)
    layer.prepare(work.writer.rows)
    if len(groups) == 1:
        sums = _held_sums(work, layer, fill(work, layer, source, groups[0], see=True))
        for done, shard in enumerate(todo, 1):
            _write_shard(work, layer, source, outputs, shard, sums)
            work.progress.update(task, done, len(todo), {})
        return
    steps = (len(groups) + 1) * len(todo)
    seen = False
    for nth, group in enumerate(groups):
        behind = [shard for shard in todo if _left(work, task, group, shard)]
        tables = fill(work, layer, source, group, see=not seen) if behind else {}
        seen = seen or bool(behind)
        for done, shard in enumerate(todo, 1):
            if shard in behind:
                _store_sums(work, layer, source, shard, tables, task)
            work.progress.update(task, nth * len(todo) + done, steps, {})
        tables.clear()
    for done, shard in enumerate(todo, 1):
        if shard in work.todo(outputs):  # no other process was faster, and took its sums away
            sums = _stored_sums(work, layer, shard, task)
            _write_shard(work, layer, source, outputs, shard, sums)
        for panel in layer.panels:
            _sums_path(work, task, panel, shard).unlink(missing_ok=True)
        work.progress.update(task, len(groups) * len(todo) + done, steps, {})


Tables = dict[Panel, Tensor]


def panel_groups(work: Work, layer: Layer) -> list[list[Panel]]:
    """Share the layer's panels out to as few groups as the budget allows."""
    panels = layer.panels
    held = panels_held(work.budget, _panel_bytes(work, layer), len(panels), _beside(work, layer))
    return [panels[at : at + held] for at in range(0, len(panels), held)]


def least_bytes(work: Work, layer: Layer) -> int:
    """Return what the process holds during a walk with a single panel."""
    return _panel_bytes(work, layer) + _beside(work, layer)


def _panel_bytes(work: Work, layer: Layer) -> int:
    widest = max(panel.stop - panel.start for panel in layer.panels)
    return work.writer.rows * widest * DTYPES[work.precision].itemsize


def _beside(work: Work, layer: Layer) -> int:
    block = BLOCK_BYTES * 6 + BLOCK_EDGES * EDGE_BYTES
    return work.base + work.writer.rows * layer.node_bytes + block


def fill(work: Work, layer: Layer, source: Source, group: Sequence[Panel], see: bool) -> Tables:
    """Compute a group's messages of every row, in the type of the panels."""
    dtype, edges = DTYPES[work.precision], work.edges_of(layer)
    tables = {
        panel: torch.empty(work.writer.rows, panel.stop - panel.start, dtype=dtype)
        for panel in group
    }
    for shard in range(work.writer.shards):
        for block in work.blocks(edges, source, layer.width, shard):
            rows = source.read(block.start, block.stop)
            count_B = edges.starts(block.start, block.stop).diff()
            if see:
                layer.see(block.start, rows)
            for panel, table in tables.items():
                message_BW = layer.message(rows, panel, count_B)
                table[block.start : block.stop] = message_BW
                check_range("message", table[block.start : block.stop], message_BW)
    return tables


def check_range(what: str, stored: Tensor, values: Tensor) -> None:
    """Raise InputError where values, kept in the precision of a walk as `stored`, do not fit."""
    if is_finite(stored):
        return
    if not is_finite(values):
        raise InputError(f"a {what} of the teacher is NaN or infinite", "look at its training")
    raise InputError(
        f"a {what} of the teacher does not fit fp16: {float(values.abs().max()):.3g}",
        "use --precision fp32",
    )


#: Gives the panels of a block of rows, summed over in-edges and rescaled, float32 [B, W] each.
Sums = Callable[[range], Iterator[tuple[Panel, Tensor]]]


def _held_sums(work: Work, layer: Layer, tables: Tables) -> Sums:
    """Add up the held panels."""

    def sums(block: range) -> Iterator[tuple[Panel, Tensor]]:
        start_B, column_E = work.edges_of(layer).block(block.start, block.stop)
        factor_B = layer.rescale(start_B.diff())
        bag, head = None, -1
        for panel, table in tables.items():
            if bag is None or panel.head != head:
                head = panel.head
                bag = layer.bag(block.start, start_B, column_E, head, table.dtype)
            sums_BW = bag.pool(table)
            yield panel, sums_BW if factor_B is None else sums_BW * factor_B[:, None]

    return sums


def _store_sums(
    work: Work, layer: Layer, source: Source, shard: int, tables: Tables, task: str
) -> None:
    """Write a shard's sums of the held panels to the scratch folder, unless they stand there."""
    left = _left(work, task, list(tables), shard)
    sums = _held_sums(work, layer, {panel: tables[panel] for panel in left})
    with ExitStack() as stack:
        paths = {panel: _sums_path(work, task, panel, shard) for panel in left}
        files = {
            panel: stack.enter_context(temporary_of(path).open("wb"))
            for panel, path in paths.items()
        }
        for block in work.blocks(work.edges_of(layer), source, layer.width, shard):
            for panel, sums_BW in sums(block):
                files[panel].write(sums_BW.numpy().tobytes())
    for panel, path in paths.items():
        Path(files[panel].name).replace(path)


def _stored_sums(work: Work, layer: Layer, shard: int, task: str) -> Sums:
    """Read a shard's sums from the scratch folder."""
    start, stop = work.writer.span(shard)
    stored = {
        panel: Stored(
            _sums_path(work, task, panel, shard),
            torch.float32,
            (stop - start, panel.stop - panel.start),
            0,
        )
        for panel in layer.panels
    }

    def sums(block: range) -> Iterator[tuple[Panel, Tensor]]:
        for panel, rows in stored.items():
            yield panel, rows.read(block.start - start, block.stop - start)

    return sums


def _sums_path(work: Work, task: str, panel: Panel, shard: int) -> Path:
    return work.scratch / f"{task}-sums-{panel.start:05d}-{shard:05d}"


def _left(work: Work, task: str, group: Sequence[Panel], shard: int) -> list[Panel]:
    """Return the panels of a group whose sums do not stand yet for a shard."""
    start, stop = work.writer.span(shard)
    sizes = {panel: 4 * (stop - start) * (panel.stop - panel.start) for panel in group}
    paths = {panel: _sums_path(work, task, panel, shard) for panel in group}
    return [
        panel
        for panel, path in paths.items()
        if not path.exists() or path.stat().st_size != sizes[panel]
    ]


def _write_shard(
    work: Work, layer: Layer, source: Source, outputs: Sequence[Output], shard: int, sums: Sums
) -> None:
    """Finish a shard's rows and write every output that does not stand yet."""

    def state(block: range) -> Tensor:
        sums_BD = torch.empty(len(block), layer.width)
        for panel, sums_BW in sums(block):
            sums_BD[:, panel.start : panel.stop] = sums_BW
        rows = source.read(block.start, block.stop) if layer.reads_own else None
        return layer.finish(sums_BD, rows)

    blocks = work.blocks(work.edges_of(layer), source, layer.width, shard)
    write_blocks(outputs, shard, blocks, state)


def write_blocks(
    outputs: Sequence[Output],
    shard: int,
    blocks: Iterator[range],
    state: Callable[[range], Tensor],
) -> None:
    """Write a shard of every output that does not stand yet, from the states of its blocks."""
    with ExitStack() as stack:
        streams = [
            (output, stack.enter_context(output.open(shard)))
            for output in outputs
            if not output.is_done(shard)
        ]
        for block in blocks:
            state_BD = state(block)
            for output, stream in streams:
                stream.append(output.of(state_BD))
