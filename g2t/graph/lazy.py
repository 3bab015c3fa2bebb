"""A graph artefact that stays on disk: facts now, edges and features by rows when they are asked.

`read_graph` loads and checks the whole; this is for work that must not grow with the graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2t.artifact import Artifact, open_artifact, read_json
from g2t.errors import IntegrityError
from g2t.graph.bundle import SCHEMA
from g2t.graph.csr import Csr, Features
from g2t.stored import Stored, open_stored


@dataclass(frozen=True)
class GraphFile:
    """An opened graph artefact: `graph.json` as `facts`, and its tensors, unread."""

    artifact: Artifact
    facts: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    @property
    def nodes(self) -> int:
        """The number of nodes N."""
        return int(self.facts["nodes"])

    @property
    def width(self) -> int:
        """The number of feature columns F."""
        return int(self.facts["features"]["width"])

    @property
    def sparse(self) -> bool:
        """Whether features are sparse rows."""
        return "features" not in self.tensors

    @property
    def entries(self) -> int:
        """Stored entries of sparse features; of dense ones all."""
        return len(self.tensors["features.column"]) if self.sparse else self.nodes * self.width

    @property
    def fingerprint(self) -> str:
        """The fingerprint that the artefact records for the whole of its content."""
        return str(self.facts["fingerprints"]["graph"])

    def features(self, start: int, stop: int) -> Features:
        """Return the feature rows [start, stop), float32 or sparse."""
        if not self.sparse:
            return self.tensors["features"].read(start, stop).float()
        start_N = self.tensors["features.start"].read(start, stop + 1)
        first, last = int(start_N[0]), int(start_N[-1])
        values = self.tensors.get("features.value")
        rows = Csr(
            start_N - first,
            self.tensors["features.column"].read(first, last),
            None if values is None else values.read(first, last),
            self.width,
        )
        if not rows.has_valid_starts():
            raise IntegrityError(f"{self.artifact.path}: the features are no sparse rows")
        return rows


def open_graph(path: Path) -> GraphFile:
    """Open a graph artefact without loading it.

    Raises InputError if there is none, IntegrityError if it was changed or is of a newer version.
    """
    artifact = open_artifact(path, "graph")
    facts = read_json(path / "graph.json")
    if facts.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path} has graph schema {facts.get('schema')!r}, this g2t reads {SCHEMA!r}"
        )
    graph = GraphFile(artifact, facts, open_stored(path / "graph.safetensors"))
    try:
        lengths = {
            "labels": graph.nodes,
            "edges.start": graph.nodes + 1,
            ("features.start" if graph.sparse else "features"): graph.nodes + graph.sparse,
        }
        short = [name for name, length in lengths.items() if len(graph.tensors[name]) != length]
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged: {error!r}") from error
    if short:
        raise IntegrityError(f"{path} is damaged: {short[0]} does not have a row for every node")
    return graph


def observed_rows(graph: GraphFile, nodes: Tensor, start: int, stop: int) -> Features:
    """Return the features of `nodes[start:stop]` (ascending ids), in that order."""
    wanted_B = nodes[start:stop]
    first, last = int(wanted_B[0]), int(wanted_B[-1]) + 1
    rows = graph.features(first, last)
    if last - first == len(wanted_B):
        return rows
    index_B = wanted_B - first
    return rows.rows(index_B) if isinstance(rows, Csr) else rows[index_B]


def all_nodes(nodes: Tensor, count: int) -> bool:
    """Tell whether ascending ids are those of all `count` nodes."""
    return len(nodes) == count and bool((nodes == torch.arange(count)).all())
