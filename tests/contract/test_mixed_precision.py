"""A step in mixed precision, by the autocast of the CPU: what is made in bf16 can be read again."""

from typing import Any

import pytest
import torch

from g2t.distill.losses import LOSSES
from g2t.distill.losses.base import Batch, Sizes
from g2t.distill.objective import Objective
from g2t.distill.settings import distill_settings
from g2t.graph.csr import Csr, Features, from_pairs
from g2t.student.base import Student, study
from g2t.student.store import build

NODES, WIDTH, CLASSES, LAYERS, CODES = 40, 12, 3, (8, 10), (5, 7)


def edges() -> Csr:
    one, other = torch.randint(0, NODES, (2, 90), generator=torch.Generator().manual_seed(0))
    return from_pairs(torch.cat([one, other]), torch.cat([other, one]), NODES)


def features(kind: str) -> Features:
    draw = torch.Generator().manual_seed(1)
    if kind == "dense":
        return torch.randn(NODES, WIDTH, generator=draw)
    row, column = (torch.rand(NODES, WIDTH, generator=draw) < 0.3).nonzero(as_tuple=True)
    starts = torch.nn.functional.pad(torch.bincount(row, minlength=NODES).cumsum(0), (1, 0))
    return Csr(starts, column.int(), None, WIDTH)


def student_of(name: str, kind: str, values: dict[str, Any]) -> Student:
    settings = distill_settings({"student": name, **values})
    torch.manual_seed(0)
    facts = {
        "student": name,
        "model": settings.model.model_dump(),
        "features": {"kind": kind, "width": WIDTH},
        "classes": list(range(CLASSES)),
    }
    return build(facts).train()


def said_by_a_teacher() -> Batch:
    """All that a loss may ask of a cache."""
    draw = torch.Generator().manual_seed(2)
    source_P, target_P = torch.randint(0, NODES, (2, 50), generator=draw)
    layers = tuple(torch.randn(NODES, width, generator=draw) for width in LAYERS)
    return Batch(
        labels_B=torch.arange(NODES) % CLASSES,
        logits_BC=torch.randn(NODES, CLASSES, generator=draw),
        layers=layers,
        reliability_B=torch.rand(NODES, generator=draw),
        codes_BL=torch.arange(NODES)[:, None] % torch.tensor(CODES),
        source_P=source_P,
        target_P=target_P,
        score_P=torch.rand(50, generator=draw),
        cluster_B=torch.arange(NODES) % 4,
        pre_layers=layers,
    )


@pytest.mark.parametrize("kind", ["csr", "dense"])
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        *(("landmark", loss) for loss in LOSSES if loss not in ("soft", "hop_consistency")),
        ("mlp", "adversarial"),
        ("hop", "adversarial"),
        ("hop", "hop_consistency"),
        ("hop", "align"),
    ],
)
def test_a_step_in_bf16_has_finite_losses_and_gradients(name: str, loss: str, kind: str) -> None:
    values: dict[str, Any] = {"loss": {loss: {"weight": 1.0}}}
    if (name, loss) == ("hop", "align"):
        values["loss"]["align"] |= {"map": "hop", "token_zero": True}
    student, known = student_of(name, kind, values), features(kind)
    student.fit(known, edges(), None)
    inputs = student.prepare(known, edges(), None)
    losses = distill_settings({"student": name, **values}).losses()
    with torch.autocast("cpu", torch.bfloat16):
        output = study(student, inputs, torch.arange(NODES)).in_full()
    widths = tuple(block.shape[1] for block in output.blocks)
    objective = Objective(losses, Sizes(widths, LAYERS, CODES, hops=student.hops))
    batch = said_by_a_teacher()
    parameters = list(student.parameters())
    total, terms = objective(output, batch, NODES, 0.0, parameters)
    assert set(terms) == {f"{part}.{key}" for part in ("loss", "factor") for key in ("soft", loss)}
    total.backward()
    grads = [p.grad for p in parameters if p.grad is not None]
    assert total.isfinite()
    assert grads
    assert all(bool(grad.isfinite().all()) for grad in grads)
