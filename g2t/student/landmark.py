"""`landmark`, the edge-free student: a node queries M learned landmarks.

O(1) per node, no edge and no other node needed at inference.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor, nn

from g2t.chance import drop
from g2t.graph.csr import take_rows
from g2t.graph.linear import InputLinear, drop_entries
from g2t.student.base import Inputs, ModelSettings, Output, Student, TrainSettings
from g2t.student.block import Block
from g2t.student.normalize import Normalize


class AttentionSettings(ModelSettings):
    """`model.*` of the students with attention."""

    blocks: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    landmarks: int = Field(32, ge=1, description="learned anchors M of each block")

    @model_validator(mode="after")
    def _divisible(self) -> "AttentionSettings":
        if self.hidden % self.heads:
            raise ValueError(
                f"model.hidden {self.hidden} is no multiple of model.heads {self.heads}"
            )
        return self


class AttentionTrainSettings(TrainSettings):
    """`train.*` of the students with attention."""

    revive: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="part of its fair share of attention below which a landmark is moved to a "
        "node's token, after each epoch of the first half; 0: never",
    )


#: Sizes of the students with attention.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"hidden": 32, "landmarks": 16},
    "small": {},
    "base": {"hidden": 128, "landmarks": 64},
}


class Landmark(Student):
    """A stack of landmark blocks over one token per node."""

    Settings: ClassVar[type[ModelSettings]] = AttentionSettings
    Train: ClassVar[type[TrainSettings]] = AttentionTrainSettings
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = SIZES
    WORD_DROPOUT: ClassVar[float] = 0.8

    def __init__(
        self, features: int, sparse: bool, classes: int, settings: AttentionSettings
    ) -> None:
        super().__init__()
        width = settings.hidden
        self.input_dropout, self.dropout = settings.input_dropout or 0.0, settings.dropout
        self.normalize = Normalize("l2" if sparse else "standard", (features,))
        self.project = InputLinear(features, width)
        self.blocks = nn.ModuleList(
            Block(width, settings.heads, settings.landmarks, settings.dropout, own_tokens=False)
            for _ in range(settings.blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def embed(self, inputs: Inputs, index_B: Tensor) -> Tensor:
        """Return one token per node, [B, 1, D]."""
        rows = take_rows(inputs.features, index_B)
        token_BD: Tensor = self.project(drop_entries(rows, self.input_dropout, self.training))
        return drop(token_BD, self.dropout, self.training)[:, None]

    def forward(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        """Read the one token of each node."""
        states = []
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD, None)
            states.append(tokens_BTD)
        blocks = tuple(state_BTD[:, 0] for state_BTD in states)
        return Output(self.head(self.norm(blocks[-1])), blocks, tuple(states))
