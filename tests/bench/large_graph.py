"""A large generated graph and a teacher with random weights, for benches that need no accuracy."""

from pathlib import Path

import torch
from torch import Tensor

from g2t.graph.bundle import Graph, Parts, write_graph
from g2t.graph.csr import Csr
from g2t.graph.splits import make_split, write_split
from g2t.network import write_network
from g2t.stage import Stage
from g2t.teacher.settings import teach_settings
from g2t.teacher.store import SPLIT, build, facts_of, told_by

CLASSES, HUBS = 10, 8


def make_graph(out: Path, nodes: int, degree: int, features: int) -> Path:
    """Write a graph of random directed edges; a half per cent of them at each of eight hubs."""
    generator = torch.Generator().manual_seed(0)
    edges = nodes * degree
    hub = nodes // 20
    column_E = torch.randint(0, nodes, (edges,), generator=generator, dtype=torch.int32)
    count_N = torch.full((nodes,), degree)
    count_N[torch.arange(HUBS) * (nodes // HUBS)] += hub
    # What the hubs get, other rows give, so that the number of edges stays.
    spare = torch.randperm(nodes, generator=generator)[: hub * HUBS]
    count_N[spare] -= 1
    start_N = torch.nn.functional.pad(count_N.cumsum(0), (1, 0))
    rows = torch.arange(nodes)
    graph = Graph(
        name=f"random-{nodes}",
        features=torch.randn(nodes, features, generator=generator),
        edges=Csr(start_N, column_E[: int(start_N[-1])], None, nodes),
        labels=rows % CLASSES,
        classes=tuple(str(label) for label in range(CLASSES)),
        metric="accuracy",
        directed=True,
        splits={"public": Parts(rows[:1000], rows[1000:2000], rows[2000:])},
    )
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({}).path


def make_teacher(
    out: Path, graph: Graph, kind: str, width: int, layers: int, split: str = "public"
) -> Path:
    """Write an untrained teacher of some hidden layers and a linear head."""
    torch.manual_seed(0)
    model = {"hidden": width, "layers": layers, "post": True}
    values = {"teacher": kind, "split": split, "features": "raw", "model": model}
    settings = teach_settings(values)
    facts = facts_of(graph, settings.model_dump(mode="json"))
    network = build(facts)
    with Stage(out, "teacher", {}, {}, 0) as stage:
        write_split(make_split(graph, split), stage.path / SPLIT)
        write_network(stage.path, {**facts, **told_by(network)}, network)
        return stage.commit({}).path


def in_ram(weights: dict[str, Tensor], graph: Graph, layers: int) -> tuple[list[Tensor], Tensor]:
    """Return every layer and the logits of a GCN, whole in RAM: the fastest way known to us.

    `embedding_bag` over float32 rows with one weight per edge, in blocks of rows.
    """
    edges = graph.edges
    count_N = edges.counts_N + 1
    scale_N = count_N.float().rsqrt()
    state_ND = graph.features
    assert isinstance(state_ND, Tensor)
    column_E, start_N, found = edges.column_E, edges.start_N, []
    weight_E = scale_N[edges.row_E] * scale_N[column_E.long()]
    for layer in range(layers):
        name = f"convolutions.{layer}."
        after_ND = torch.empty(len(state_ND), len(weights[name + "linear.weight"]))
        message_ND = state_ND @ weights[name + "linear.weight"].t()
        for at in range(0, len(state_ND), 8192):
            begin_B = start_N[at : at + 8193]
            first, last = int(begin_B[0]), int(begin_B[-1])
            block_BD = torch.nn.functional.embedding_bag(
                column_E[first:last],
                message_ND,
                (begin_B - first).int(),
                mode="sum",
                per_sample_weights=weight_E[first:last],
                include_last_offset=True,
            )
            rows = slice(at, at + len(block_BD))
            block_BD += message_ND[rows] * scale_N[rows].square()[:, None]
            after_ND[rows] = (block_BD + weights[name + "aggregate.bias"]).relu_()
        state_ND = after_ND
        found.append(state_ND)
    return found, torch.nn.functional.linear(state_ND, weights["post.weight"], weights["post.bias"])
