"""A teacher over a whole graph: the nodes of its split, features scaled as in training."""

import torch

from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr, Features, take_rows
from g2t.graph.lazy import all_nodes
from g2t.graph.scaling import scale_features
from g2t.graph.splits import Split
from g2t.graph.structure import induced
from g2t.teacher.frame import Structure, Trace, structure_of
from g2t.teacher.store import Teacher, TeacherFile


def observed(
    graph: Graph, split: Split, scaling: str, device: torch.device
) -> tuple[Features, Structure]:
    """Return features and edges of the split's nodes, in the order of their ids."""
    features = graph.features
    if not all_nodes(split.nodes, graph.nodes):  # else it would copy them all
        features = take_rows(features, split.nodes)
    features = scale_features(features, scaling)
    return features.to(device), structure_of(observed_edges(graph, split), device)


def observed_edges(graph: Graph, split: Split) -> Csr:
    """Return the edges among the split's nodes, numbered in the order of their ids."""
    if all_nodes(split.nodes, graph.nodes):
        return graph.edges
    return induced(graph.edges, split.nodes)


def check_graph_of(teacher: Teacher | TeacherFile, name: str, fingerprint: str) -> None:
    """Raise IntegrityError unless the teacher learned from the graph of this fingerprint."""
    known = teacher.facts["graph"]
    if known["fingerprint"] != fingerprint:
        raise IntegrityError(
            f"teacher {teacher.artifact.path} learned from graph {known['name']} "
            f"({known['fingerprint'][:19]}…), this graph is {name} ({fingerprint[:19]}…)",
            "give the graph that it was taught on",
        )


def trace(teacher: Teacher, graph: Graph) -> Trace:
    """Run a teacher over its graph; row i belongs to `teacher.split.nodes[i]`."""
    check_graph_of(teacher, graph.name, graph.fingerprints()["graph"])
    return trace_any(teacher, graph)


@torch.inference_mode()
def trace_any(teacher: Teacher, graph: Graph) -> Trace:
    """Run a teacher over a graph of the same nodes, such as its own with other edges."""
    scaling = teacher.facts["features"]["scaling"]
    features, structure = observed(graph, teacher.split, scaling, torch.device("cpu"))
    result: Trace = teacher.model(features, structure)
    return result
