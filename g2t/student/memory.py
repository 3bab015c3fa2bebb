"""What a student remembers: observed nodes, and what the teacher says of them.

A node without a hop at hand is told what the teacher says of the nodes most like it. Its answer is
(1 - s) p + s q, with p what the student says, q = Σ w_i p_i over the k nodes whose features have
the largest cosines c_i with its own, w = softmax(c / 0.1), and p_i what the teacher says of node i
(nearest-neighbour language models, Khandelwal et al. 2020, with soft answers for tokens). A node
that is remembered itself is most like itself.

Shape letters: `B` nodes asked about, `M` nodes remembered, `F` features, `E` entries, `C` classes,
`O` outcomes: of C classes, or of C labels yes and no.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from g2t.config import Settings
from g2t.graph.csr import Csr, Features, take_rows
from g2t.student.normalize import to_length
from g2t.task import Task, log_probabilities, logits_of, mean_logits

#: What cosines are divided by before their softmax.
TEMPERATURE = 0.1

#: Cosines that differ by less are equal: rounding, which differs from batch to batch, must not
#: choose among bags of words, of which many are alike. All that tie for the last place count.
TIE = 1e-5

#: Cosines, or entries of spread out rows, that are held at once.
CELLS = 1 << 21


class Remembered(Settings):
    """What `model.json` says of a memory; `entries` are those of sparse rows."""

    rows: int = Field(ge=1)
    entries: int | None = Field(ge=0)
    nearest: int = Field(ge=1)
    share: float = Field(gt=0, lt=1)


class Memory(nn.Module):
    """M nodes by their features of length 1, as a student reads them, and the teacher's logits.

    Sparse features stay sparse. Asking costs a product with all of them.
    """

    logits_MC: Tensor

    def __init__(
        self, rows: Features, logits_MC: Tensor, nearest: int, share: float, task: Task
    ) -> None:
        super().__init__()
        self.nearest, self.share, self.task = nearest, share, task
        self.width, self.sparse = rows.shape[1], isinstance(rows, Csr)
        if isinstance(rows, Csr):
            self.register_buffer("start_M", rows.start_N)
            self.register_buffer("column_E", rows.column_E)
            self.register_buffer("value_E", rows.values())
        else:
            self.register_buffer("rows_MF", rows)
        self.register_buffer("logits_MC", logits_MC)
        self.register_load_state_dict_post_hook(_check)  # type: ignore[no-untyped-call]

    @property
    def rows(self) -> Features:
        """The features of the nodes remembered, [M, F]."""
        if not self.sparse:
            return self.get_buffer("rows_MF")
        start_M, column_E = self.get_buffer("start_M"), self.get_buffer("column_E")
        return Csr(start_M, column_E, self.get_buffer("value_E"), self.width)

    @property
    def facts(self) -> Remembered:
        """Return what `model.json` says: enough for `blank`."""
        entries = len(self.get_buffer("column_E")) if self.sparse else None
        return Remembered(
            rows=len(self.logits_MC), entries=entries, nearest=self.nearest, share=self.share
        )

    def forward(self, features: Features, said_BC: Tensor) -> Tensor:
        """Return logits [B, C] of a student's answers mixed with what is remembered.

        `features` [B, F] are as the student reads them.
        """
        shares = (1 - self.share, self.share)
        return mean_logits(self.task, (said_BC, self.told(features)), shares)

    def told(self, features: Features) -> Tensor:
        """Return logits of q, the mean over the nodes most alike, [B, C]."""
        rows, outcome_MO = self.rows, log_probabilities(self.task, self.logits_MC).exp()
        index_B = torch.arange(len(features), device=outcome_MO.device)
        chunks = torch.split(index_B, max(1, CELLS // max(rows.shape)))
        found = [self._weights(rows, take_rows(features, one)) @ outcome_MO for one in chunks]
        return logits_of(self.task, torch.cat(found).log())

    def _weights(self, rows: Features, features: Features) -> Tensor:
        """Return the weight of every node remembered, [B, M]; most are zero."""
        cosine_BM = _cosines(rows, to_length(features, 1.0))
        nearest = min(self.nearest, cosine_BM.shape[1])
        last_B1 = cosine_BM.topk(nearest, 1).values[:, -1:]
        far_BM = cosine_BM < last_B1 - TIE
        return (cosine_BM / TEMPERATURE).masked_fill(far_BM, -torch.inf).softmax(1)


def blank(
    facts: Mapping[str, Any], features: Mapping[str, Any], classes: int, task: Task
) -> Memory:
    """Return a memory to be filled with what a file holds, as `model.json` describes it."""
    kept, width = Remembered.model_validate(facts), features["width"]
    rows: Features
    if features["kind"] == "csr":
        start_M = torch.zeros(kept.rows + 1, dtype=torch.int64)
        column_E = torch.zeros(kept.entries or 0, dtype=torch.int32)
        rows = Csr(start_M, column_E, torch.zeros(len(column_E)), width)
    else:
        rows = torch.zeros(kept.rows, width)
    return Memory(rows, torch.zeros(kept.rows, classes), kept.nearest, kept.share, task)


def _cosines(rows: Features, unit_BF: Features) -> Tensor:
    """Return the products of rows [M, F] with a few others, which may be spread out, [B, M]."""
    wide_BF = unit_BF.dense() if isinstance(unit_BF, Csr) else unit_BF
    if isinstance(rows, Csr):
        return rows.project(wide_BF.t()).t()
    return wide_BF @ rows.t()


def _check(memory: nn.Module, _: object) -> None:
    """Raise ValueError where what was loaded are no rows: products with it would read elsewhere."""
    assert isinstance(memory, Memory)
    rows = memory.rows
    if isinstance(rows, Csr) and not rows.is_valid():
        raise ValueError(f"the memory holds no sparse rows of {memory.width} columns")
