"""Communities of the observed graph, for losses that pool a batch by them.

This is the one signal that holds the whole graph in memory, as Python objects: Louvain's moves are
one node at a time.
"""

import networkx as nx
import torch
from torch import Tensor

from g2t.cache.format import CLUSTERS
from g2t.cache.writer import temporary_of
from g2t.export.memory import check_budget
from g2t.export.share import wait_for
from g2t.export.walk import Output, Work
from g2t.tensors import load_tensors, save_tensors

#: Bytes that networkx takes per node and per edge of one direction, rounded up.
NODE_BYTES, EDGE_BYTES = 1024, 400

#: Rows whose edges are read at a time.
ROWS = 65_536


def held_bytes(work: Work, nodes: int, edges: int) -> int:
    """Return what the process holds while it looks for communities."""
    return work.base + nodes * NODE_BYTES + edges * EDGE_BYTES


def write_clusters(work: Work) -> None:
    """Write the community of every row, int32 [N, 1]: Louvain (Blondel et al. 2008), one seed.

    Edges count once whatever their direction, self-loops not at all. Communities are numbered from
    the largest to the smallest, equal ones by their first row. Raises UsageError, naming the least
    budget that works, where the graph does not fit into it.
    """
    todo = work.todo([Output(work.writer, CLUSTERS, 1, "int32")])
    if not todo:
        return
    path = work.scratch / "communities"
    if work.share.worker > 0:  # whose networkx may be another
        wait_for([path], work.scratch)
    elif not path.exists():
        check_budget(work.budget, held_bytes(work, work.writer.rows, len(work.observed.column_E)))
        path.parent.mkdir(exist_ok=True)
        temporary = temporary_of(path)
        save_tensors(temporary, {"cluster": communities(*_pairs(work), work.writer.rows)})
        temporary.replace(path)
    cluster_N = load_tensors(path)["cluster"]
    for done, shard in enumerate(todo, 1):
        start, stop = work.writer.span(shard)
        work.writer.write(CLUSTERS, shard, {CLUSTERS: cluster_N[start:stop, None].clone()}, 0.0)
        work.progress.update("clusters", done, len(todo), {})


def _pairs(work: Work) -> tuple[Tensor, Tensor]:
    """Return source and target of every edge, int64 [E] each."""
    sources, targets = [], []
    for start in range(0, work.writer.rows, ROWS):
        start_B, column_E = work.observed.block(start, min(start + ROWS, work.writer.rows))
        sources.append(column_E.long())
        targets.append(torch.repeat_interleave(start_B.diff()) + start)
    return torch.cat(sources), torch.cat(targets)


def communities(source_E: Tensor, target_E: Tensor, nodes: int) -> Tensor:
    """Return the community of every node, int32 [N]."""
    low_E, high_E = torch.minimum(source_E, target_E), torch.maximum(source_E, target_E)
    pair_P = torch.unique((low_E * nodes + high_E)[low_E != high_E])
    graph = nx.Graph()
    graph.add_nodes_from(range(nodes))
    graph.add_edges_from(zip((pair_P // nodes).tolist(), (pair_P % nodes).tolist(), strict=True))
    found = nx.community.louvain_communities(graph, seed=0)
    cluster_N = torch.empty(nodes, dtype=torch.int32)
    for number, members in enumerate(sorted(found, key=lambda own: (-len(own), min(own)))):
        cluster_N[list(members)] = number
    return cluster_N
