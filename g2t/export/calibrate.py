"""How sure of itself a teacher is: the temperature that fits the labels of validation nodes.

Only reports read it. Logits stay as they are: students of scaled ones learned no better.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.cache.format import GRAPH, BeforeAfter, Temperature, shard_name
from g2t.cache.writer import CacheWriter, RowStream
from g2t.export.projection import sampled_rows
from g2t.stored import open_stored
from g2t.task import labelled
from g2t.tensors import load_tensors

#: The exact logits of validation rows, in the scratch folder.
VALIDATION = "validation-logits"

#: Temperatures beyond these say that labels are all met, or that logits say nothing of them.
COLDEST, HOTTEST = 0.01, 100.0

#: Halvings of the interval: enough for six digits.
STEPS = 40

BINS = 15


class ValidationRows(CacheWriter):
    """Keeps the validation rows of what is streamed, exactly, up to 65,536 of them.

    Shards are those of the cache, each with as many rows as it has of them, perhaps none.
    """

    def __init__(self, scratch: CacheWriter, cache: Path) -> None:
        super().__init__(scratch.folder, scratch.rows, scratch.shard_rows)
        graph = open_stored(cache / GRAPH)
        val_V, labels_N = graph["val"].read(), graph["labels"].read()
        val_V = val_V[labelled(labels_N[val_V])]
        self.val_V = val_V[sampled_rows(len(val_V))]
        self.labels_V = labels_N[self.val_V]

    def stream(
        self, name: str, index: int, width: int, dtype: object, topk: int | None = None
    ) -> RowStream:
        """Open a shard that keeps some of the rows it is given, as float32."""
        return _Picked(self, name, index)

    def temperature(self) -> Temperature | None:
        """Return the temperature of the kept logits; all shards must stand.

        None for several labels per node: a temperature is that of a softmax.
        """
        if self.labels_V.dim() == 2:
            return None
        paths = [self.folder / shard_name(VALIDATION, index) for index in range(self.shards)]
        return fit(torch.cat([load_tensors(path)[VALIDATION] for path in paths]), self.labels_V)


class _Picked(RowStream):
    """One shard of `ValidationRows` while its rows arrive."""

    def __init__(self, writer: ValidationRows, name: str, index: int) -> None:
        self.writer, self.name, self.index = writer, name, index
        self._at = writer.span(index)[0]
        self._held: list[Tensor] = []

    def append(self, rows_BW: Tensor) -> None:
        """Take the next rows, float32."""
        val_V, stop = self.writer.val_V, self._at + len(rows_BW)
        inside_B = val_V[(val_V >= self._at) & (val_V < stop)] - self._at
        self._held.append(rows_BW[inside_B].float())
        self._at = stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.writer.write(self.name, self.index, {self.name: torch.cat(self._held)}, 0.0)


def fit(logits_VC: Tensor, labels_V: Tensor) -> Temperature | None:
    """Return the T that makes softmax(z / T) likeliest; None for no rows, and where none is best.

    The mean negative log-likelihood is convex in β = 1 / T; its slope E_p[z] - z_y, the mean over
    rows, is 0 at the best. There is no such β where every label has the largest logit, nor where
    labels are no likelier than chance.
    """
    if len(labels_V) == 0:
        return None
    logits_VC = logits_VC.double()
    own_V = logits_VC.gather(1, labels_V[:, None])[:, 0]

    def slope(heat: float) -> float:
        mean_V = ((logits_VC / heat).softmax(1) * logits_VC).sum(1)
        return float((mean_V - own_V).mean())

    if not slope(HOTTEST) < 0 < slope(COLDEST):
        return None
    low, high = COLDEST, HOTTEST
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    value = float(f"{(low * high) ** 0.5:.6g}")
    scaled_VC = logits_VC / value
    return Temperature(
        value=value,
        nodes=len(labels_V),
        nll=BeforeAfter(before=_nll(logits_VC, labels_V), after=_nll(scaled_VC, labels_V)),
        calibration_error=BeforeAfter(
            before=calibration_error(logits_VC, labels_V),
            after=calibration_error(scaled_VC, labels_V),
        ),
    )


def calibration_error(logits_VC: Tensor, labels_V: Tensor) -> float:
    """Return the expected calibration error over 15 equal bins of confidence, in 0 … 1.

    Σ over bins of |share that is right - mean confidence| times the bin's share of the rows; a bin
    holds its upper end (Guo et al. 2017).
    """
    sure_V, answer_V = logits_VC.softmax(1).max(1)
    off_V = (answer_V == labels_V).double() - sure_V
    bin_V = (sure_V * BINS).ceil().long().clamp(1, BINS) - 1
    gap_K = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bin_V, off_V.double())
    return _rounded(float(gap_K.abs().sum()) / len(labels_V))


def _nll(logits_VC: Tensor, labels_V: Tensor) -> float:
    return _rounded(float(F.cross_entropy(logits_VC, labels_V)))


def _rounded(figure: float) -> float:
    """Drop the digits in which two machines may differ."""
    return round(figure, 6)
