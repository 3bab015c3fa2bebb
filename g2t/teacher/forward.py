"""A teacher over a whole graph: the nodes of its split, features scaled as in training."""

import torch

from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr, Features, take_rows
from g2t.graph.splits import Split
from g2t.graph.structure import induced
from g2t.teacher.frame import Structure, Trace, structure_of
from g2t.teacher.store import Teacher


def scale_features(features: Features, scaling: str) -> Features:
    """Return features `raw`, or with rows that sum to 1 (`row`; rows that sum to 0 stay)."""
    if scaling == "raw":
        return features
    if isinstance(features, Csr):
        sums = torch.zeros(len(features)).index_add_(0, features.row_E, features.values().abs())
        return features.scaled(1 / sums.clamp(min=1e-12))
    sums = features.abs().sum(1, keepdim=True)
    return features / sums.clamp(min=1e-12)


def observed(
    graph: Graph, split: Split, scaling: str, device: torch.device
) -> tuple[Features, Structure]:
    """Return features and edges of the split's nodes, in the order of their ids."""
    features = scale_features(take_rows(graph.features, split.nodes), scaling)
    return features.to(device), structure_of(induced(graph.edges, split.nodes), device)


def check_graph_of(teacher: Teacher, graph: Graph) -> None:
    """Raise IntegrityError unless this is the graph that the teacher learned from."""
    known, given = teacher.facts["graph"], graph.fingerprints()["graph"]
    if known["fingerprint"] != given:
        raise IntegrityError(
            f"teacher {teacher.artifact.path} learned from graph {known['name']} "
            f"({known['fingerprint'][:19]}…), this graph is {graph.name} ({given[:19]}…)",
            "give the graph that it was taught on",
        )


@torch.inference_mode()
def trace(teacher: Teacher, graph: Graph) -> Trace:
    """Run a teacher over its graph; row i belongs to `teacher.split.nodes[i]`."""
    check_graph_of(teacher, graph)
    scaling = teacher.facts["features"]["scaling"]
    features, structure = observed(graph, teacher.split, scaling, torch.device("cpu"))
    result: Trace = teacher.model(features, structure)
    return result
