"""The graph part of a cache: ids, training and validation labels, split, observed edges."""

import torch
from torch import Tensor

from g2t.cache.format import GRAPH
from g2t.cache.writer import CacheWriter
from g2t.export.edges import ROWS, Edges
from g2t.graph.lazy import GraphFile
from g2t.graph.splits import Split
from g2t.stored import TensorFile


def write_graph_file(writer: CacheWriter, graph: GraphFile, split: Split, observed: Edges) -> None:
    """Write `graph.safetensors`, edges a block at a time; labels of the test part never enter."""
    nodes, parts = split.nodes, split.parts
    known = {
        "ids": nodes,
        "labels": _labels(graph, split),
        "train": torch.searchsorted(nodes, parts.train),
        "val": torch.searchsorted(nodes, parts.val),
        "test": torch.searchsorted(nodes, parts.test),
    }
    rows, edges = len(nodes), len(observed.column_E)
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in known.items()}
    shapes |= {
        "edges.start": (torch.int64, (rows + 1,)),
        "edges.column": (torch.int32, (edges,)),
        "degrees": (torch.int64, (rows,)),
    }
    temporary = writer.temporary(GRAPH)
    with TensorFile(temporary, shapes) as file:
        for name, tensor in known.items():
            file.write(name, 0, tensor)
        for start in range(0, rows, ROWS):
            stop = min(start + ROWS, rows)
            starts_B = observed.starts(start, stop)
            file.write("edges.start", start, starts_B)
            file.write("degrees", start, starts_B.diff())
            file.write("edges.column", int(starts_B[0]), observed.block(start, stop)[1])
    writer.adopt(temporary, GRAPH)


def _labels(graph: GraphFile, split: Split) -> Tensor:
    """Return the labels of training and validation nodes, -1 for all other rows."""
    seen = torch.cat([split.parts.train, split.parts.val])
    rows = torch.searchsorted(split.nodes, seen)
    known = graph.tensors["labels"].read()
    labels = known.new_full((len(split.nodes), *known.shape[1:]), -1)
    labels[rows] = known[seen]
    return labels
