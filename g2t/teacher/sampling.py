"""Neighbourhoods drawn from CSR edges in plain torch, as a sampler of PyG's `NodeLoader`.

Shape letters: `B` nodes of a hop, `R` rows with more entries than are drawn, `K` draws, `E` edges.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.sampler import BaseSampler, NodeSamplerInput, SamplerOutput

from g2t.graph.csr import Csr


class NeighbourSampler(BaseSampler):
    """Draws, hop by hop, up to so many in-neighbours of every node found, none of them twice.

    Row = target, column = source. A node is expanded once, in the hop after the one that found it,
    so that with fan-outs of -1 the seeds see all that as many layers read (Hamilton et al. 2017).
    Nothing loops over nodes; hubs cost as much as other rows.
    """

    def __init__(self, edges: Csr, fanouts: Sequence[int], generator: torch.Generator) -> None:
        self.edges = edges
        self.fanouts = tuple(fanouts)
        self.generator = generator
        self._place_N = torch.full((len(edges),), -1)

    def sample_from_nodes(self, index: NodeSamplerInput) -> SamplerOutput:
        """Return the nodes, the seeds first, and the drawn edges by their places among them."""
        place_N, found, hops = self._place_N, [index.node], []
        count = 0
        for fanout in (*self.fanouts, None):
            frontier_B = found[-1]
            place_N[frontier_B] = torch.arange(count, count + len(frontier_B))
            if fanout is None:
                break
            source_E, row_E = self._draw(frontier_B, fanout)
            hops.append((source_E, row_E + count))
            count += len(frontier_B)
            found.append(torch.unique(source_E[place_N[source_E] < 0]))
        node = torch.cat(found)
        source_E, target_E = (torch.cat(part) for part in zip(*hops, strict=True))
        place_E = place_N[source_E]
        place_N[node] = -1
        metadata = (index.input_id, index.time)
        return SamplerOutput(
            node,
            row=place_E,
            col=target_E,
            edge=None,
            num_sampled_nodes=[len(part) for part in found],
            metadata=metadata,
        )

    def _draw(self, node_B: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Return the sources drawn for some nodes, and the row of each among these nodes."""
        start_B = self.edges.start_N[node_B]
        count_B = self.edges.start_N[node_B + 1] - start_B
        whole_B = (count_B <= most) | (most == -1)
        taken = whole_B.nonzero().flatten()
        row_E = torch.repeat_interleave(taken, count_B[taken])
        ahead_E = torch.repeat_interleave(count_B[taken].cumsum(0) - count_B[taken], count_B[taken])
        entry_E = start_B[row_E] + torch.arange(len(row_E)) - ahead_E
        if not bool(whole_B.all()):
            rest = (~whole_B).nonzero().flatten()
            pick_RK = choose(count_B[rest], most, self.generator)
            entry_E = torch.cat([entry_E, (start_B[rest, None] + pick_RK).flatten()])
            row_E = torch.cat([row_E, rest.repeat_interleave(most)])
        return self.edges.column_E[entry_E].long(), row_E

    def sample_from_edges(self, index: object, neg_sampling: object = None) -> SamplerOutput:
        """Nothing here starts from edges."""
        raise NotImplementedError


def choose(count_R: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return `most` different numbers below each count, int64 [R, K], every such set as likely.

    Floyd's algorithm (Bentley & Floyd 1987) for all rows at once: a number that is taken already is
    replaced by the largest that may be drawn, so that the work does not depend on the counts.
    """
    pick_RK = torch.empty(len(count_R), most, dtype=torch.int64)
    for k in range(most):
        last_R = count_R - most + k
        random_R = torch.rand(len(count_R), dtype=torch.float64, generator=generator)
        drawn_R = (random_R * (last_R + 1)).long()
        taken_R = (pick_RK[:, :k] == drawn_R[:, None]).any(1)
        pick_RK[:, k] = torch.where(taken_R, last_R, drawn_R)
    return pick_RK
