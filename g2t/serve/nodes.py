"""Nodes among edges: those of a graph artefact, and new ones with an edge table of their own."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from g2t.errors import InputError, UsageError, did_you_mean
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import Csr, Features, from_pairs, take_rows
from g2t.graph.sources.assemble import Note, clean_edges
from g2t.graph.sources.table import TableSettings, read_edges
from g2t.graph.sources.tabular import open_table
from g2t.serve.batch import Batch, joined, put_together
from g2t.serve.features import as_features, no_edges
from g2t.serve.near import Surroundings
from g2t.serve.student import Prediction, ServedStudent

#: Ids that are named in a sentence.
SHOWN = 3


@dataclass(frozen=True)
class EdgeTable:
    """A CSV or Parquet file of edges and how to read it, as in `g2t import table:`.

    `unknown_nodes`: `error`, or `drop` edges with an end that nobody knows.
    """

    path: Path
    settings: dict[str, str] = field(default_factory=dict)
    directed: bool = False


@dataclass(frozen=True)
class Known:
    """Nodes with features and edges, ready to be asked: `ids` of those to answer for, and where.

    `hops_N` are the hops at hand at every node.
    """

    features: Features
    edges: Csr
    hops_N: Tensor | None
    ids: Sequence[str]
    index_B: Tensor

    def answers(self, student: ServedStudent) -> Iterator[tuple[Sequence[str], Prediction]]:
        """Answer for the nodes asked about, a chunk at a time, in their order."""
        done = 0
        for part in self._parts(student):
            yield self.ids[done : done + len(part)], part
            done += len(part)

    def _parts(self, student: ServedStudent) -> Iterator[Prediction]:
        """Answer from what the nodes asked about read, which is not all where they are not all."""
        asked_B, place_B = torch.unique(self.index_B, return_inverse=True)
        if len(asked_B) == len(self.edges):
            return student.answers(self.features, self.edges, self.hops_N, self.index_B)
        if self.hops_N is None:
            own = take_rows(self.features, self.index_B)
            return student.answers(own, no_edges(len(own)), None)
        hops_B = self.hops_N[self.index_B]
        near = Surroundings(self.features, self.edges).near(asked_B, int(hops_B.max()))
        return student.answers_near(near, place_B, hops_B)


def open_known_graph(path: Path, student: ServedStudent) -> tuple[Graph, tuple[str, ...]]:
    """Open a graph artefact that a student can read, with the ids of its nodes.

    Raises InputError where its features are not those that the student reads.
    """
    graph = read_graph(path)
    theirs, ours = graph.feature_names, student.feature_names
    if theirs is not None and ours is not None and theirs != ours:
        raise InputError(
            f"{path} has other feature columns than the student reads: {_first_other(theirs, ours)}"
        )
    return graph, graph.ids or tuple(map(str, range(graph.nodes)))


def _first_other(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    pairs = zip(theirs, ours, strict=False)
    found = next(((a, b) for a, b in pairs if a != b), None)
    return f"{len(theirs)} for {len(ours)}" if found is None else f"{found[0]!r} for {found[1]!r}"


def nodes_of_graph(
    path: Path, student: ServedStudent, wanted: Sequence[str] | None, hops: int | None
) -> Known:
    """Return nodes of a graph artefact with all that it knows of them: `wanted` ids, or all.

    All hops are at hand unless `hops` says less: a node without an edge is known to have none.
    Raises InputError for an id that the graph does not have.
    """
    graph, ids = open_known_graph(path, student)
    features = as_features(graph.features, student.width, student.kind == "csr")
    hops_N = student.hops_at(graph.edges, student.hops if hops is None else hops)
    if wanted is None:
        return Known(features, graph.edges, hops_N, ids, torch.arange(len(ids)))
    row = {text: i for i, text in enumerate(ids)}
    strange = [text for text in wanted if text not in row]
    if strange:
        more = f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
        raise InputError(
            f"{path} has no node {', '.join(map(repr, strange[:SHOWN]))}{more}",
            did_you_mean(strange[0], ids) if len(ids) < 100_000 else "give ids of its nodes",
        )
    index_B = torch.tensor([row[text] for text in wanted])
    return Known(features, graph.edges, hops_N, wanted, index_B)


def nodes_with_edges(
    batches: Iterable[Batch],
    student: ServedStudent,
    table: EdgeTable,
    graph_path: Path | None,
    hops: int | None,
    note: Note,
) -> Known:
    """Return new nodes joined by edges to each other and, if one is given, to a graph's nodes.

    All are held in memory. Hops at hand: what the input says of a node, at most `hops`; else all
    where it has an edge. Raises InputError for an id that is there twice or an edge to nowhere.
    """
    gathered = list(batches)
    new = joined(gathered) if gathered else None
    if new is None:
        raise InputError("every row was wrong: there is no node left to answer for")
    graph, old = (None, ()) if graph_path is None else open_known_graph(graph_path, student)
    index = {text: i for i, text in enumerate(old)}
    for text in new.ids:
        row, fresh = index.setdefault(text, len(index)), len(index) - 1
        if row != fresh:
            place = "stands twice" if row >= len(old) else f"is a node of {graph_path} already"
            raise InputError(f"node {text!r} {place}", "every node needs an id of its own")
    features = new.features
    if graph is not None:
        known = as_features(graph.features, student.width, student.kind == "csr")
        features = put_together([known, features])
    edges = _joined_edges(table, graph, index, note)
    index_B = torch.arange(len(old), len(index))
    hops_N = student.hops_at(edges, None)
    if hops_N is not None and new.hops_B is not None:
        hops_N[index_B] = new.hops_B
    if hops_N is not None and hops is not None:
        if not 0 <= hops <= student.hops:
            raise UsageError(f"--hops {hops}: this student reads 0 … {student.hops}")
        hops_N = hops_N.clamp(max=hops)
    return Known(features, edges, hops_N, new.ids, index_B)


def _joined_edges(table: EdgeTable, graph: Graph | None, index: dict[str, int], note: Note) -> Csr:
    files = {"nodes": "", "edges": str(table.path)}
    settings = TableSettings.model_validate({**files, **table.settings})
    ends_E2 = read_edges(open_table(table.path), settings, index, note)
    directed = table.directed or (graph is not None and graph.directed)
    edges, _ = clean_edges(ends_E2[:, 0], ends_E2[:, 1], len(index), directed, note)
    if graph is None:
        return edges
    source_E = torch.cat([graph.edges.column_E.long(), edges.column_E.long()])
    target_E = torch.cat([graph.edges.row_E, edges.row_E])
    return from_pairs(source_E, target_E, len(index))
