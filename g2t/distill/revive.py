"""Dead landmarks: those that hardly any token looks at are moved to where tokens are."""

import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.student.base import Inputs, Student
from g2t.student.block import Block

#: Rows of the one batch that says what is looked at, so that memory is bounded.
ROWS = 512


@torch.no_grad()
def revive(
    student: Student, averaged: Student, inputs: Inputs, share: float, draw: torch.Generator
) -> int:
    """Move landmarks with less than `share` of their fair share 1 / M of attention; count them.

    They go to tokens of random rows, at the scale at which landmarks start. The averaged weights
    follow at once: the mean of two places is neither. Rows and tokens are drawn by `draw` alone, so
    that a training in which no landmark dies is what it would be without.
    """
    student.eval()
    device = next(student.parameters()).device
    index_B = torch.randperm(len(inputs.features), generator=draw)[:ROWS].to(device)
    moved = 0
    heard = _heard(student, inputs, index_B)
    for block, mean, tokens_BTD in zip(student.blocks, averaged.blocks, heard, strict=True):
        assert isinstance(block, Block)
        assert isinstance(mean, Block)
        usage_M = block.usage(tokens_BTD)
        dead = (usage_M < share / len(usage_M)).nonzero().flatten()
        there_SD = tokens_BTD.flatten(0, 1)
        place_SD = there_SD[torch.randint(len(there_SD), (len(dead),), generator=draw).to(device)]
        block.landmarks[dead] = F.layer_norm(place_SD, place_SD.shape[1:])
        mean.landmarks[dead] = block.landmarks[dead]
        moved += len(dead)
    return moved


def _heard(student: Student, inputs: Inputs, index_B: Tensor) -> list[Tensor]:
    """Return the tokens that each block is given for some nodes, all hops at hand."""
    heard: list[Tensor] = []

    def listen(_: object, given: tuple[Tensor, None]) -> None:
        heard.append(given[0])

    hooks = [block.register_forward_pre_hook(listen) for block in student.blocks]
    try:
        student(student.embed(inputs, index_B))
    finally:
        for hook in hooks:
            hook.remove()
    return heard
