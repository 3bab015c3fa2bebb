"""What a loss gets, what it says of itself, and the settings that all losses share.

Shape letters: `B` rows of a batch, `C` classes, `D` width, `L` teacher layers, `P` pairs of
neighbours.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from g2t.cache.format import Signal
from g2t.config import Settings
from g2t.student.base import Output, Reading
from g2t.task import Task

#: What a loss may ask of the cache; labels and edges are always there.
Need = Literal["labels", "edges"] | Signal


class LossSettings(Settings):
    """`loss.NAME.*` that all losses share."""

    weight: float = Field(1.0, ge=0, description="0: the term is left out and costs nothing")
    share: float | None = Field(
        None,
        gt=0,
        description="gradient norm, as a share of the terms without a share; instead of a weight",
    )
    since: float = Field(0.0, ge=0, lt=1, description="part of the training before it begins")
    until: float | None = Field(
        None, gt=0, le=1, description="part of the training after which a linear decay reaches 0"
    )

    @model_validator(mode="after")
    def _some_time(self) -> "LossSettings":
        if self.until is not None and self.until <= self.since:
            raise ValueError(f"it would end at until = {self.until}, before since = {self.since}")
        return self

    @model_validator(mode="after")
    def _one_balance(self) -> "LossSettings":
        usual = type(self).model_fields["weight"].default
        if self.share is not None and self.weight not in (0, usual):
            raise ValueError(
                f"share = {self.share} and weight = {self.weight}: a share takes the place of the "
                "weight, so set one of them"
            )
        return self

    def fade(self, done: float) -> float:
        """Return the factor, 0 … 1, when a part `done` of the training is over."""
        if done < self.since:
            return 0.0
        if self.until is None:
            return 1.0
        return max(0.0, (self.until - done) / (self.until - self.since))

    @property
    def needs_hops(self) -> bool:
        """Whether only a student with hops can be asked this."""
        return False


@dataclass(frozen=True)
class Sizes:
    """What a loss has to fit, above all one with parameters of its own.

    `student` are the widths of the student's blocks, `teacher` those of the teacher's layers, and
    `codes` the number of codes of each teacher layer, empty where the cache holds none; `task` says
    how logits are read, `hops` is how many hop tokens K the student has beyond the node itself.
    """

    student: tuple[int, ...]
    teacher: tuple[int, ...]
    codes: tuple[int, ...] = ()
    task: Task = "multiclass"
    hops: int = 0


@dataclass(frozen=True)
class Batch:
    """What the cache says of the rows of a batch.

    `labels_B` are training labels, -1 elsewhere, [B, C] for several per node. Pair p says that row
    `source_P[p]` is an in-neighbour of row `target_P[p]`, and `score_P` what the teacher thinks of
    that edge; only edge losses get pairs, and rows for the neighbours. `reliability_B` is 0 where
    noise does not change the teacher's certainty and 1 where it does most; `codes_BL` are the
    k-means codes of each layer and `cluster_B` the communities. `layers` are the teacher's, [B, D]
    each, `pre_layers` the same before their activation. What no loss asks for is empty; what no
    edge loss asks for lacks the neighbours.
    """

    labels_B: Tensor
    logits_BC: Tensor
    layers: tuple[Tensor, ...]
    reliability_B: Tensor
    codes_BL: Tensor
    source_P: Tensor
    target_P: Tensor
    score_P: Tensor
    cluster_B: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    pre_layers: tuple[Tensor, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """Return a copy on another device."""
        layers = tuple(layer.to(device) for layer in self.layers)
        return Batch(
            self.labels_B.to(device),
            self.logits_BC.to(device),
            layers,
            self.reliability_B.to(device),
            self.codes_BL.to(device),
            self.source_P.to(device),
            self.target_P.to(device),
            self.score_P.to(device),
            self.cluster_B.to(device),
            tuple(layer.to(device) for layer in self.pre_layers),
        )

    def head(self, count: int) -> "Batch":
        """Return the first `count` rows, without pairs."""
        return replace(
            self,
            labels_B=self.labels_B[:count],
            logits_BC=self.logits_BC[:count],
            layers=tuple(layer[:count] for layer in self.layers),
            reliability_B=self.reliability_B[:count],
            codes_BL=self.codes_BL[:count],
            cluster_B=self.cluster_B[:count],
            pre_layers=tuple(layer[:count] for layer in self.pre_layers),
            source_P=self.source_P[:0],
            target_P=self.target_P[:0],
            score_P=self.score_P[:0],
        )


class Loss(nn.Module):
    """Base of all losses: `forward(output, batch)` returns a scalar, 0 where nothing applies.

    `needs` is what it asks of the cache as it comes. Losses with projectors learn them with the
    student.
    """

    needs: ClassVar[frozenset[Need]]
    #: Whether it has the batch read once more, with draws of its own.
    reads_again: ClassVar[bool] = False
    Settings: ClassVar[type[LossSettings]] = LossSettings

    def __init__(self, settings: LossSettings, sizes: Sizes) -> None:
        super().__init__()
        self.task = sizes.task

    @classmethod
    def needs_with(cls, settings: LossSettings) -> frozenset[Need]:
        """Return what it asks of the cache as it is set: `needs`, unless settings change that."""
        return cls.needs

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        raise NotImplementedError


def nothing(output: Output) -> Tensor:
    """Return a zero that still has a gradient."""
    return output.logits_BC.sum() * 0


def reading_of(output: Output) -> Reading:
    """Return what a training student has read, for a loss that has it read again."""
    assert output.reading is not None, "a student in training answers through `study`"
    return output.reading
