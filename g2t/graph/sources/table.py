"""`table:`: a user's own graph, a table of nodes, a table of edges and, if wanted, features.

Tables are CSV or Parquet. Ids and labels may be of any type; labels become classes by name, several
label columns of 0 and 1 become several labels per node. Text is compared as it stands, so `01` and
`1` are two ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator
from torch import Tensor

from g2t.errors import InputError, UsageError
from g2t.graph.bundle import Graph
from g2t.graph.csr import Features
from g2t.graph.sources import Request, Source
from g2t.graph.sources.assemble import (
    Note,
    SourceSettings,
    choose_metric,
    clean_edges,
    note_unlabelled,
)
from g2t.graph.sources.attributes import ColumnReader, check_feature_file, read_features
from g2t.graph.sources.labels import ClassColumn, LabelColumns
from g2t.graph.sources.tabular import Chunk, Table, open_table, texts
from g2t.task import task_of


def _names(value: Any) -> Any:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class TableSettings(SourceSettings):
    """Which files and columns make the graph.

    `label_column` may name several, parted by commas, for a task of several labels per node.
    `unknown_nodes`: what becomes of an edge end that no node row names; `add` makes it a node with
    zero features and no label, `drop` leaves the edge out.
    """

    nodes: str
    edges: str
    features: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    feature_columns: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = None
    unknown_nodes: Literal["error", "add", "drop"] = "error"


@dataclass(frozen=True)
class _Nodes:
    """The node table: row of every id, its labels, and its columns of features, if any, named."""

    index: dict[str, int]
    labels: ClassColumn | LabelColumns
    features: Features | None
    feature_names: tuple[str, ...] | None


def _files(settings: TableSettings, request: Request) -> dict[str, Path]:
    if request.argument:
        raise UsageError(
            f"source table:{request.argument} names a file after the colon",
            "use table: with --nodes FILE --edges FILE",
        )
    if settings.features and settings.feature_columns:
        raise UsageError("features come from --features or --feature-columns, not from both")
    files = {"nodes": request.file(settings.nodes), "edges": request.file(settings.edges)}
    return files | ({"features": request.file(settings.features)} if settings.features else {})


def _read(settings: TableSettings, request: Request) -> Graph:
    files = _files(settings, request)
    if "features" in files:
        check_feature_file(files["features"])
    nodes = _read_nodes(open_table(files["nodes"]), settings, request.note)
    rows = len(nodes.index)
    ends_E2 = read_edges(open_table(files["edges"]), settings, nodes.index, request.note)
    features = nodes.features
    if features is None:
        features = read_features(files["features"], nodes.index, rows)
    labels, classes = nodes.labels.labels(len(nodes.index))
    note_unlabelled(labels, request.note)
    edges, directed = clean_edges(
        ends_E2[:, 0], ends_E2[:, 1], len(nodes.index), bool(settings.directed), request.note
    )
    ids = tuple(nodes.index)
    return Graph(
        name=files["nodes"].stem,
        features=_padded(features, len(ids)),
        edges=edges,
        labels=labels,
        classes=classes,
        metric=choose_metric(
            settings.metric, "accuracy", task_of(labels, len(classes)), len(classes)
        ),
        directed=directed,
        ids=None if ids == tuple(map(str, range(len(ids)))) else ids,
        feature_names=nodes.feature_names,
    )


def _read_nodes(table: Table, settings: TableSettings, note: Note) -> _Nodes:
    id_column = _id_column(table, settings.id_column)
    labels = _labels(table, settings.label_column)
    reader = None
    if settings.features is None:
        kept = (id_column, *labels.columns)
        reader = ColumnReader(table, settings.feature_columns, kept)
    index: dict[str, int] = {}
    for chunk in table.chunks([id_column, *labels.columns, *(reader.columns if reader else ())]):
        _add_ids(index, chunk, id_column, table)
        labels.take(chunk)
        if reader:
            reader.take(chunk)
    if not index:
        raise InputError(f"{table.path} has no rows", "every node needs one")
    if reader is None:
        return _Nodes(index, labels, None, None)
    return _Nodes(index, labels, reader.features(note), reader.names)


def _id_column(table: Table, wanted: str | None) -> str:
    if wanted is not None:
        return table.column(wanted, "--id-column")
    return "id" if "id" in table.header else table.header[0]


def _labels(table: Table, wanted: str | None) -> ClassColumn | LabelColumns:
    """Return the reader of one label column, or of several where the text names several."""
    if wanted is not None:
        # A column may have a comma in its own name.
        names = [wanted] if wanted in table.header else wanted.split(",")
        columns = tuple(table.column(name.strip(), "--label-column") for name in names)
        if len(set(columns)) < len(columns):
            raise UsageError(f"--label-column {wanted} names a column twice")
        return ClassColumn(table, columns[0]) if len(columns) == 1 else LabelColumns(table, columns)
    for name in ("label", "y"):
        if name in table.header:
            return ClassColumn(table, name)
    raise InputError(
        f"{table.path} has no column 'label' or 'y'",
        f"name it with --label-column; its columns are {', '.join(table.header)}",
    )


def _add_ids(index: dict[str, int], chunk: Chunk, column: str, table: Table) -> None:
    """Give every id of a chunk the next row; raises InputError for a missing or repeated one."""
    for text, line in zip(texts(chunk.columns[column]), chunk.lines, strict=True):
        if not text:
            raise InputError(f"{table.row_word} {line} of {table.path} has no {column!r}")
        if index.setdefault(text, len(index)) != len(index) - 1:
            raise InputError(
                f"id {text!r} stands twice in {table.path}, again in {table.row_word} {line}",
                "every node needs a row of its own",
            )


def read_edges(table: Table, settings: TableSettings, index: dict[str, int], note: Note) -> Tensor:
    """Return [E, 2] rows of both ends; `unknown_nodes="add"` extends the index.

    Raises InputError, naming the line, for an end that is missing or not in the index.
    """
    columns = _edge_columns(table, settings)
    parts: list[Any] = []
    left_out = 0
    known = len(index)
    for chunk in table.chunks(columns):
        ends = [texts(chunk.columns[name]) for name in columns]
        pairs_B2 = _rows(ends, index)
        for row in np.flatnonzero((pairs_B2 < 0).any(1)).tolist():
            _check_unknown([end[row] for end in ends], chunk.lines[row], table, settings, index)
        if settings.unknown_nodes == "add":
            pairs_B2 = _rows(ends, index) if (pairs_B2 < 0).any() else pairs_B2
        inside_B = (pairs_B2 >= 0).all(1)
        left_out += int((~inside_B).sum())
        parts.append(pairs_B2[inside_B])
    if not sum(map(len, parts)):
        raise InputError(f"{table.path} has no edges among these nodes", "check the edge file")
    if left_out:
        note(f"{left_out} edges with an end that no node row names are left out")
    if len(index) > known:
        note(f"{len(index) - known} nodes that only edges name are added, with zero features")
    return torch.from_numpy(np.concatenate(parts))


def _edge_columns(table: Table, settings: TableSettings) -> list[str]:
    if len(table.header) < 2:
        raise InputError(f"{table.path} has one column, edges need two", "separate cells by commas")
    free = iter(table.header)
    wanted = {"--source-column": settings.source_column, "--target-column": settings.target_column}
    named = [name for name in wanted.values() if name is not None]
    chosen = []
    for option, name in wanted.items():
        chosen.append(table.column(name, option) if name else _next(free, named))
    if chosen[0] == chosen[1]:
        raise UsageError(f"both ends of the edges are column {chosen[0]!r}")
    return chosen


def _next(free: Iterator[str], named: list[str]) -> str:
    return next(name for name in free if name not in named)


def _rows(ends: list[list[str]], index: dict[str, int]) -> Any:
    """Return the node rows of both ends, int32 [B, 2], -1 where unknown."""
    return np.stack(
        [np.fromiter((index.get(text, -1) for text in end), np.int32, len(end)) for end in ends], 1
    )


def _check_unknown(
    ends: list[str], line: int, table: Table, settings: TableSettings, index: dict[str, int]
) -> None:
    """Refuse, add or let pass an edge with an unknown end, as the settings say."""
    place = f"{table.row_word} {line} of {table.path}"
    for text in ends:
        if not text:
            raise InputError(f"{place} is an edge without one of its ends")
        if text not in index and settings.unknown_nodes == "error":
            raise InputError(
                f"{place} leads to an unknown node {text!r}",
                "add it to the nodes, or choose with --unknown-nodes what becomes of such edges",
            )
        if settings.unknown_nodes == "add":
            index.setdefault(text, len(index))


def _padded(features: Features, nodes: int) -> Features:
    """Return features with empty rows appended for nodes that only edges name."""
    missing = nodes - len(features)
    if not missing:
        return features
    if isinstance(features, Tensor):
        return torch.cat([features, torch.zeros(missing, features.shape[1])])
    end_N = features.start_N[-1:].expand(missing)
    return type(features)(
        torch.cat([features.start_N, end_N]), features.column_E, features.value_E, features.width
    )


TABLE = Source(TableSettings, _read, _files, ("--nodes FILE --edges FILE",))
