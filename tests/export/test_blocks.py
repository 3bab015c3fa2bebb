"""The pieces of work: every row once, bounded in rows, bytes and edges, the same at every call."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from g2t.cache.writer import CacheWriter
from g2t.export import walk
from g2t.export.edges import Edges
from g2t.export.layer import Panel, panels_of
from g2t.export.share import Share
from g2t.export.walk import Work
from g2t.runtime import Silent
from g2t.stored import open_stored
from g2t.tensors import save_tensors


class Wide:
    """As much of a source as a block looks at."""

    def __init__(self, dense_width: int) -> None:
        self.dense_width = dense_width


@settings(max_examples=30)
@given(
    counts=st.lists(st.integers(0, 9) | st.integers(0, 90), min_size=1, max_size=400),
    shard_rows=st.integers(1, 450),
    widths=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    most=st.tuples(st.integers(1, 300), st.integers(1, 120), st.integers(1, 20_000)),
)
def test_blocks_cover_every_row_once_and_stay_within_their_bounds(
    tmp_path_factory: pytest.TempPathFactory,
    counts: list[int],
    shard_rows: int,
    widths: tuple[int, int],
    most: tuple[int, int, int],
) -> None:
    folder: Path = tmp_path_factory.mktemp("blocks")
    start = torch.nn.functional.pad(torch.tensor(counts).cumsum(0), (1, 0))
    save_tensors(folder / "edges", {"start": start, "column": torch.zeros(sum(counts)).int()})
    stored = open_stored(folder / "edges")
    edges = Edges(stored["start"], stored["column"])
    work = Work(CacheWriter(folder, len(counts), shard_rows), "fp32", 0, 0, Share(), Silent())
    rows, count, size = most
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "BLOCK_ROWS", rows)
        patch.setattr(walk, "BLOCK_EDGES", count)
        patch.setattr(walk, "BLOCK_BYTES", size)
        for shard in range(work.writer.shards):
            blocks = list(work.blocks(edges, Wide(widths[0]), widths[1], shard))  # type: ignore[arg-type]
            assert (blocks[0].start, blocks[-1].stop) == work.writer.span(shard)
            found += blocks
            again = work.blocks(edges, Wide(widths[0]), widths[1], shard)  # type: ignore[arg-type]
            assert list(again) == blocks
    assert [row for block in found for row in block] == list(range(len(counts)))
    for block in found:
        held = int(start[block.stop] - start[block.start])
        assert held <= count or len(block) == 1  # a hub is a block by itself
        # 64 rows are taken however wide they are, for the sake of speed.
        assert len(block) <= max(64, min(rows, size // (4 * max(widths))))


@given(size=st.integers(1, 100), heads=st.integers(1, 8), most=st.integers(1, 40))
def test_panels_cover_every_column_once_and_none_has_two_heads(
    size: int, heads: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("g2t.export.layer.PANEL", most)
        panels = panels_of(size * heads, heads)
    columns = [(column, p.head) for p in panels for column in range(p.start, p.stop)]
    assert columns == [(column, column // size) for column in range(size * heads)]
    assert all(1 <= panel.stop - panel.start <= most for panel in panels)
    assert len(panels) == heads * -(-size // most)
    assert panels_of(1) == [Panel(0, 1)]
