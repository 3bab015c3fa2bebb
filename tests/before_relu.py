"""What stands ahead of a teacher's ReLU, heard from the modules of its own forward pass."""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from g2t.graph.csr import Features
from g2t.teacher.frame import GNN, Structure, Trace
from g2t.teacher.stack import Stack


@torch.no_grad()
def before_relu(model: GNN, features: Features, structure: Structure) -> tuple[Tensor, ...]:
    """Return the hidden layers before their activation, [N, D] each: as they are if it has none."""
    heard: list[Tensor] = []
    with ExitStack() as hooks:
        for module in last_modules(model):
            hook = partial(_hear, heard)
            hooks.callback(module.register_forward_hook(hook).remove)
        trace: Trace = model(features, structure)
    return tuple(heard) if heard else trace.layers


def last_modules(model: GNN) -> Iterable[nn.Module]:
    """Return what a hidden layer's ReLU reads, layer by layer; of a stack that is its norms."""
    found: Iterable[nn.Module] = getattr(model, "convolutions", ())
    return model.norms if isinstance(model, Stack) else found


def _hear(heard: list[Tensor], module: nn.Module, given: Any, output: Tensor) -> None:
    heard.append(output.clone())
