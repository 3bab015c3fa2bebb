"""The graph artefact: features, edges, labels, named splits, and a fingerprint of each.

On disk: `graph.safetensors` (tensors) and `graph.json` (names, counts, fingerprints); the layout is
written down in `data/README.md`. A fingerprint is taken over the content, not over the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from g2t.artifact import content_digest, open_artifact, read_json, write_json
from g2t.errors import InputError, IntegrityError
from g2t.graph.csr import Csr, Features
from g2t.metrics import METRICS, Metric
from g2t.task import Task, task_of
from g2t.tensors import load_tensors, save_tensors

SCHEMA = "g2t.graph/1"

#: Rows of features that are checked at a time.
BLOCK = 65536


@dataclass(frozen=True)
class Parts:
    """Three disjoint, ascending sets of node ids, int64."""

    train: Tensor
    val: Tensor
    test: Tensor


@dataclass(frozen=True)
class Graph:
    """One graph with labelled nodes. A node's id is its row.

    `edges` holds the in-neighbours of each node; `labels` is int64 [N], -1 where unknown, else an
    index into `classes`, or int8 [N, C], for each of `classes` 1, 0, or -1 where unknown; `ids` are
    the user's own node ids where they are not 0 … N-1; `feature_names` those of columns, if any.
    """

    name: str
    features: Features
    edges: Csr
    labels: Tensor
    classes: tuple[str, ...]
    metric: Metric
    directed: bool
    splits: Mapping[str, Parts] = field(default_factory=dict)
    ids: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None

    @property
    def nodes(self) -> int:
        """The number of nodes N."""
        return len(self.labels)

    @property
    def task(self) -> Task:
        """`multilabel` for labels [N, C], else `binary` for two classes, else `multiclass`."""
        return task_of(self.labels, len(self.classes))

    def fingerprints(self) -> dict[str, str]:
        """Return the digest of each part and, as `graph`, of the whole."""
        tensors = _tensors(self)
        parts = {
            part: content_digest({k: _digest(v) for k, v in tensors.items() if k.startswith(part)})
            for part in ("features", "edges", "labels", "splits", "ids")
        }
        facts = [self.classes, self.metric, self.directed]
        if self.feature_names is not None:
            facts.append(self.feature_names)
        return {**parts, "graph": content_digest([parts, facts])}


def _digest(tensor: Tensor) -> str:
    data: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return f"{tensor.dtype}{list(tensor.shape)}{xxhash.xxh3_128_hexdigest(data)}"


def _tensors(graph: Graph) -> dict[str, Tensor]:
    tensors = {"labels": graph.labels, "edges.start": graph.edges.start_N}
    tensors["edges.column"] = graph.edges.column_E
    tensors |= feature_tensors(graph.features)
    for name, parts in graph.splits.items():
        for part in ("train", "val", "test"):
            tensors[f"splits.{name}.{part}"] = getattr(parts, part)
    if graph.ids is not None:
        encoded = [text.encode() for text in graph.ids]
        tensors["ids.length"] = torch.tensor([len(text) for text in encoded], dtype=torch.int32)
        tensors["ids.bytes"] = torch.frombuffer(bytearray(b"".join(encoded)), dtype=torch.uint8)
    return tensors


def feature_tensors(features: Features) -> dict[str, Tensor]:
    """Return features as named tensors: `features`, or `features.start|column|value`."""
    if isinstance(features, Tensor):
        return {"features": features}
    tensors = {"features.start": features.start_N, "features.column": features.column_E}
    return tensors if features.value_E is None else {**tensors, "features.value": features.value_E}


def features_from(tensors: Mapping[str, Tensor], width: int) -> Features:
    """Put together what `feature_tensors` took apart."""
    if "features" in tensors:
        return tensors["features"]
    value_E = tensors.get("features.value")
    return Csr(tensors["features.start"], tensors["features.column"], value_E, width)


def write_graph(graph: Graph, folder: Path) -> None:
    """Write the two files of a graph artefact into a folder."""
    check_graph(graph, InputError)
    save_tensors(folder / "graph.safetensors", _tensors(graph))
    kind = "csr" if isinstance(graph.features, Csr) else "dense"
    features: dict[str, Any] = {"kind": kind, "width": graph.features.shape[1]}
    if graph.feature_names is not None:
        features["names"] = list(graph.feature_names)
    write_json(
        folder / "graph.json",
        {
            "schema": SCHEMA,
            "name": graph.name,
            "nodes": graph.nodes,
            "edges": len(graph.edges.column_E),
            "directed": graph.directed,
            "features": features,
            "classes": list(graph.classes),
            "task": graph.task,
            "metric": graph.metric,
            "splits": list(graph.splits),
            "fingerprints": graph.fingerprints(),
        },
    )


def read_graph(path: Path) -> Graph:
    """Open a graph artefact.

    Raises InputError if there is none, IntegrityError if it was changed or is of a newer version.
    """
    artifact = open_artifact(path, "graph")
    facts = read_json(artifact.path / "graph.json")
    if facts.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path} has graph schema {facts.get('schema')!r}, this g2t reads {SCHEMA!r}"
        )
    try:
        graph = _assemble(facts, load_tensors(artifact.path / "graph.safetensors"))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged: {error}") from error
    check_graph(graph, IntegrityError)
    if facts.get("task") != graph.task:
        raise IntegrityError(
            f"{path} calls its task {facts.get('task')!r}; its labels are {graph.task}"
        )
    return graph


def _assemble(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Graph:
    splits = {
        name: Parts(*(tensors[f"splits.{name}.{part}"] for part in ("train", "val", "test")))
        for name in facts["splits"]
    }
    ids = None
    if "ids.length" in tensors:
        blob, end, decoded = bytes(tensors["ids.bytes"].numpy()), 0, []
        for length in tensors["ids.length"].tolist():
            decoded.append(blob[end : end + length].decode())
            end += length
        ids = tuple(decoded)
    names = facts["features"].get("names")
    return Graph(
        name=facts["name"],
        features=features_from(tensors, facts["features"]["width"]),
        edges=Csr(tensors["edges.start"], tensors["edges.column"], None, facts["nodes"]),
        labels=tensors["labels"],
        classes=tuple(facts["classes"]),
        metric=facts["metric"],
        directed=facts["directed"],
        splits=splits,
        ids=ids,
        feature_names=None if names is None else tuple(names),
    )


def check_graph(graph: Graph, error: type[InputError] | type[IntegrityError]) -> None:
    """Raise `error`, naming the first place, where a graph contradicts itself."""
    nodes = graph.nodes
    if nodes == 0:
        raise error("the graph has no nodes")
    if len(graph.features) != nodes or len(graph.edges) != nodes:
        raise error(f"{nodes} labels, {len(graph.features)} feature rows, {len(graph.edges)} nodes")
    names, width = graph.feature_names, graph.features.shape[1]
    if names is not None and not len(names) == len(set(names)) == width:
        raise error(f"{len(names)} names, some maybe twice, for {width} feature columns")
    if len(graph.edges.column_E) == 0:
        raise error("the graph has no edges", "a teacher needs edges; check the edge file")
    for matrix, part in ((graph.edges, "edges"), (graph.features, "features")):
        if isinstance(matrix, Csr) and not matrix.has_valid_starts():
            raise error(f"the {part} are no sparse rows: their starts do not ascend to their end")
    if int(graph.edges.column_E.min()) < 0 or int(graph.edges.column_E.max()) >= nodes:
        raise error(f"an edge leads to a node outside 0 … {nodes - 1}")
    _check_labels(graph, error)
    if graph.metric not in METRICS[graph.task]:
        raise error(f"{graph.metric} is no score of a {graph.task} task")
    for name, parts in graph.splits.items():
        every = torch.cat([parts.train, parts.val, parts.test])
        if len(torch.unique(every)) != len(every):
            raise error(f"split {name} puts a node into two of its parts")
        if len(every) and (int(every.min()) < 0 or int(every.max()) >= nodes):
            raise error(f"split {name} names a node outside 0 … {nodes - 1}")
    _check_features(graph.features, error)


def _check_labels(graph: Graph, error: type[InputError] | type[IntegrityError]) -> None:
    labels, classes = graph.labels, len(graph.classes)
    if labels.dim() != 1:
        if labels.dtype != torch.int8 or labels.shape[1:] != (classes,) or classes < 2:
            raise error(
                f"labels are {labels.dtype} {list(labels.shape)} for {classes} classes",
                "several labels per node are int8 [nodes, classes]",
            )
        wrong = ((labels < -1) | (labels > 1)).nonzero()
        if len(wrong):
            node, which = wrong[0].tolist()
            raise error(
                f"label {graph.classes[which]!r} of node {node} is {int(labels[node, which])}",
                "each label is 0 or 1, and -1 where unknown",
            )
        return
    wrong = ((labels < -1) | (labels >= classes)).nonzero().flatten()
    if len(wrong):
        label, node = int(labels[wrong[0]]), int(wrong[0])
        raise error(
            f"label {label} of node {node} is out of range: there are {classes} classes",
            "labels are 0 … C-1 without gaps, and -1 where unknown",
        )


def _check_features(features: Features, error: type[InputError] | type[IntegrityError]) -> None:
    if isinstance(features, Csr):
        column_E, values = features.column_E, features.value_E
        if len(column_E) and not 0 <= int(column_E.min()) <= int(column_E.max()) < features.width:
            raise error(f"a feature stands in a column outside 0 … {features.width - 1}")
        if values is None or bool(values.isfinite().all()):
            return
        entry = int((~values.isfinite()).nonzero()[0])
        row, column = int(features.row_E[entry]), int(features.column_E[entry])
    else:
        # By blocks: what `isfinite` makes on its way is as large as what it is given.
        blocks = enumerate(torch.split(features, BLOCK))
        wrong = [index for index, block in blocks if not bool(block.isfinite().all())]
        if not wrong:
            return
        start = wrong[0] * BLOCK
        block = features[start : start + BLOCK]
        row, column = (int(i) for i in (~block.isfinite()).nonzero()[0])
        row += start
    raise error(
        f"the feature in row {row}, column {column} is NaN or infinite",
        "fill in or leave out missing values before the import",
    )
