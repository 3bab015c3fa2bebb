"""What every student has in common: settings, inputs, outputs, and the two steps of its forward.

`embed` turns what is known of some nodes into tokens [B, T, D]; `forward` reads tokens. No student
attends over the batch, so a node gets the same answer in any batch.

Shape letters: `N` nodes, `B` batch, `T` tokens, `D` width, `C` classes, `F` features, `K` hops.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from g2t.config import Settings
from g2t.graph.csr import Csr, Features, is_bag_of_words, take_rows
from g2t.graph.structure import Propagation
from g2t.schedule import Schedule
from g2t.student.memory import Memory
from g2t.student.normalize import Normalize
from g2t.units import Size


class ModelSettings(Settings):
    """`model.*` that all students share."""

    hidden: int = Field(64, ge=1, description="width D")
    dropout: float = Field(0.3, ge=0, lt=1)
    input_dropout: float | None = Field(
        None, ge=0, lt=1, description="share of input entries dropped; unset: by kind of features"
    )
    memory: int = Field(
        0,
        ge=0,
        description="remembered nodes most alike, of which a node without hops at hand is told "
        "what the teacher says, by a share that held-out validation chooses; 0: remember none",
    )


class TrainSettings(Settings):
    """`train.*` of a student: AdamW on mini-batches of cached rows."""

    epochs: int = Field(80, ge=1)
    patience: int = Field(40, ge=1, description="epochs without better validation")
    batch: int = Field(1024, ge=1, description="rows per step, at most a quarter of all")
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    schedule: Schedule = Field(
        "constant", description="of the learning rate; cosine: to zero at the last epoch"
    )
    warmup: int = Field(0, ge=0, description="epochs in which the learning rate rises to its value")
    ema: float = Field(0.98, ge=0, lt=1, description="decay of the averaged weights; 0: off")
    hold_out_val: bool | None = Field(
        None,
        description="keep validation nodes out of every loss, so that their score is one of nodes "
        "never seen; unset: in the production setting",
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of training; bf16 needs CUDA")
    compile: bool = Field(False, description="torch.compile; needs CUDA")
    buffer: Size = Field(
        256 << 20, description="memory for the teacher's rows; a larger cache is read by blocks"
    )
    block: int = Field(1024, ge=1, description="most consecutive rows that are read at once")
    checkpoint_seconds: float = Field(60, ge=0, description="time between checkpoints")

    @model_validator(mode="after")
    def _some_epochs(self) -> Self:
        if self.warmup >= self.epochs:
            raise ValueError(f"train.warmup {self.warmup} leaves none of {self.epochs} epochs")
        return self


@dataclass(frozen=True)
class Inputs:
    """What a student may know of N nodes, normalised.

    `tokens` [N, any, F] are hop tokens, and for dense features also those made from them;
    `operator` makes them where they are not stored. `neighbours` [N, S] are ids, -1 for none.
    """

    features: Features
    tokens: Tensor | None = None
    operator: Propagation | None = None
    neighbours: Tensor | None = None

    def to(self, device: torch.device) -> "Inputs":
        """Return a copy on another device."""
        tokens = None if self.tokens is None else self.tokens.to(device)
        operator = None if self.operator is None else self.operator.to(device)
        neighbours = None if self.neighbours is None else self.neighbours.to(device)
        return Inputs(self.features.to(device), tokens, operator, neighbours)


@dataclass(frozen=True)
class Output:
    """A student's answer for B nodes: logits, and of every block an embedding and its tokens.

    `blocks` are [B, D]; `states` [B, T, D] are the tokens that a block leaves, of which those of
    the hops 0 … K come first. `reading` is there while training.
    """

    logits_BC: Tensor
    blocks: tuple[Tensor, ...]
    states: tuple[Tensor, ...] = ()
    reading: "Reading | None" = None

    def in_full(self) -> "Output":
        """Return the answer in float32, whatever type it was computed in."""
        blocks = tuple(block.float() for block in self.blocks)
        states = tuple(state.float() for state in self.states)
        reading = None if self.reading is None else self.reading.in_full()
        return Output(self.logits_BC.float(), blocks, states, reading)

    def head(self, count: int) -> "Output":
        """Return the answer for the first `count` nodes."""
        return Output(
            self.logits_BC[:count],
            tuple(block[:count] for block in self.blocks),
            tuple(state[:count] for state in self.states),
            None if self.reading is None else self.reading.head(count),
        )


@dataclass(frozen=True)
class Reading:
    """What a student has just read, so that a loss can have it read again, changed.

    Token k of row b counted only if k <= `hops_B[b]` (None: all counted).
    """

    student: "Student"
    tokens_BTD: Tensor
    hops_B: Tensor | None

    def again(self, tokens_BTD: Tensor, hops_B: Tensor | None) -> Output:
        """Return what the student says of other tokens, or with other hops at hand."""
        output: Output = self.student(tokens_BTD, hops_B)
        return output

    def in_full(self) -> "Reading":
        """Return it in float32, so that weights in float32 can read it again."""
        return replace(self, tokens_BTD=self.tokens_BTD.float())

    def head(self, count: int) -> "Reading":
        """Return what was read of the first `count` nodes."""
        hops_B = None if self.hops_B is None else self.hops_B[:count]
        return Reading(self.student, self.tokens_BTD[:count], hops_B)


class Student(nn.Module):
    """Base of all students."""

    Settings: ClassVar[type[ModelSettings]] = ModelSettings
    Train: ClassVar[type[TrainSettings]] = TrainSettings
    #: The `model.*` that a size stands for, where they are not the defaults.
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {"small": {}}
    #: Input dropout for sparse bags of words; other features take `DENSE_DROPOUT`.
    WORD_DROPOUT: ClassVar[float] = 0.5

    hops = 0
    #: Whether an answer with k hops at hand is the mean of those with 0, 1, … k of them: scales err
    #: apart. Validation decides, for without a teacher those with few hops are of little use.
    votes = False
    blocks: nn.ModuleList
    normalize: Normalize
    #: A fixed projection [F, W] that features go through first, of a cache that was made with one.
    basis: Tensor | None
    #: What nodes without a hop at hand are told; None where nothing is remembered.
    memory: Memory | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", None)
        self.memory = None

    def read(self, features: Features) -> Features:
        """Return what the student reads of features: themselves, or their projection [N, W]."""
        if self.basis is None:
            return features
        return features.project(self.basis) if isinstance(features, Csr) else features @ self.basis

    def fit(self, features: Features, edges: Csr, tokens: Tensor | None) -> None:
        """Learn the normalisation from the nodes of the cache."""
        self.normalize.fit(features)

    def prepare(
        self,
        features: Features,
        edges: Csr,
        tokens: Tensor | None,
        operator: Propagation | None = None,
    ) -> Inputs:
        """Normalise what is known of the nodes, once, before batches are drawn from it.

        `operator` is Â where it is not that of the edges at hand, such as rows of a larger one.
        A student without hops looks at neither edges nor tokens.
        """
        return Inputs(self.normalize(features))

    def own(self, inputs: Inputs, index_B: Tensor) -> Features:
        """Return what a memory compares of some nodes: their own features as they are read."""
        return take_rows(inputs.features, index_B)

    def embed(self, inputs: Inputs, index_B: Tensor) -> Tensor:
        """Return the tokens of some nodes, [B, T, D]."""
        raise NotImplementedError

    def forward(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        """Read tokens; token k of row b counts only if k <= `hops_B[b]` (None: all count)."""
        raise NotImplementedError

    def by_hops(self, tokens_BTD: Tensor) -> Tensor:
        """Return the logits that are answered with 0, 1, … K hops at hand, [K + 1, B, C]."""
        counts = range(self.hops + 1)
        every_B = torch.zeros(len(tokens_BTD), dtype=torch.int64, device=tokens_BTD.device)
        said_KBC = torch.stack([self(tokens_BTD, every_B + k).logits_BC for k in counts])
        if not self.votes:
            return said_KBC
        return torch.stack([said_KBC[: k + 1].mean(0) for k in counts])

    def answer(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        """Read tokens and answer, each row with its own hops at hand (None: all)."""
        output: Output = self(tokens_BTD, hops_B)
        if not self.votes:
            return output
        logits_KBC = self.by_hops(tokens_BTD)
        if hops_B is None:
            return replace(output, logits_BC=logits_KBC[-1])
        row_B = torch.arange(len(tokens_BTD), device=tokens_BTD.device)
        return replace(output, logits_BC=logits_KBC[hops_B, row_B])

    def recall(
        self, said_BC: Tensor, inputs: Inputs, index_B: Tensor, hops_B: Tensor | None
    ) -> Tensor:
        """Return logits, those of nodes without a hop at hand mixed with what is remembered.

        `hops_B` as `answer` takes them. What a trained student answers goes through here; what it
        says while it trains does not.
        """
        if self.memory is None:
            return said_BC
        alone_B = torch.full_like(index_B, self.hops) == 0 if hops_B is None else hops_B == 0
        if not bool(alone_B.any()):
            return said_BC
        mixed_BC = said_BC.clone()
        mixed_BC[alone_B] = self.memory(self.own(inputs, index_B[alone_B]), said_BC[alone_B])
        return mixed_BC

    def draw_hops(self, index_B: Tensor) -> Tensor | None:
        """Draw the hops at hand for each node of a training batch; None where there are none."""
        return None


def study(student: Student, inputs: Inputs, index_B: Tensor) -> Output:
    """Return a training student's answer for some nodes, with what it read."""
    tokens_BTD, hops_B = student.embed(inputs, index_B), student.draw_hops(index_B)
    output: Output = student(tokens_BTD, hops_B)
    return replace(output, reading=Reading(student, tokens_BTD, hops_B))


DENSE_DROPOUT = 0.5
NARROW_DROPOUT = 0.0
NARROW = 100

#: Nodes that are asked about at once.
CHUNK = 16_384


def input_dropout(chosen: float | None, word_dropout: float, features: Features) -> float:
    """Return the chosen rate, or the one that fits the kind of features.

    Sparse bags of words take far more than dense ones, and a few dense columns take none.
    """
    if chosen is not None:
        return chosen
    if is_bag_of_words(features):
        return word_dropout
    return NARROW_DROPOUT if features.shape[1] < NARROW else DENSE_DROPOUT


@torch.inference_mode()
def predict(student: Student, inputs: Inputs, hops: int | None = None) -> Tensor:
    """Return logits for all nodes, [N, C], using at most `hops` hops; batches do not matter."""
    every_N = torch.arange(len(inputs.features))
    return answers(student, inputs, every_N, (hops,))[0]


@torch.inference_mode()
def answers(
    student: Student, inputs: Inputs, index_B: Tensor, hops: Sequence[int | None]
) -> list[Tensor]:
    """Return logits for some nodes, [B, C], for each number of hops at hand (None: all).

    Those of a student that votes are means over all fewer hops; what one remembers is in those of
    no hop. Nodes are embedded once, `CHUNK` at a time.
    """
    if student.training:
        student.eval()  # walks over all modules: as long as an answer for one node
    device = next(student.parameters()).device
    asked = [student.hops if count is None else min(count, student.hops) for count in hops]
    parts: list[list[Tensor]] = [[] for _ in hops]
    for index_C in torch.split(index_B.to(device), CHUNK):
        tokens_BTD = student.embed(inputs, index_C)
        voted_KBC = student.by_hops(tokens_BTD) if student.votes else None
        for part, count in zip(parts, asked, strict=True):
            hops_C = torch.full_like(index_C, count)
            if voted_KBC is not None:
                said_BC = voted_KBC[count]
            else:
                said_BC = student(tokens_BTD, hops_C).logits_BC
            part.append(student.recall(said_BC, inputs, index_C, hops_C))
    return [torch.cat(part) for part in parts]
