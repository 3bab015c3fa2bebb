"""What a training run draws from a cache: mini-batches of what its losses need.

The teacher's tensors come through a `Stream`, which holds them only where they fit into
`train.buffer`. Labels, edges, their scores and the features stay in memory as a whole: streaming
the features is not done here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from g2t.cache.format import (
    CLUSTERS,
    CODES,
    LOGITS,
    RELIABILITY,
    SIGNALS,
    tensors_of,
)
from g2t.cache.reader import Cache
from g2t.cache.stream import Stream, well_mixed
from g2t.distill.losses.base import Batch
from g2t.errors import IntegrityError
from g2t.graph.csr import Csr
from g2t.ranks import ALONE, Ranks
from g2t.student.base import TrainSettings
from g2t.task import Task, mean_logits

#: Rows of a batch that get neighbours, and neighbours of each, where a loss works on edges.
ANCHORS, NEIGHBOURS = 256, 5

#: Rows that are looked at in one go where a whole tensor is gone through.
CHUNK = 65_536


@dataclass(frozen=True)
class Signals:
    """Training labels, teacher tensors and edges of a cache, drawn in batches of rows.

    `score_E` are the teacher's scores of the edges, empty where no loss needs them; `far` names the
    tensors of the stream that are needed of sampled neighbours too. `shown_N` tells which rows any
    loss may see (None: all), `second_NC` what a student says that teaches too, with its share.
    """

    labels_N: Tensor
    stream: Stream
    edges: Csr | None
    score_E: Tensor
    far: frozenset[str]
    shown_N: Tensor | None = None
    second_NC: Tensor | None = None
    second_share: float = 0.0
    task: Task = "multiclass"

    @property
    def count(self) -> int:
        """Rows of one epoch."""
        return self.stream.rows if self.shown_N is None else int(self.shown_N.sum())

    def batches(self, size: int) -> Iterator[tuple[int, Tensor, Batch]]:
        """Draw every row once: how many rows are the batch proper, all its rows, what they hold.

        Rows of sampled neighbours follow those of the batch proper. Rows that are not shown are
        left out, as rows and as neighbours.
        """
        for own_B, known in self.stream.epoch(size):
            if self.shown_N is not None:
                shown_B = self.shown_N[own_B]
                own_B = own_B[shown_B]
                known = {name: rows[shown_B] for name, rows in known.items()}
            if len(own_B):
                yield len(own_B), *self._complete(own_B, known)

    def _complete(self, rows_B: Tensor, known: Mapping[str, Tensor]) -> tuple[Tensor, Batch]:
        none_P = torch.empty(0, dtype=torch.int64)
        pairs = none_P, none_P, torch.empty(0)
        if self.edges is not None:
            source_P, target_P, edge_P = self._neighbours(self.edges, rows_B[:ANCHORS])
            extra = torch.unique(source_P[~torch.isin(source_P, rows_B)])
            rows_B = torch.cat([rows_B, extra])
            far = {name: self.stream.take(name, extra) for name in self.far}
            known = {**known, **{name: torch.cat([known[name], far[name]]) for name in far}}
            score_P = self.score_E[edge_P].float() if len(self.score_E) else self.score_E
            pairs = _positions(rows_B, source_P), target_P, score_P
        count = len(rows_B)
        codes_BL = known[CODES].long() if CODES in known else torch.empty(count, 0).long()
        batch = Batch(
            self.labels_N[rows_B],
            self._logits(rows_B, known[LOGITS]) if LOGITS in known else torch.empty(count, 0),
            _layers(known, "layers"),
            known[RELIABILITY][:, 0].float() if RELIABILITY in known else torch.empty(0),
            codes_BL,
            *pairs,
            known[CLUSTERS][:, 0].long() if CLUSTERS in known else none_P,
            _layers(known, "pre_layers"),
        )
        return rows_B, batch

    def _neighbours(self, edges: Csr, anchors_A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        source_P, target_P, edge_P = sample_neighbours(edges, anchors_A, NEIGHBOURS)
        if self.shown_N is None:
            return source_P, target_P, edge_P
        shown_P = self.shown_N[source_P]
        return source_P[shown_P], target_P[shown_P], edge_P[shown_P]

    def _logits(self, rows_B: Tensor, logits_BC: Tensor) -> Tensor:
        """Return the teacher's logits, where a student teaches too those of both their answers.

        They are of the first rows: neighbours come after them, and have logits only where an edge
        loss reads those.
        """
        if self.second_NC is None:
            return logits_BC.float()
        shares = (1 - self.second_share, self.second_share)
        said_BC = self.second_NC[rows_B[: len(logits_BC)]]
        return mean_logits(self.task, (logits_BC, said_BC), shares)


def _layers(known: Mapping[str, Tensor], signal: str) -> tuple[Tensor, ...]:
    names = tensors_of(signal, len(known))
    return tuple(known[name].float() for name in names if name in known)


def open_signals(
    cache: Cache,
    needs: frozenset[str],
    edge_needs: frozenset[str],
    options: TrainSettings,
    second_NC: Tensor | None = None,
    second_share: float = 0.0,
    ranks: Ranks = ALONE,
) -> Signals:
    """Open what the losses need; `edge_needs` is what those need that look at neighbours.

    Tensors that no loss needs are not opened. Raises UsageError where one is not in the cache.
    """
    labels_N = torch.full_like(cache.labels, -1)
    labels_N[cache.parts.train] = cache.labels[cache.parts.train]
    layers = cache.manifest.teacher.layers
    rows = {
        name: cache.open(name)
        for signal in SIGNALS
        if signal in needs and signal != "edge_scores"
        for name in tensors_of(signal, layers)
    }
    far = {name for need in edge_needs for name in tensors_of(need, layers)} & set(rows)
    block = well_mixed(rows, options.buffer, options.block)
    score_E = cache.edge_scores() if "edge_scores" in needs else torch.empty(0)
    return Signals(
        labels_N,
        Stream(rows, cache.rows, options.buffer, block, ranks),
        cache.edges if "edges" in needs else None,
        score_E,
        frozenset(far),
        shown_rows(cache) if holds_out(cache.manifest.split.setting, options) else None,
        second_NC,
        second_share,
        cache.manifest.task,
    )


def holds_out(setting: str, options: TrainSettings) -> bool:
    """Tell whether validation rows are kept out of every loss."""
    chosen = options.hold_out_val
    return setting == "production" if chosen is None else chosen


def shown_rows(cache: Cache) -> Tensor:
    """Tell of every row whether it is no validation row, bool [N]."""
    shown_N = torch.ones(cache.rows, dtype=torch.bool)
    shown_N[cache.parts.val] = False
    return shown_N


def count_codes(cache: Cache) -> tuple[int, ...]:
    """Return the number of codes of each teacher layer: one more than the highest in use.

    All codes are gone through. Raises IntegrityError where one is negative.
    """
    tensor = cache.open(CODES)
    highest_L = torch.zeros(tensor.entry.width, dtype=torch.int64)
    for start in range(0, cache.rows, CHUNK):
        codes_BL = tensor.read(start, min(start + CHUNK, cache.rows)).long()
        if bool((codes_BL < 0).any()):
            raise IntegrityError(f"{cache.artifact.path}: {CODES} holds a negative code")
        highest_L = torch.maximum(highest_L, codes_BL.amax(0))
    return tuple((highest_L + 1).tolist())


def sample_neighbours(edges: Csr, rows_A: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return at most `most` distinct in-neighbours of each row.

    Three tensors [P]: neighbour ids, positions in `rows_A`, and positions of the edges in
    `edges.column_E`. The draw is uniform without replacement.
    """
    near = edges.rows(rows_A)
    target_P = near.row_E
    # Sort by (row, random key); the rank within its row decides who stays.
    order = (target_P + torch.rand(len(target_P), dtype=torch.float64)).argsort()
    rank = torch.arange(len(order)) - near.start_N[target_P[order]]
    keep = order[rank < most]
    target_P = target_P[keep]
    edge_P = keep + (edges.start_N[rows_A] - near.start_N[:-1])[target_P]
    return near.column_E[keep].long(), target_P, edge_P


def _positions(rows_B: Tensor, wanted_P: Tensor) -> Tensor:
    """Return where each wanted row stands in `rows_B`, which holds it exactly once."""
    order = rows_B.argsort()
    return order[torch.searchsorted(rows_B[order], wanted_P)]
