"""`hop`, the edge-aware student: tokens Â^k x for k = 0 … K, with landmarks as global memory.

Trained with hop dropout, so one set of weights answers with 0, 1, … K hops at hand (tokens after
NAGphormer, Chen et al. 2023). Two more kinds of tokens can be chosen: what a hop smooths away,
Â^k x - Â^(k+1) x, and single neighbours, each with hop tokens of its own.

More letters: `S` neighbours of a node, `P` parts of a neighbour (its hop tokens).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from g2t.chance import draw, drawing_for, drop
from g2t.graph.csr import Csr, Features, take_rows
from g2t.graph.linear import InputLinear, drop_entries
from g2t.graph.structure import Propagation, project_dense, propagation, some_neighbours
from g2t.student.base import Inputs, ModelSettings, Output, Student, TrainSettings
from g2t.student.block import Block
from g2t.student.landmark import SIZES, AttentionSettings, AttentionTrainSettings
from g2t.student.normalize import Normalize


class HopSettings(AttentionSettings):
    """`model.*` of `hop`."""

    blocks: int = Field(1, ge=1)
    hops: int = Field(3, ge=1, description="hop tokens K beyond the node itself")
    zero_hop: float = Field(0.4, ge=0, le=1, description="share of training rows without any hop")
    high_pass: bool = Field(False, description="K tokens more, Â^k x - Â^(k+1) x")
    neighbours: int = Field(0, ge=0, description="tokens of single neighbours, at most S; 0: none")
    neighbour_hops: int = Field(2, ge=0, description="hop tokens of each beyond its own features")

    @model_validator(mode="after")
    def _within_reach(self) -> "HopSettings":
        if self.neighbours and self.neighbour_hops >= self.hops:
            raise ValueError(
                f"model.neighbour_hops {self.neighbour_hops} beyond a neighbour is farther than "
                f"model.hops {self.hops} hops: lower it, or raise model.hops"
            )
        return self


class HopTrainSettings(AttentionTrainSettings):
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
    be stored. Dense features have one projection per token, and standardised tokens.

    `embed` gives tokens in this order: hops 0 … K, K high-pass ones, and the parts of neighbour 1,
    of neighbour 2, …; `forward` adds up the parts of a neighbour that are at hand. Of S neighbours
    those that a node lacks are tokens too, which begin as zeros: they tell how few it has.
    """

    Settings: ClassVar[type[ModelSettings]] = HopSettings
    Train: ClassVar[type[TrainSettings]] = HopTrainSettings
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = SIZES
    WORD_DROPOUT: ClassVar[float] = 0.7

    #: Hops that each token of a node itself reads, [K + 1 or 2 K + 1].
    reach_T: Tensor

    def __init__(self, features: int, sparse: bool, classes: int, settings: HopSettings) -> None:
        super().__init__()
        width, hops = settings.hidden, settings.hops
        self.hops, self.zero_hop = hops, settings.zero_hop
        self.neighbours, self.parts = settings.neighbours, settings.neighbour_hops + 1
        self.input_dropout, self.dropout = settings.input_dropout or 0.0, settings.dropout
        high = torch.arange(1, hops + 1 if settings.high_pass else 1)
        self.register_buffer("reach_T", torch.cat([torch.arange(hops + 1), high]), persistent=False)
        count = len(self.reach_T)
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
        if self.neighbours:
            self.near = nn.ModuleList(
                nn.Linear(width, width, bias=part == 0) for part in range(self.parts)
            )

    @property
    def _high_pass(self) -> bool:
        return len(self.reach_T) > self.hops + 1

    def fit(self, features: Features, edges: Csr, tokens: Tensor | None) -> None:
        """Learn the normalisation of every token."""
        if isinstance(features, Tensor):
            operator = propagation(edges) if tokens is None else None
            self.normalize.fit(self._all_tokens(features, operator, tokens))

    def prepare(
        self,
        features: Features,
        edges: Csr,
        tokens: Tensor | None,
        operator: Propagation | None = None,
    ) -> Inputs:
        """Take stored tokens, or make them: ahead for dense features, in every step for sparse."""
        near_NS = some_neighbours(edges, self.neighbours) if self.neighbours else None
        if tokens is None and operator is None:
            operator = propagation(edges)
        if isinstance(features, Tensor):
            tokens = self.normalize(self._all_tokens(features, operator, tokens))
        return Inputs(features, tokens, operator if tokens is None else None, near_NS)

    def _all_tokens(
        self, features: Tensor, operator: Propagation | None, tokens: Tensor | None
    ) -> Tensor:
        if tokens is None:
            assert operator is not None
            tokens = project_dense(features, operator, self.hops)
        hops_NTF = torch.cat([features[:, None].float(), tokens.float()], 1)
        if not self._high_pass:
            return hops_NTF
        return torch.cat([hops_NTF, hops_NTF[:, :-1] - hops_NTF[:, 1:]], 1)

    def own(self, inputs: Inputs, index_B: Tensor) -> Features:
        """Return the own features of some nodes, dense ones standardised as the first token."""
        if isinstance(inputs.features, Csr):
            return inputs.features.rows(index_B)
        assert inputs.tokens is not None
        return inputs.tokens[:, 0][index_B]

    def embed(self, inputs: Inputs, index_B: Tensor) -> Tensor:
        """Return the tokens of some nodes and the parts of their neighbours, [B, T, D]."""
        near_BS = torch.full((len(index_B), 0), -1, device=index_B.device)
        if inputs.neighbours is not None:
            near_BS = inputs.neighbours[index_B].long()
        near_R = near_BS[near_BS >= 0]
        if inputs.operator is not None:
            # Dropped words are dropped at their source, so all hops agree on them.
            with drawing_for(None):
                every_ND = self.project[0](self._drop(inputs.features))
            rows = inputs.operator.hops(every_ND, self.hops, torch.cat([index_B, near_R]))
            own_BTD, near_RTD = rows[: len(index_B)], rows[len(index_B) :]
        else:
            own_BTD = self._project(inputs, index_B, len(self.reach_T))
            near_RTD = self._project(inputs, near_R, self.parts) if len(near_R) else own_BTD[:0]
        tokens_BTD = self.placed(own_BTD)
        if self.neighbours:
            parts_BSPD = self._parts(near_BS, near_RTD[:, : self.parts])
            tokens_BTD = torch.cat([tokens_BTD, parts_BSPD.flatten(1, 2)], 1)
        return drop(tokens_BTD, self.dropout, self.training)

    def placed(self, own_BTD: Tensor) -> Tensor:
        """Return a node's own tokens from its projected ones, hops 0 … K or all."""
        return self._with_high_pass(own_BTD) + self.place

    def _project(self, inputs: Inputs, index_B: Tensor, count: int) -> Tensor:
        """Project the first tokens that are stored of some nodes, [B, at most `count`, D]."""
        assert inputs.tokens is not None
        sparse = isinstance(inputs.features, Csr)
        stored = inputs.tokens[:, : count - 1 if sparse else count][index_B].float()
        tokens = [self._drop(row) for row in stored.unbind(1)]
        if sparse:
            tokens = [self._drop(take_rows(inputs.features, index_B)), *tokens]
        projections = [self.project[0]] * len(tokens) if sparse else self.project[:count]
        return torch.stack([p(token) for p, token in zip(projections, tokens, strict=True)], 1)

    def _with_high_pass(self, tokens_BTD: Tensor) -> Tensor:
        """Put what each hop smooths away behind projected hop tokens that lack it."""
        if tokens_BTD.shape[1] == len(self.reach_T):
            return tokens_BTD
        return torch.cat([tokens_BTD, tokens_BTD[:, :-1] - tokens_BTD[:, 1:]], 1)

    def _parts(self, near_BS: Tensor, near_RPD: Tensor) -> Tensor:
        """Return the parts of all neighbours, [B, S, P, D]; those of a missing one are zero."""
        rows = zip(self.near, near_RPD.unbind(1), strict=True)
        made_RPD = torch.stack([linear(row_RD) for linear, row_RD in rows], 1)
        parts_BSPD = made_RPD.new_zeros(*near_BS.shape, *made_RPD.shape[1:])
        parts_BSPD[near_BS >= 0] = made_RPD
        return parts_BSPD

    def _drop(self, features: Features) -> Features:
        return drop_entries(features, self.input_dropout, self.training)

    def forward(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        """Read the tokens at hand: those that reach at most `hops_B` hops."""
        known_BT = None if hops_B is None else self.reach_T <= hops_B[:, None]
        if self.neighbours:
            tokens_BTD, known_BT = self._join_parts(tokens_BTD, hops_B, known_BT)
        blocks, states = [], []
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD, known_BT)
            states.append(tokens_BTD)
            blocks.append(self._gather(tokens_BTD, known_BT))
        return Output(self.head(self.norm(blocks[-1])), tuple(blocks), tuple(states))

    def _join_parts(
        self, tokens_BTD: Tensor, hops_B: Tensor | None, known_BT: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Add up a neighbour's parts: part p is p + 1 hops away from the node that reads it."""
        count = len(self.reach_T)
        each = len(tokens_BTD), self.neighbours, self.parts, tokens_BTD.shape[2]
        parts_BSPD = tokens_BTD[:, count:].reshape(each)
        if hops_B is not None and known_BT is not None:
            part_P = torch.arange(1, self.parts + 1, device=hops_B.device)
            beyond_BP = part_P > hops_B[:, None]
            parts_BSPD = parts_BSPD.masked_fill(beyond_BP[:, None, :, None], 0)
            near_BS = (hops_B > 0)[:, None].expand(-1, self.neighbours)
            known_BT = torch.cat([known_BT, near_BS], 1)
        return torch.cat([tokens_BTD[:, :count], parts_BSPD.sum(2)], 1), known_BT

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
        count, device = len(index_B), index_B.device
        some_B = draw(count, lambda n: torch.randint(1, self.hops + 1, (n,), device=device))
        none_B = draw(count, lambda n: torch.rand(n, device=device)) < self.zero_hop
        return some_B.masked_fill(none_B, 0)
