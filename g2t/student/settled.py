"""`landmark` as it is deployed: its trained weights multiplied out, so that one answer is fast.

What does not depend on the node is computed once. With keys K and values V of the landmarks, head h
of a block reads softmax(y Q_h K_hᵀ / √d) V_h O_h of a normed token y: two matrices, D × H·M and
H·M × D, in place of a query, an attention and an output. Scales and shifts of norms go into the
matrix that follows; a bias of O into the rows of the second matrix, as the weights of a head sum
to 1. With √½ in the matrices around it, gelu(x) is u + u erf(u), u = x √½. Answers are those of the
student but for rounding.

One node pays for calls and not for numbers. Hence no functions of our own on its way, and erf: on a
CPU torch's gelu has a long way to its first number.

Shape letters: `B` nodes, `D` width, `M` landmarks, `H` heads, `C` classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from g2t.graph.csr import Csr, Features
from g2t.student.block import Block
from g2t.student.landmark import Landmark

#: What torch adds to a variance unless told otherwise.
EPS = 1e-5
ROOT_HALF = math.sqrt(0.5)


class Affine(NamedTuple):
    """The linear map y → y W + b of a normed state y; `weight_DX` is W."""

    weight_DX: Tensor
    bias_X: Tensor


class SettledBlock(NamedTuple):
    """A block over one token per node."""

    score: Affine
    mix_XD: Tensor
    widen: Affine
    narrow_XD: Tensor
    bias_D: Tensor
    heads: int


class Settled:
    """A trained `landmark` that answers, and cannot be trained; it does not follow its origin."""

    @torch.no_grad()
    def __init__(self, student: Landmark) -> None:
        self.weight_FD = student.project.weight.t().clone(memory_format=torch.contiguous_format)
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
        return self.read(state_BD)

    def read(self, state_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a call does, of features that are projected, [B, D]; it can be exported."""
        count, width = state_BD.shape
        for score, mix_XD, widen, narrow_XD, bias_D, heads in self.blocks:
            normed_BD = torch.layer_norm(state_BD, (width,))
            score_BX = torch.addmm(score.bias_X, normed_BD, score.weight_DX)
            share_BHM = score_BX.view(count, heads, -1).softmax(2)
            state_BD = torch.addmm(state_BD, share_BHM.view(count, -1), mix_XD)
            normed_BD = torch.layer_norm(state_BD, (width,))
            root_BX = torch.addmm(widen.bias_X, normed_BD, widen.weight_DX)
            fed_BX = root_BX.erf()
            torch.addcmul(root_BX, root_BX, fed_BX, out=fed_BX)
            state_BD = torch.addmm(state_BD, fed_BX, narrow_XD).add_(bias_D)
        normed_BD = torch.layer_norm(state_BD, (width,))
        return torch.addmm(self.head.bias_X, normed_BD, self.head.weight_DX), state_BD


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
        widen=_after(norm, first.weight.t() * ROOT_HALF, first.bias * ROOT_HALF),
        narrow_XD=(last.weight.t() * ROOT_HALF).contiguous(),
        bias_D=last.bias.clone(),
        heads=heads,
    )


def _after(norm: nn.LayerNorm, weight_DX: Tensor, bias_X: Tensor) -> Affine:
    """Put scale and shift of a norm into the linear map that follows it."""
    assert norm.eps == EPS
    return Affine(norm.weight[:, None] * weight_DX, norm.bias @ weight_DX + bias_X)
