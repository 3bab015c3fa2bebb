"""`hop`, the edge-aware student: tokens Â^k x for k = 0 … K, with landmarks as global memory.

Trained with hop dropout, so one set of weights answers with 0, 1, … K hops at hand (tokens after
NAGphormer, Chen et al. 2023).
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from g2t.graph.csr import Csr, Features, take_rows
from g2t.graph.linear import InputLinear, drop_entries
from g2t.graph.structure import project_dense, propagation
from g2t.student.base import Inputs, ModelSettings, Output, Student, TrainSettings
from g2t.student.block import Block
from g2t.student.landmark import AttentionSettings
from g2t.student.normalize import Normalize


class HopSettings(AttentionSettings):
    """`model.*` of `hop`."""

    blocks: int = Field(1, ge=1)
    hops: int = Field(3, ge=1, description="hop tokens K beyond the node itself")
    zero_hop: float = Field(0.4, ge=0, le=1, description="share of training rows without any hop")


class HopTrainSettings(TrainSettings):
    """`train.*` of `hop`."""

    epochs: int = Field(60, ge=1)
    patience: int = Field(30, ge=1, description="epochs without better validation")
    batch: int = Field(
        512,
        ge=1,
        description="rows per step, within 1/4 of all (and 1/8 where `hop` sweeps the graph)",
    )


class Hop(Student):
    """A Transformer over hop tokens.

    Sparse features share one projection W over the hops: Â^k (x W) = (Â^k x) W, so tokens need not
    be stored. Dense features have one projection per hop, and standardised tokens.
    """

    Settings: ClassVar[type[ModelSettings]] = HopSettings
    Train: ClassVar[type[TrainSettings]] = HopTrainSettings
    WORD_DROPOUT: ClassVar[float] = 0.7

    def __init__(self, features: int, sparse: bool, classes: int, settings: HopSettings) -> None:
        super().__init__()
        width, count = settings.hidden, settings.hops + 1
        self.hops, self.zero_hop = settings.hops, settings.zero_hop
        self.input_dropout, self.dropout = settings.input_dropout or 0.0, settings.dropout
        self.normalize = Normalize("none" if sparse else "standard", (count, features))
        self.project = nn.ModuleList(
            InputLinear(features, width, bias=False) for _ in range(1 if sparse else count)
        )
        self.place = nn.Parameter(0.1 * torch.randn(count, width))
        self.blocks = nn.ModuleList(
            Block(width, settings.heads, settings.landmarks, settings.dropout, own_tokens=True)
            for _ in range(settings.blocks)
        )
        self.choose = nn.Linear(2 * width, 1)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def fit(self, features: Features, edges: Csr, tokens: Tensor | None) -> None:
        """Learn the normalisation of every hop."""
        if isinstance(features, Tensor):
            self.normalize.fit(self._all_tokens(features, edges, tokens))

    def prepare(self, features: Features, edges: Csr, tokens: Tensor | None) -> Inputs:
        """Take stored tokens, or make them: ahead for dense features, in every step for sparse."""
        if isinstance(features, Tensor):
            all_tokens = self.normalize(self._all_tokens(features, edges, tokens))
            return Inputs(features, tokens=all_tokens)
        if tokens is not None:
            return Inputs(features, tokens=tokens)
        return Inputs(features, operator=propagation(edges))

    def _all_tokens(self, features: Tensor, edges: Csr, tokens: Tensor | None) -> Tensor:
        if tokens is None:
            tokens = project_dense(features, propagation(edges), self.hops)
        return torch.cat([features[:, None].float(), tokens.float()], 1)

    def embed(self, inputs: Inputs, index_B: Tensor) -> Tensor:
        """Return the tokens of some nodes, [B, K + 1, D]."""
        tokens_BTD = self._project(inputs, index_B) + self.place
        return F.dropout(tokens_BTD, self.dropout, self.training)

    def _project(self, inputs: Inputs, index_B: Tensor) -> Tensor:
        if inputs.operator is not None:
            # Dropped words are dropped at their source, so all hops agree on them.
            every_ND = self.project[0](self._drop(inputs.features))
            return inputs.operator.hops(every_ND, self.hops)[index_B]
        assert inputs.tokens is not None
        tokens = [self._drop(row) for row in inputs.tokens[index_B].float().unbind(1)]
        if isinstance(inputs.features, Csr):
            tokens = [self._drop(take_rows(inputs.features, index_B)), *tokens]
        projections = [self.project[0]] * len(tokens) if len(self.project) == 1 else self.project
        return torch.stack([p(token) for p, token in zip(projections, tokens, strict=True)], 1)

    def _drop(self, features: Features) -> Features:
        return drop_entries(features, self.input_dropout, self.training)

    def forward(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        """Read the tokens at hand: those with k <= `hops_B`."""
        known_BT = None
        if hops_B is not None:
            hop_T = torch.arange(tokens_BTD.shape[1], device=tokens_BTD.device)
            known_BT = hop_T <= hops_B[:, None]
        blocks, states = [], []
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD, known_BT)
            states.append(tokens_BTD)
            blocks.append(self._gather(tokens_BTD, known_BT))
        return Output(self.head(self.norm(blocks[-1])), tuple(blocks), tuple(states))

    def _gather(self, tokens_BTD: Tensor, known_BT: Tensor | None) -> Tensor:
        """Return z_0 + Σ α_k z_k over the hops at hand, α = softmax(w · [z_0 ‖ z_k]), [B, D]."""
        own_B1D, far_BKD = tokens_BTD[:, :1], tokens_BTD[:, 1:]
        pairs = torch.cat([own_B1D.expand_as(far_BKD), far_BKD], 2)
        score_BK = self.choose(pairs)[..., 0]
        if known_BT is None:
            weight_BK = score_BK.softmax(1)
        else:
            known_BK = known_BT[:, 1:]
            # A finite floor: a row without any hop gets weights that `known` then sets to zero.
            weight_BK = score_BK.masked_fill(~known_BK, -1e9).softmax(1) * known_BK
        gathered_BD: Tensor = own_B1D[:, 0] + (weight_BK[..., None] * far_BKD).sum(1)
        return gathered_BD

    def draw_hops(self, index_B: Tensor) -> Tensor | None:
        """Draw k = 0 for a share `zero_hop` of the rows, else k uniform in 1 … K."""
        some_B = torch.randint(1, self.hops + 1, (len(index_B),), device=index_B.device)
        none_B = torch.rand(len(index_B), device=index_B.device) < self.zero_hop
        return some_B.masked_fill(none_B, 0)
