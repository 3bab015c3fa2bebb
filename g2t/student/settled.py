"""`landmark` as it is deployed: its trained weights multiplied out, so that one answer is fast.

What does not depend on the node is computed once. With keys K and values V of the landmarks, head h
of a block reads softmax(y Q_h K_hᵀ / √d) V_h O_h of a normed token y: two matrices, D × H·M and
H·M × D, in place of a query, an attention and an output. Scales and shifts of norms go into the
matrix that follows; a bias of O into the rows of the second matrix, as the weights of a head sum
to 1. Answers are those of the student but for rounding.

Shape letters: `B` nodes, `D` width, `M` landmarks, `H` heads, `C` classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from g2t.graph.csr import Csr, Features
from g2t.student.block import Block
from g2t.student.landmark import Landmark


@dataclass(frozen=True)
class Affine:
    """A norm without figures of its own and a linear map, x → norm(x) W + b; `weight_DX` is W."""

    weight_DX: Tensor
    bias_X: Tensor
    eps: float

    def __call__(self, state_BD: Tensor) -> Tensor:
        """Return norm(x) W + b, [B, X]."""
        normed_BD = F.layer_norm(state_BD, state_BD.shape[1:], eps=self.eps)
        return torch.addmm(self.bias_X, normed_BD, self.weight_DX)


@dataclass(frozen=True)
class SettledBlock:
    """A block over one token per node."""

    score: Affine
    mix_XD: Tensor
    widen: Affine
    narrow_XD: Tensor
    bias_D: Tensor
    heads: int

    def __call__(self, state_BD: Tensor) -> Tensor:
        """Return the token that the block leaves, [B, D]."""
        score_BX = self.score(state_BD)
        share_BHM = score_BX.view(len(state_BD), self.heads, -1).softmax(2)
        state_BD = torch.addmm(state_BD, share_BHM.view_as(score_BX), self.mix_XD)
        fed_BX = F.gelu(self.widen(state_BD))
        return torch.addmm(state_BD, fed_BX, self.narrow_XD).add_(self.bias_D)


class Settled:
    """A trained `landmark` that answers, and cannot be trained; it does not follow its origin."""

    @torch.no_grad()
    def __init__(self, student: Landmark) -> None:
        self.weight_FD = student.project.weight.t().clone()
        self.bias_D = student.project.bias.clone()
        self.blocks = [_settle(block) for block in student.blocks if isinstance(block, Block)]
        self.head = _after(student.norm, student.head.weight.t(), student.head.bias)

    @torch.inference_mode()
    def __call__(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return logits [B, C] and the last block's embeddings [B, D] of normalised features.

        These are as `Student.prepare` makes them.
        """
        if isinstance(features, Csr):
            state_BD = features.project(self.weight_FD).add_(self.bias_D)
        else:
            state_BD = torch.addmm(self.bias_D, features, self.weight_FD)
        for block in self.blocks:
            state_BD = block(state_BD)
        return self.head(state_BD), state_BD


def _settle(block: Block) -> SettledBlock:
    key_HMD, value_HMD = block.landmark_pairs()
    heads, each = len(key_HMD), key_HMD.shape[2]
    width, scale = heads * each, each**-0.5
    query_HED = block.query.weight.view(heads, each, width)
    score_DX = torch.einsum("hmd,hde->ehm", key_HMD, query_HED).reshape(width, -1)
    shift_X = torch.einsum("hmd,hd->hm", key_HMD, block.query.bias.view(heads, each)).flatten()
    output_HED = block.output.weight.t().view(heads, each, width)
    mix_HMD = value_HMD @ output_HED + block.output.bias / heads
    norm, first, last = block.feed[0], block.feed[1], block.feed[4]
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    return SettledBlock(
        score=_after(block.norm_tokens, score_DX * scale, shift_X * scale),
        mix_XD=mix_HMD.flatten(0, 1).clone(),
        widen=_after(norm, first.weight.t(), first.bias),
        narrow_XD=last.weight.t().clone(),
        bias_D=last.bias.clone(),
        heads=heads,
    )


def _after(norm: nn.LayerNorm, weight_DX: Tensor, bias_X: Tensor) -> Affine:
    """Put scale and shift of a norm into the linear map that follows it."""
    return Affine(norm.weight[:, None] * weight_DX, norm.bias @ weight_DX + bias_X, norm.eps)
