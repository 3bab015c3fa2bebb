"""Graphs and teachers for the export's tests, and the forward pass that an export must agree with.

Teachers are not trained: their weights are drawn, biases and the statistics of norms included, so
that nothing is zero or one by chance and a forgotten term shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from g2t.artifact import Artifact
from g2t.cache.check import open_cache
from g2t.cache.reader import Cache
from g2t.export import ExportSettings, export
from g2t.graph.bundle import Graph, Parts, read_graph, write_graph
from g2t.graph.csr import Csr, Features, compact, from_pairs
from g2t.graph.splits import Split, write_split
from g2t.graph.structure import induced
from g2t.network import write_network
from g2t.stage import Stage
from g2t.teacher.forward import observed, trace
from g2t.teacher.frame import GNN, Structure, Trace, structure_of
from g2t.teacher.store import SPLIT, build, read_teacher, told_by
from g2t.teacher.train import plan_teacher
from tests.before_relu import before_relu

#: Dense numbers, sparse numbers, or sparse ones; words are few, so rows are scaled to sum to 1.
Kind = Literal["dense", "sparse", "words"]

PLAIN: dict[str, Any] = {"hidden": 16}
#: Two panels of unequal width; heads of 5 columns.
EVERYTHING: dict[str, Any] = {
    "hidden": 40, "layers": 3, "pre": True, "post": True, "residual": True, "norm": "batch",
}  # fmt: skip
LAYER_NORM: dict[str, Any] = {"hidden": 24, "layers": 3, "norm": "layer"}
JK: dict[str, Any] = {"hidden": 40, "layers": 3, "post": True}
VARIATIONS = {
    "plain": PLAIN,
    "everything": EVERYTHING,
    "layer-norm": LAYER_NORM,
    "max": JK | {"jk": "max"},
    "sum": JK | {"jk": "sum"},
    "cat": EVERYTHING | {"jk": "cat"},
}

FEATURES, CLASSES = 21, 3

#: Teachers that describe their layers, so that the export runs them from their tensors.
DESCRIBED = ("gcn", "sage", "gat")

#: Nodes of the graph that most tests share.
ROWS = 331


@dataclass(frozen=True)
class Taught:
    """A graph and a teacher of it on disk."""

    graph: Path
    teacher: Path

    @cached_property
    def trace(self) -> Trace:
        """What the whole network says of the whole graph at once."""
        return trace(read_teacher(self.teacher), read_graph(self.graph))

    @property
    def wanted(self) -> dict[str, Tensor]:
        """The trace by the names of a cache's tensors."""
        layers = {f"teacher-h{i}": layer for i, layer in enumerate(self.trace.layers, 1)}
        return {**layers, "teacher-logits": self.trace.logits_NC}

    @cached_property
    def before(self) -> dict[str, Tensor]:
        """What the whole network's activations read, by the names of a cache's tensors."""
        teacher, graph = read_teacher(self.teacher), read_graph(self.graph)
        scaling = teacher.facts["features"]["scaling"]
        given = observed(graph, teacher.split, scaling, torch.device("cpu"))
        layers = before_relu(teacher.model, *given)
        return {f"teacher-p{i}": layer for i, layer in enumerate(layers, 1)}

    def export(self, out: Path, memory: int | None = None, **settings: Any) -> Cache:
        """Export it, exactly unless told otherwise, and open the cache."""
        asked = ExportSettings.model_validate({"dtype": "fp32", **settings})
        assert export(self.teacher, self.graph, out, asked, memory=memory) is not None
        return open_cache(out)


#: Give the teacher `teach(name, features, split, **model)` of the odd graph, made once.
Teach = Callable[..., Taught]


def errors(cache: Cache, wanted: dict[str, Tensor]) -> dict[str, float]:
    """Return the largest error of every tensor over its largest magnitude."""
    found = {name: cache.whole(name).double() for name in wanted}
    return {
        name: float((found[name] - values).abs().max() / values.abs().max())
        for name, values in wanted.items()
    }


def check_close(cache: Cache, taught: Taught, most: float) -> None:
    """Fail unless layers and logits are there and as close as `most` to the full forward."""
    found = errors(cache, taught.wanted)
    names = [entry.name for entry in cache.manifest.tensors if entry.name.startswith("teacher-")]
    assert sorted(found) == sorted(names)
    assert max(found.values()) <= most, found


def digests(artifact: Artifact) -> dict[str, str]:
    """Return the digest of every file."""
    return {file: entry["xxh3_128"] for file, entry in artifact.record["outputs"].items()}


def features_of(nodes: int, kind: Kind, width: int = FEATURES) -> Features:
    """Draw features; sparse ones have empty rows."""
    draw = torch.Generator().manual_seed(nodes)
    values = torch.randn(nodes, width, generator=draw) + 0.5
    if kind == "dense":
        return values
    if kind == "words":
        values = torch.ones(nodes, width)
    values[torch.rand(nodes, width, generator=draw) > 0.07] = 0
    sparse = compact(values)
    assert isinstance(sparse, Csr)
    assert (sparse.value_E is None) == (kind == "words")
    return sparse


def odd_graph(nodes: int = ROWS, kind: Kind = "dense") -> Graph:
    """A directed graph of two components and single nodes, its ids shuffled.

    Some nodes have a self-loop, some no in-edge, one has an in-edge from every third node, and the
    large component does not have the first ids.
    """
    draw = torch.Generator().manual_seed(1)
    large = nodes * 3 // 4
    ends = torch.randint(0, large, (2, 4 * nodes), generator=draw)
    ends = ends[:, ends[1] % 5 != 0]  # every fifth node has no in-edge of these
    chain = torch.stack([torch.arange(large - 1), torch.arange(1, large)])
    hub = torch.stack([torch.arange(0, large, 3), torch.full((-(-large // 3),), 1)])
    loops = torch.arange(0, nodes - 5, 17).expand(2, -1)
    small = torch.stack([torch.arange(large, nodes - 5), torch.arange(large + 1, nodes - 4)])
    order = torch.randperm(nodes, generator=draw)
    pairs = order[torch.cat([ends, chain, hub, loops, small], 1)]
    return graph_of(pairs, features_of(nodes, kind))


def graph_of(pairs: Tensor, features: Features) -> Graph:
    """Make a graph of edges [2, E] (source, target), with labels in turn and a stored split."""
    nodes, ids = len(features), torch.arange(len(features))
    parts = Parts(ids[: nodes // 3], ids[nodes // 3 : nodes // 2 + 1], ids[nodes // 2 + 1 :])
    return Graph(
        name="odd",
        features=features,
        edges=from_pairs(pairs[0], pairs[1], nodes),
        labels=ids % CLASSES,
        classes=tuple("abc"),
        metric="accuracy",
        directed=True,
        splits={"public": parts},
    )


def store(graph: Graph, out: Path) -> Path:
    """Write a graph artefact."""
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({}).path


def draw_weights(model: GNN, graph: Graph, split: Split, scaling: str) -> None:
    """Give biases and norms values as after some training, the statistics those of the graph."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0.1, 0.2)
        elif parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.2)
    if any(isinstance(module, torch.nn.BatchNorm1d) for module in model.modules()):
        given = observed(graph, split, scaling, torch.device("cpu"))
        with torch.no_grad():
            for _ in range(20):
                model(*given)


def write_teacher(
    graph: Path,
    out: Path,
    name: str,
    *,
    split: str = "public",
    seed: int = 0,
    described: bool = True,
    features: str = "raw",
    **model: Any,
) -> Taught:
    """Write a teacher of a graph with drawn weights; `described` false: it says nothing of them."""
    values = {"teacher": name, "split": split, "model": model, "seed": seed, "features": features}
    plan = plan_teacher(graph, values)
    torch.manual_seed(seed)
    network = build(plan.facts)
    network.observe(structure_of(induced(plan.graph.edges, plan.split.nodes), torch.device("cpu")))
    draw_weights(network, plan.graph, plan.split, plan.facts["features"]["scaling"])
    told = told_by(network) if described else {**told_by(network), "layers": None}
    with Stage(out, "teacher", plan.asked, plan.inputs, seed) as stage:
        write_network(stage.path, {**plan.facts, **told}, network)
        write_split(plan.split, stage.path / SPLIT)
        stage.commit({})
    return Taught(graph, out)


class Wide(Structure):
    """Edges in float64 from the degrees on, not merely float32 numbers in a wider type."""

    @cached_property
    def mean(self) -> Tensor:
        return super().mean.double()

    @cached_property
    def gcn(self) -> Tensor:
        matrix = super().gcn
        start_N, column_E = matrix.crow_indices(), matrix.col_indices()
        scale_N = start_N.diff().double().rsqrt()
        value_E = torch.repeat_interleave(scale_N, start_N.diff()) * scale_N[column_E]
        shape = matrix.shape
        return torch.sparse_csr_tensor(start_N, column_E, value_E, shape, check_invariants=True)


def exact_trace(taught: Taught) -> dict[str, Tensor]:
    """Return what the network says in float64 of dense features, by the names of a cache."""
    teacher, graph = read_teacher(taught.teacher), read_graph(taught.graph)
    assert isinstance(graph.features, Tensor)
    edges = induced(graph.edges, teacher.split.nodes)
    given = structure_of(edges, torch.device("cpu"))
    wide = Wide(given.edges, given.degree_N, given.device)
    with torch.inference_mode():
        found: Trace = teacher.model.double()(graph.features[teacher.split.nodes].double(), wide)
    layers = {f"teacher-h{i}": layer for i, layer in enumerate(found.layers, 1)}
    return {**layers, "teacher-logits": found.logits_NC}
