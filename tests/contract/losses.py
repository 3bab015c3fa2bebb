"""Every loss as its contract suite meets it, and random answers and batches for it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.config import look_up
from g2t.distill.losses import LOSSES
from g2t.distill.losses.base import Batch, Loss, Sizes
from g2t.student.base import Output, Reading
from g2t.student.hop import Hop, HopSettings
from g2t.task import Task

ROWS, CLASSES, WIDTHS, CODES, CLUSTERS, HOPS, WIDTH = 12, 4, (5, 6), (3, 7), 4, 2, 8
SIZES = Sizes(WIDTHS, WIDTHS, CODES, hops=HOPS)
#: Losses that vanish where the student is the teacher.
DISTANCES = ("soft", "gram", "cka", "lsp", "cluster", "edge_high")
#: Losses that are means over rows, so that parts of a batch mean what the whole does; edge losses
#: and `hard` are means too, over what a part may have more of.
MEANS = ("soft", "pseudo", "codebook", "adversarial", "hop_consistency")

#: Every loss as it comes, and one that is many in each of its forms.
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in LOSSES}
CASES |= {
    f"align: {map_}, {distance}": ("align", {"map": map_, "distance": distance})
    for map_ in ("depth", "hop", "attention")
    for distance in ("cosine", "mse", "cka", "contrast")
}
CASES["align: token zero"] = ("align", {"map": "hop", "token_zero": True})
CASES |= {
    f"align: pre, {map_}": ("align", {"map": map_, "activation": "pre"})
    for map_ in ("depth", "hop", "attention")
}

every_case = pytest.mark.parametrize("name", CASES)
every_loss = pytest.mark.parametrize("name", LOSSES)


def loss_called(name: str, dtype: torch.dtype = torch.float32, task: Task = "multiclass") -> Loss:
    torch.manual_seed(0)
    called, values = CASES[name]
    kind = look_up(LOSSES, called, "loss")
    loss: Loss = kind(kind.Settings(**values), replace(SIZES, task=task)).to(dtype)
    return loss


def needs_of(name: str) -> frozenset[str]:
    called, values = CASES[name]
    kind = look_up(LOSSES, called, "loss")
    needs: frozenset[str] = kind.needs_with(kind.Settings(**values))
    return needs


def random_batch(dtype: torch.dtype = torch.float32, seed: int = 1) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    pair_2P = torch.randint(0, ROWS, (2, 30), generator=draw).unique(dim=1)  # type: ignore[no-untyped-call]
    labels_B = torch.randint(0, CLASSES, (ROWS,), generator=draw)
    labels_B[::3] = -1
    logits_BC = torch.randn(ROWS, CLASSES, generator=draw, dtype=dtype)
    layers = tuple(torch.randn(ROWS, width, generator=draw, dtype=dtype) for width in WIDTHS)
    reliability_B = torch.rand(ROWS, generator=draw, dtype=dtype)
    codes_BL = torch.stack([torch.randint(0, k, (ROWS,), generator=draw) for k in CODES], 1)
    unit_BD = F.normalize(layers[-1], dim=1)
    score_P = (unit_BD[pair_2P[0]] * unit_BD[pair_2P[1]]).sum(1)
    known = labels_B, logits_BC, layers, reliability_B, codes_BL
    cluster_B = torch.randint(0, CLUSTERS, (ROWS,), generator=draw)
    pre_layers = tuple(torch.randn(ROWS, width, generator=draw, dtype=dtype) for width in WIDTHS)
    return Batch(*known, pair_2P[0], pair_2P[1], score_P, cluster_B, pre_layers)


def random_output(dtype: torch.dtype = torch.float32, seed: int = 2) -> Output:
    """Return an answer of blocks and states that owe nothing to each other, and a real reading."""
    batch, draw = random_batch(dtype, seed), torch.Generator().manual_seed(seed)
    shape = ROWS, HOPS + 1
    states = [torch.randn(*shape, width, generator=draw, dtype=dtype) for width in WIDTHS]
    tokens_BTD = torch.randn(*shape, WIDTH, generator=draw, dtype=dtype)
    hops_B = torch.arange(ROWS) % (HOPS + 1)
    reading = Reading(small_student(dtype), tokens_BTD, hops_B)
    return leaves(Output(batch.logits_BC, batch.layers, tuple(states), reading))


def small_student(dtype: torch.dtype) -> Hop:
    """A student in training that draws nothing, so that two readings of one thing agree."""
    torch.manual_seed(3)
    settings = HopSettings(hidden=WIDTH, heads=2, landmarks=3, hops=HOPS, dropout=0.0)
    return Hop(WIDTH, False, CLASSES, settings).to(dtype).train()


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def leaves(output: Output) -> Output:
    """Return a copy whose tensors collect gradients."""
    reading = output.reading
    if reading is not None:
        reading = replace(reading, tokens_BTD=leaf(reading.tokens_BTD))
    blocks, states = (tuple(map(leaf, many)) for many in (output.blocks, output.states))
    return Output(leaf(output.logits_BC), blocks, states, reading)


def gradients(output: Output) -> list[Tensor]:
    every = [output.logits_BC, *output.blocks, *output.states]
    if output.reading is not None:
        every += [output.reading.tokens_BTD, *output.reading.student.parameters()]
    return [tensor.grad for tensor in every if tensor.grad is not None]


def converted(output: Output, dtype: torch.dtype) -> Output:
    """Return the same answer in another type."""
    reading = output.reading
    assert reading is not None
    reading = replace(
        reading, student=small_student(dtype), tokens_BTD=reading.tokens_BTD.to(dtype)
    )
    states = cast(output.states, dtype)
    return Output(output.logits_BC.to(dtype), cast(output.blocks, dtype), states, reading)


def cast(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(tensor.to(dtype) for tensor in tensors)
