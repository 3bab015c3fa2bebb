"""Edges in rows on disk, read a block at a time: as observed, and with every self-loop once."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.artifact import SCRATCH, sync
from g2t.cache.writer import temporary_of
from g2t.errors import IntegrityError
from g2t.graph.lazy import GraphFile, all_nodes
from g2t.stored import Stored, open_stored
from g2t.tensors import save_tensors

#: Rows that are read at a time.
ROWS = 65_536


@dataclass(frozen=True)
class Edges:
    """In-neighbours by rows: row v has the columns `column_E[start_N[v]:start_N[v + 1]]`."""

    start_N: Stored
    column_E: Stored

    def __len__(self) -> int:
        return len(self.start_N) - 1

    def starts(self, start: int, stop: int) -> Tensor:
        """Return where the rows [start, stop) and the next one begin, int64 [B + 1].

        Raises IntegrityError where they do not ascend within the columns.
        """
        starts_B = self.start_N.read(start, stop + 1)
        inside = int(starts_B[0]) >= 0 and int(starts_B[-1]) <= len(self.column_E)
        if not inside or bool((starts_B.diff() < 0).any()):
            raise IntegrityError(f"{self.start_N.path}: the edges are no sparse rows")
        return starts_B

    def block(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the rows [start, stop): their starts from 0, int64 [B + 1], and columns int32.

        Raises IntegrityError where an edge comes from a node that is not there.
        """
        starts_B = self.starts(start, stop)
        column_E = self.column_E.read(int(starts_B[0]), int(starts_B[-1]))
        if len(column_E) and not 0 <= int(column_E.min()) <= int(column_E.max()) < len(self):
            raise IntegrityError(f"{self.column_E.path}: an edge leads to a node that is not there")
        return starts_B - starts_B[0], column_E


def observed_edges(graph: GraphFile, nodes: Tensor, folder: Path) -> Edges:
    """Return the edges among some nodes (ascending ids), renumbered by their position.

    Where these are all nodes, the graph's own file serves; else a file in the scratch folder.
    """
    edges = Edges(graph.tensors["edges.start"], graph.tensors["edges.column"])
    if all_nodes(nodes, graph.nodes):
        return edges
    return _rewrite(edges, nodes, folder / SCRATCH / "observed", loops=False)


def looped_edges(edges: Edges, folder: Path) -> Edges:
    """Return edges with every node's self-loop exactly once, in the scratch folder."""
    nodes = torch.arange(len(edges))
    return _rewrite(edges, nodes, folder / SCRATCH / "looped", loops=True)


def _rewrite(edges: Edges, nodes: Tensor, path: Path, loops: bool) -> Edges:
    """Write rows of edges anew, a block at a time; files that are there already are whole."""
    columns, starts = path.with_suffix(".columns"), path.with_suffix(".starts")
    if not starts.exists():
        path.parent.mkdir(exist_ok=True)
        new_N = torch.full((len(edges),), -1, dtype=torch.int32)
        new_N[nodes] = torch.arange(len(nodes), dtype=torch.int32)
        counts = []
        temporary = temporary_of(path)
        with temporary.open("wb") as file:
            for at in range(0, len(nodes), ROWS):
                count_B, column_E = _rows(edges, nodes[at : at + ROWS], new_N)
                if loops:
                    count_B, column_E = _with_loops(count_B, column_E, at)
                counts.append(count_B)
                file.write(column_E.numpy().tobytes())
        sync(temporary)
        temporary.replace(columns)
        start_N = F.pad(torch.cat(counts).cumsum(0), (1, 0))
        save_tensors(temporary, {"start": start_N})
        sync(temporary)
        temporary.replace(starts)
    start = open_stored(starts)["start"]
    count = columns.stat().st_size // torch.int32.itemsize
    return Edges(start, Stored(columns, torch.int32, (count,), 0))


def _rows(edges: Edges, nodes_B: Tensor, new_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return count and new columns of the edges that some rows get from nodes with a new number."""
    first, last = int(nodes_B[0]), int(nodes_B[-1]) + 1
    start_S, column_E = edges.block(first, last)
    row_E = torch.repeat_interleave(start_S.diff())
    new_S = torch.full((last - first,), -1)
    new_S[nodes_B - first] = torch.arange(len(nodes_B))
    column_E, row_E = new_N[column_E.long()], new_S[row_E]
    keep_E = (column_E >= 0) & (row_E >= 0)
    return torch.bincount(row_E[keep_E], minlength=len(nodes_B)), column_E[keep_E]


def _with_loops(count_B: Tensor, column_E: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Put every row's own number last and take it out where it stood already."""
    row_E = torch.repeat_interleave(count_B)
    others_E = column_E != row_E + first
    column_E, row_E = column_E[others_E], row_E[others_E]
    count_B = torch.bincount(row_E, minlength=len(count_B)) + 1
    end_B = count_B.cumsum(0)
    looped_E = torch.empty(int(end_B[-1]), dtype=torch.int32)
    # Row r has r self-loops of the rows before it ahead of its own edges.
    looped_E[torch.arange(len(column_E)) + row_E] = column_E
    looped_E[end_B - 1] = torch.arange(first, first + len(count_B), dtype=torch.int32)
    return count_B, looped_E
