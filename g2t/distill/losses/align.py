"""Multiscale alignment: what a student holds at every scale against the teacher's layers."""

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from g2t.distill.losses.base import Batch, Loss, LossSettings, Need, Sizes, nothing
from g2t.distill.losses.distance import DISTANCES, Distance
from g2t.student.base import Output


class AlignSettings(LossSettings):
    """`loss.align.*`."""

    map: Literal["depth", "hop", "attention"] = Field(
        "depth", description="which of the student meets which teacher layer"
    )
    distance: Distance = Field("cosine", description="how far a projected row is from its target")
    activation: Literal["post", "pre"] = Field(
        "post", description="teacher layers after their activation, or before it"
    )
    token_zero: bool = Field(
        False, description="map hop: rows read without a hop meet the last teacher layer"
    )

    @model_validator(mode="after")
    def _fits(self) -> "AlignSettings":
        if self.token_zero and self.map != "hop":
            raise ValueError(f"token_zero goes with map = hop, not {self.map}")
        return self

    @property
    def needs_hops(self) -> bool:
        """Whether hop tokens are aligned."""
        return self.map == "hop"


class Pair(NamedTuple):
    """What is compared: a block, or token `token` of the last one, and a teacher layer, from 0."""

    block: int
    layer: int
    token: int | None = None


class Align(Loss):
    """Multiscale feature alignment, after the hints of FitNets (Romero et al. 2015).

    L = Σ_p a_p d(W_p h_p, t_p) over pairs p of a student's state and a teacher layer, whose columns
    are standardised over the batch; each pair has a linear projector, on the student's side alone.
    `map` makes the pairs. `depth`: block l of L, layer ⌈l · L' / L⌉ of L', a = 1 / L. `attention`:
    every block, every layer, a learned softmax over layers per block, over L (Passban et al. 2021);
    layers are fixed and a sums to 1, so nothing collapses, but a block may settle on the layer that
    is easiest. `hop`: token k of the last block, layer min(k, L'), over the rows that had hop k at
    hand, all k alike; with `token_zero` also token 0, layer L', over the rows that were read
    without a hop, so that it learns what the hops would have told.
    `distance` d: `cosine`, mean_i (1 - cos); `mse`, mean squared error of an entry; `cka`, 1 minus
    linear CKA, which needs no projector; `contrast`, InfoNCE as in `contrast`. Layers are those
    after their activation or, with `activation` = `pre`, before it, where ReLU has not yet made
    one zero of all that is negative. When: for embeddings that resemble the teacher's; it has not
    raised accuracy. Siblings: `codebook`, `contrast`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"layers"})
    Settings: ClassVar[type[LossSettings]] = AlignSettings

    def __init__(self, settings: AlignSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.pairs, self.activation = _pairs(settings, sizes), settings.activation
        self.distance = DISTANCES[settings.distance]
        self.projectors = nn.ModuleList(
            nn.Identity()
            if settings.distance == "cka"
            else nn.Linear(sizes.student[pair.block], sizes.teacher[pair.layer])
            for pair in self.pairs
        )
        shape = len(sizes.student), len(sizes.teacher)
        self.attention = nn.Parameter(torch.zeros(shape)) if settings.map == "attention" else None

    @classmethod
    def needs_with(cls, settings: LossSettings) -> frozenset[Need]:
        """Return the signal that holds the layers."""
        assert isinstance(settings, AlignSettings)
        return frozenset({"pre_layers"}) if settings.activation == "pre" else cls.needs

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return the weighted mean over the pairs; 0 where nothing is read, and for one row."""
        layers = batch.pre_layers if self.activation == "pre" else batch.layers
        if len(layers[0]) == 1:  # columns of a single row cannot be standardised
            return nothing(output)
        targets = [standardised(layer_BD) for layer_BD in layers]
        found = []
        for pair, project in zip(self.pairs, self.projectors, strict=True):
            ours_BD, theirs_BD = output.blocks[pair.block], targets[pair.layer]
            if pair.token is not None:
                read_B = _read(output, pair.token)
                ours_BD, theirs_BD = output.states[-1][read_B, pair.token], theirs_BD[read_B]
            if len(ours_BD):
                found.append(self.distance(project(ours_BD), theirs_BD))
        if not found:
            return nothing(output)
        distances = torch.stack(found)
        if self.attention is None:
            return distances.mean()
        return (self.attention.softmax(1).flatten() * distances).sum() / len(self.attention)


def _pairs(settings: AlignSettings, sizes: Sizes) -> list[Pair]:
    blocks, layers = len(sizes.student), len(sizes.teacher)
    if settings.map == "depth":
        return [Pair(block, layer) for block, layer in enumerate(depth_map(blocks, layers))]
    if settings.map == "attention":
        return [Pair(block, layer) for block in range(blocks) for layer in range(layers)]
    alone = [Pair(blocks - 1, layers - 1, 0)] if settings.token_zero else []
    hops = range(1, sizes.hops + 1)
    return alone + [Pair(blocks - 1, min(hop, layers) - 1, hop) for hop in hops]


def _read(output: Output, token: int) -> Tensor:
    """Return which rows had hop `token` at hand, bool [B]; for token 0, which had no hop."""
    hops_B = None if output.reading is None else output.reading.hops_B
    if hops_B is None:
        return torch.full((len(output.logits_BC),), token > 0, device=output.logits_BC.device)
    return hops_B >= token if token else hops_B == 0


def depth_map(blocks: int, layers: int) -> tuple[int, ...]:
    """Return, for each of L blocks, the index of the teacher layer at the same relative depth."""
    return tuple(-(-(block * layers) // blocks) - 1 for block in range(1, blocks + 1))


def standardised(states_BD: Tensor) -> Tensor:
    """Return columns with mean 0 and deviation 1; constant columns become 0."""
    centred_BD = states_BD - states_BD.mean(0)
    return centred_BD / centred_BD.std(0, unbiased=False).clamp(min=1e-6)
