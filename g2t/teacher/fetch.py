"""A teacher asked about a few nodes: their neighbours are fetched, and no more is computed.

`Full` reads all neighbours within reach, so its answers are those of a pass over the whole graph;
`Drawn` some of them. Features and edges lie ready in memory, scaled and normalised once; a step
goes over no more nodes than the following steps still need.

Shape letters: `B` nodes asked about, `R` nodes fetched, `E` edges fetched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor
from torch_geometric.sampler import NodeSamplerInput

from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr, Features, from_pairs, take_rows
from g2t.graph.neighbourhood import Around, head
from g2t.graph.splits import Split
from g2t.graph.structure import propagation
from g2t.teacher.forward import observed
from g2t.teacher.frame import GNN, Structure
from g2t.teacher.sampling import NeighbourSampler


@dataclass(frozen=True)
class Part(Structure):
    """The structure of one step; its rows of Â are taken from those that were fetched."""

    rows: int
    fetched: "Fetched" = field(repr=False)

    @cached_property
    def gcn(self) -> Tensor:
        """Â of the first `rows` rows as torch CSR; the others are empty."""
        return head(self.fetched.normal, self.rows, len(self.edges)).tensor().to(self.device)


@dataclass(frozen=True)
class Fetched:
    """What was fetched: nodes, those asked about first, and their rows of A and of Â.

    `counts[k]` of the nodes are at most k hops away. `edges` are rows of A, columns by place among
    the nodes; `find_normal` finds those of Â, if a teacher asks for them.
    """

    node_R: Tensor
    counts: tuple[int, ...]
    edges: Csr
    find_normal: Callable[[], Csr] = field(repr=False)

    @cached_property
    def normal(self) -> Csr:
        """The rows of Â, columns by place among the nodes."""
        return self.find_normal()

    def parts(self, degree_N: Tensor, device: torch.device) -> list[Part]:
        """Return the structure of every step: fewer nodes from step to step."""
        parts = []
        for hop in range(len(self.counts) - 1, 0, -1):
            rows, size = self.counts[hop - 1], self.counts[hop]
            edges = head(self.edges, rows, size)
            parts.append(Part(edges, degree_N[self.node_R[:size]], device, rows, self))
        return parts


class Fetch(Protocol):
    """A way to find what a teacher reads to answer for some distinct nodes."""

    def __call__(self, node_B: Tensor) -> Fetched:
        """Fetch."""


class Full:
    """All in-neighbours within reach."""

    def __init__(self, structure: Structure, reach: int) -> None:
        self.reach, self.around = reach, Around(structure.edges)
        self.normal = _sparse(structure.gcn)

    def __call__(self, node_B: Tensor) -> Fetched:
        """Fetch."""
        ball = self.around.ball(node_B, self.reach)
        find = partial(self.around.rows, self.normal, ball)
        return Fetched(ball.node_R, ball.counts, ball.rows, find)


class Drawn:
    """Some in-neighbours of every node, drawn anew for each call, as a sampled training does."""

    def __init__(self, structure: Structure, fanouts: Sequence[int], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.sampler = NeighbourSampler(structure.edges, fanouts, generator)
        self.degree_N = structure.degree_N

    def __call__(self, node_B: Tensor) -> Fetched:
        """Fetch."""
        drawn = self.sampler.sample_from_nodes(NodeSamplerInput(input_id=None, node=node_B))
        edges = from_pairs(drawn.row, drawn.col, len(drawn.node))
        counts = tuple(accumulate(drawn.num_sampled_nodes))
        degree_R = self.degree_N[drawn.node]
        return Fetched(drawn.node, counts, edges, lambda: _operator(edges, degree_R))


class Service:
    """A teacher that answers for nodes, given by their places among those in use of a split.

    Features and edges stay in the machine's memory, and what is fetched goes to the device.
    """

    def __init__(
        self, model: GNN, features: Features, structure: Structure, device: torch.device
    ) -> None:
        self.model, self.features, self.structure = model.to(device), features, structure
        self.device = device

    @torch.inference_mode()
    def ask(self, fetch: Fetch, node_B: Tensor) -> tuple[Tensor, int]:
        """Return logits [B, C] of distinct nodes, and how many nodes were read for them."""
        fetched = fetch(node_B)
        features = take_rows(self.features, fetched.node_R).to(self.device)
        parts = fetched.parts(self.structure.degree_N, self.device)
        return walk(self.model, features, parts)[: len(node_B)], len(fetched.node_R)


def walk(model: GNN, features: Features, parts: Sequence[Part]) -> Tensor:
    """Return the logits of the nodes that all steps reach, [B, C]: `forward`, ever narrower."""
    first = state = model.begin(features)
    states: list[Tensor] = []
    for index, part in enumerate(parts):
        beside = None
        if model.reads_first:
            assert isinstance(first, Tensor)
            beside = first[: len(part.edges)]
        state = model.activate(index, model.step(index, state, part, beside)[: part.rows])
        states.append(state)
    narrow = parts[-1].rows
    return model.end([state[:narrow] for state in states] if model.joins else states[-1:])


def service(model: GNN, graph: Graph, split: Split, scaling: str, device: torch.device) -> Service:
    """Lay ready what a teacher reads of the nodes in use of a split."""
    features, structure = observed(graph, split, scaling, torch.device("cpu"))
    return Service(model, features, structure, device)


def _operator(edges: Csr, degree_N: Tensor) -> Csr:
    return _sparse(propagation(edges, degree_N).matrix)


def _sparse(matrix: Tensor) -> Csr:
    return Csr(matrix.crow_indices(), matrix.col_indices(), matrix.values(), matrix.shape[1])
