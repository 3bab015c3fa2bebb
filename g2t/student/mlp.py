"""`mlp`, the floor of every comparison: GLNN's student (Zhang et al. 2022)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from g2t.chance import drop
from g2t.graph.csr import take_rows
from g2t.graph.linear import InputLinear, drop_entries
from g2t.student.base import Inputs, ModelSettings, Output, Student, TrainSettings
from g2t.student.normalize import Normalize


class MLPSettings(ModelSettings):
    """`model.*` of `mlp`."""

    hidden: int = Field(256, ge=1, description="width D")
    layers: int = Field(2, ge=1, description="hidden layers")


class MLP(Student):
    """Linear layers with ReLU, no norm."""

    Settings: ClassVar[type[ModelSettings]] = MLPSettings
    Train: ClassVar[type[TrainSettings]] = TrainSettings
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"hidden": 128},
        "small": {},
        "base": {"hidden": 512},
    }

    def __init__(self, features: int, sparse: bool, classes: int, settings: MLPSettings) -> None:
        super().__init__()
        width = settings.hidden
        self.input_dropout, self.dropout = settings.input_dropout or 0.0, settings.dropout
        self.normalize = Normalize("none" if sparse else "standard", (features,))
        self.project = InputLinear(features, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.layers - 1))
        self.head = nn.Linear(width, classes)

    def embed(self, inputs: Inputs, index_B: Tensor) -> Tensor:
        """Return the first layer before its activation, [B, 1, D]."""
        rows = take_rows(inputs.features, index_B)
        token_BD: Tensor = self.project(drop_entries(rows, self.input_dropout, self.training))
        return token_BD[:, None]

    def forward(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        """Go through the layers."""
        state_BD = F.relu(tokens_BTD[:, 0])
        blocks = [state_BD]
        for layer in self.blocks:
            state_BD = F.relu(layer(drop(state_BD, self.dropout, self.training)))
            blocks.append(state_BD)
        logits_BC: Tensor = self.head(drop(state_BD, self.dropout, self.training))
        return Output(logits_BC, tuple(blocks), tuple(block[:, None] for block in blocks))
