"""Layers as row-wise maps around one aggregation, so that any of them runs a panel at a time.

Every layer is `finish(aggregate(message(x)), x)`. Messages and finish see rows alone; only the
aggregation sees edges, and it acts on each column by itself. Shape letters: `B` rows of a block,
`E` its edges, `N` nodes, `D` width, `H` heads, `W` columns of a panel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.export.bag import Bag, make_bag
from g2t.export.memory import PANEL
from g2t.graph.csr import Csr, Features
from g2t.teacher.description import AttentionFacts, LayerFacts, LinearFacts, NormFacts

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Panel:
    """Columns [start, stop) of a layer's messages, all of one head."""

    start: int
    stop: int
    head: int = 0


def panels_of(width: int, heads: int = 1) -> list[Panel]:
    """Cut columns into panels of at most `PANEL`; none reaches over two heads."""
    size = width // heads
    return [
        Panel(head * size + at, head * size + min(at + PANEL, size), head)
        for head in range(heads)
        for at in range(0, size, PANEL)
    ]


class Layer:
    """What the walk over a graph asks of a layer; this one sums with Â and changes nothing.

    `looped`: edges include every self-loop once; `reads_own`: finish looks at the rows themselves;
    `node_bytes`: what it holds for every node beside its panels.
    """

    looped = True
    reads_own = False
    node_bytes = 0

    def __init__(self, width: int) -> None:
        self.width = width

    @property
    def panels(self) -> list[Panel]:
        """The panels of its messages."""
        return panels_of(self.width)

    def prepare(self, nodes: int) -> None:
        """Make room for what `see` keeps."""

    def see(self, start: int, rows: Features) -> None:
        """Look at the rows [start, start + B) before anything is aggregated."""

    def message(self, rows: Features, panel: Panel, count_B: Tensor) -> Tensor:
        """Return a panel of messages, float32 [B, W]; `count_B` are the rows' in-edges.

        Â = D^-1/2 (A + I) D^-1/2 needs no weight per edge: one factor goes to the messages, the
        other to the sums. D counts the edges of the whole graph, not those of a block.
        """
        if isinstance(rows, Csr):
            columns_BW = rows.dense_columns(panel.start, panel.stop)
        else:
            columns_BW = rows[:, panel.start : panel.stop]
        return columns_BW * count_B.float().rsqrt()[:, None]

    def bag(
        self, start: int, start_B: Tensor, column_E: Tensor, head: int, dtype: torch.dtype
    ) -> Bag:
        """Return the block of edges that begins at row `start`, ready to pool a head's panels."""
        return make_bag(start_B, column_E, dtype)

    def rescale(self, count_B: Tensor) -> Tensor | None:
        """Return the factor of every aggregated row, float32 [B]; None for ones."""
        return count_B.float().rsqrt()

    def finish(self, sums_BD: Tensor, rows: Features | None) -> Tensor:
        """Return the layer's output before its activation, float32 [B, D]."""
        return sums_BD


class Sum(Layer):
    """A teacher's layer over plain sums: `gcn` and `mean`."""

    def __init__(self, facts: LayerFacts, weights: Weights) -> None:
        self.weight_DF = weights[facts.message.weight]
        super().__init__(len(self.weight_DF))
        self.normalised = facts.operator == "gcn"
        self.looped = self.normalised
        self.tail = Tail(facts, weights)
        self.reads_own = self.tail.reads_own

    def message(self, rows: Features, panel: Panel, count_B: Tensor) -> Tensor:
        """Return W x, for `gcn` times D^-1/2."""
        message_BW = linear(rows, self.weight_DF[panel.start : panel.stop])
        return message_BW * count_B.float().rsqrt()[:, None] if self.normalised else message_BW

    def rescale(self, count_B: Tensor) -> Tensor | None:
        """Return D^-1/2, or 1 / in-degree (rows without edges stay 0)."""
        return super().rescale(count_B) if self.normalised else 1 / count_B.float().clamp(min=1)

    def finish(self, sums_BD: Tensor, rows: Features | None) -> Tensor:
        """Add what a node makes of itself, then norm."""
        return self.tail(sums_BD, rows)


class Attention(Layer):
    """GAT's weighted sum: a softmax over in-edges and the self-loop, per head."""

    def __init__(self, facts: LayerFacts, attention: AttentionFacts, weights: Weights) -> None:
        self.weight_DF = weights[facts.message.weight]
        super().__init__(len(self.weight_DF))
        self.heads, self.slope = attention.heads, attention.slope
        by_head = self.weight_DF.view(self.heads, -1, self.weight_DF.shape[1])
        self.source_HF = self._fold(weights[attention.source], by_head)
        self.target_HF = self._fold(weights[attention.target], by_head)
        self.tail = Tail(facts, weights)
        self.reads_own = self.tail.reads_own
        self.node_bytes = 2 * self.heads * 4
        self.source_NH = self.target_NH = torch.empty(0)

    def _fold(self, scores: Tensor, weight_HDF: Tensor) -> Tensor:
        """Return a^T W per head, so that scores come from the rows in one product."""
        return torch.einsum("hd,hdf->hf", scores.view(self.heads, -1), weight_HDF)

    @property
    def panels(self) -> list[Panel]:
        """The panels of its messages, head by head."""
        return panels_of(self.width, self.heads)

    def prepare(self, nodes: int) -> None:
        """Make room for the scores of all nodes."""
        self.source_NH = torch.empty(nodes, self.heads)
        self.target_NH = torch.empty(nodes, self.heads)

    def see(self, start: int, rows: Features) -> None:
        """Keep the scores of some nodes."""
        self.source_NH[start : start + len(rows)] = linear(rows, self.source_HF)
        self.target_NH[start : start + len(rows)] = linear(rows, self.target_HF)

    def message(self, rows: Features, panel: Panel, count_B: Tensor) -> Tensor:
        """Return W x."""
        return linear(rows, self.weight_DF[panel.start : panel.stop])

    def bag(
        self, start: int, start_B: Tensor, column_E: Tensor, head: int, dtype: torch.dtype
    ) -> Bag:
        """Weigh every edge by the softmax over its target's edges."""
        row_E = torch.repeat_interleave(start_B.diff())
        rows = len(start_B) - 1
        target_B = self.target_NH[start : start + rows, head]
        score_E = self.source_NH[:, head][column_E.long()] + target_B[row_E]
        score_E = F.leaky_relu(score_E, self.slope)
        most_B = torch.full((rows,), -torch.inf).scatter_reduce_(0, row_E, score_E, "amax")
        weight_E = (score_E - most_B[row_E]).exp()
        # In float64, since one running sum in float32 over a hub's edges loses up to four digits.
        total_B = torch.zeros(rows, dtype=torch.float64).index_add_(0, row_E, weight_E.double())
        return make_bag(start_B, column_E, dtype, weight_E / total_B.float()[row_E])

    def rescale(self, count_B: Tensor) -> Tensor | None:
        """Weights sum to 1 already."""
        return None

    def finish(self, sums_BD: Tensor, rows: Features | None) -> Tensor:
        """Add what a node makes of itself, then norm."""
        return self.tail(sums_BD, rows)


class Tail:
    """What follows the aggregation and precedes ReLU: own linear maps, bias, norm; row by row."""

    def __init__(self, facts: LayerFacts, weights: Weights) -> None:
        self.own = [pair(linear, weights) for linear in facts.own]
        self.bias = None if facts.bias is None else weights[facts.bias]
        self.norm = None if facts.norm is None else norm(facts.norm, weights)

    @property
    def reads_own(self) -> bool:
        """Whether rows are needed."""
        return bool(self.own)

    def __call__(self, sums_BD: Tensor, rows: Features | None) -> Tensor:
        """Return the layer's output before its activation, [B, D]."""
        for weight_DF, bias_D in self.own:
            assert rows is not None
            sums_BD = sums_BD + linear(rows, weight_DF, bias_D)
        if self.bias is not None:
            sums_BD = sums_BD + self.bias
        return sums_BD if self.norm is None else self.norm(sums_BD)


def pair(facts: LinearFacts, weights: Weights) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a linear map."""
    return weights[facts.weight], None if facts.bias is None else weights[facts.bias]


def norm(facts: NormFacts, weights: Weights) -> torch.nn.Module:
    """Build a norm in eval mode."""
    weight = weights[facts.prefix + "weight"]
    module = (
        torch.nn.LayerNorm(len(weight), eps=facts.eps)
        if facts.kind == "layer"
        else torch.nn.BatchNorm1d(len(weight), eps=facts.eps)
    )
    module.load_state_dict({key: weights[facts.prefix + key] for key in module.state_dict()})
    return module.eval()


def linear(rows: Features, weight_DF: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """Return x W^T + b of dense or sparse rows, float32 [B, D]."""
    if isinstance(rows, Tensor):
        return F.linear(rows.float(), weight_DF, bias_D)
    projected_BD = rows.project(weight_DF.t())
    return projected_BD if bias_D is None else projected_BD + bias_D


def layer_of(facts: LayerFacts, weights: Weights) -> Layer:
    """Return the layer that `model.json` describes."""
    if facts.attention is not None:
        return Attention(facts, facts.attention, weights)
    return Sum(facts, weights)
