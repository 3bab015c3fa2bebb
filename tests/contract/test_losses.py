"""What every loss of the table keeps, however it is computed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.cache.format import SIGNALS
from g2t.config import look_up
from g2t.distill.losses import LOSSES
from g2t.distill.losses.base import Batch, Loss, Sizes
from g2t.distill.objective import Objective
from g2t.distill.settings import PRESETS, distill_settings
from g2t.student.base import Output

ROWS, CLASSES, WIDTHS, CODES = 12, 4, (5, 6), (3, 7)
SIZES = Sizes(WIDTHS, WIDTHS, CODES)
#: Losses that vanish where the student is the teacher.
DISTANCES = ("soft", "gram", "cka", "lsp")

every_loss = pytest.mark.parametrize("name", LOSSES)


def loss_called(name: str, dtype: torch.dtype = torch.float32) -> Loss:
    torch.manual_seed(0)
    kind = look_up(LOSSES, name, "loss")
    loss: Loss = kind(kind.Settings(), SIZES).to(dtype)
    return loss


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
    return Batch(*known, pair_2P[0], pair_2P[1], score_P)


def random_output(dtype: torch.dtype = torch.float32, seed: int = 2) -> Output:
    batch = random_batch(dtype, seed)
    return leaves(Output(batch.logits_BC, batch.layers))


def leaves(output: Output) -> Output:
    """Return a copy whose tensors collect gradients."""
    blocks = tuple(block.clone().requires_grad_() for block in output.blocks)
    return Output(output.logits_BC.clone().requires_grad_(), blocks)


def gradients(output: Output) -> list[Tensor]:
    every = (output.logits_BC, *output.blocks)
    return [tensor.grad for tensor in every if tensor.grad is not None]


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_finite_scalar_of_the_type_of_its_input(name: str, dtype: torch.dtype) -> None:
    value = loss_called(name, dtype)(random_output(dtype), random_batch(dtype))
    assert value.shape == ()
    assert value.dtype == dtype
    assert value.isfinite()
    assert value > 0


@every_loss
def test_both_types_agree(name: str) -> None:
    values = [
        loss_called(name, dtype)(
            Output(*(random_output().logits_BC.to(dtype), cast(random_output().blocks, dtype))),
            replace(
                random_batch(),
                logits_BC=random_batch().logits_BC.to(dtype),
                layers=cast(random_batch().layers, dtype),
                reliability_B=random_batch().reliability_B.to(dtype),
                score_P=random_batch().score_P.to(dtype),
            ),
        ).item()
        for dtype in (torch.float32, torch.float64)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def cast(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(tensor.to(dtype) for tensor in tensors)


@every_loss
def test_gradient_flows_to_the_student_and_to_projectors_never_to_the_teacher(name: str) -> None:
    loss, output, batch = loss_called(name), random_output(), random_batch()
    loss(output, batch).backward()
    reached = gradients(output)
    assert sum(float(grad.abs().sum()) for grad in reached) > 0
    assert all(bool(grad.isfinite().all()) for grad in reached)
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert not any(tensor.requires_grad for tensor in (batch.logits_BC, *batch.layers))


def without(batch: Batch, need: str) -> Batch:
    """Return what a run that does not ask for `need` gets of the cache."""
    changes: dict[str, dict[str, Any]] = {
        "labels": {"labels_B": torch.full_like(batch.labels_B, -1)},
        "logits": {"logits_BC": batch.logits_BC[:, :0]},
        "layers": {"layers": ()},
        "edges": {name: getattr(batch, name)[:0] for name in ("source_P", "target_P", "score_P")},
        "edge_scores": {"score_P": batch.score_P[:0]},
        "reliability": {"reliability_B": batch.reliability_B[:0]},
        "codes": {"codes_BL": batch.codes_BL[:, :0]},
    }
    return replace(batch, **changes[need])


@every_loss
@pytest.mark.parametrize("need", ["labels", "edges", *SIGNALS])
def test_needs_are_honest(name: str, need: str) -> None:
    loss, output, batch = loss_called(name), random_output(), random_batch()
    value = loss(output, batch)
    if need not in loss.needs:
        assert loss(output, without(batch, need)).equal(value)
        return
    other = random_batch(seed=3)
    fields = {
        "labels": ("labels_B",),
        "logits": ("logits_BC",),
        "layers": ("layers",),
        "reliability": ("reliability_B",),
        "codes": ("codes_BL",),
    }
    if need == "edge_scores":
        changed = replace(batch, score_P=batch.score_P.flip(0))
    else:
        chosen = fields.get(need, ("source_P", "target_P", "score_P"))
        changed = replace(batch, **{field: getattr(other, field) for field in chosen})
    assert not loss(output, changed).equal(value)


@every_loss
def test_where_nothing_applies_the_loss_is_zero_with_a_gradient(name: str) -> None:
    loss, output = loss_called(name), random_output()
    for need in loss.needs & {"labels", "edges"}:
        value = loss(output, without(random_batch(), need))
        assert value.item() == 0
        value.backward()
        assert all(bool((grad == 0).all()) for grad in gradients(output))


@pytest.mark.parametrize("name", DISTANCES)
def test_a_student_like_its_teacher_costs_nothing_and_any_other_more(name: str) -> None:
    loss, batch = loss_called(name, torch.float64), random_batch(torch.float64)
    twin = leaves(Output(batch.logits_BC, batch.layers))
    value = loss(twin, batch)
    assert value.item() == pytest.approx(0, abs=1e-12)
    value.backward()
    assert all(bool((grad.abs() < 1e-9).all()) for grad in gradients(twin))
    for seed in range(10, 15):
        assert loss(random_output(torch.float64, seed), batch) > 1e-3


@every_loss
@pytest.mark.parametrize("kind", ["zero", "constant", "one row"])
def test_degenerate_batches_stay_finite(name: str, kind: str) -> None:
    loss, batch = loss_called(name), random_batch()
    count = 1 if kind == "one row" else ROWS
    value = 1.0 if kind == "constant" else 0.0
    source_P = torch.zeros(3 if count == ROWS else 0, dtype=torch.int64)
    layers = tuple(torch.full((count, width), value) for width in WIDTHS)
    flat = Batch(
        labels_B=batch.labels_B[:count],
        logits_BC=torch.zeros(count, CLASSES),
        layers=layers,
        reliability_B=torch.full((count,), value),
        codes_BL=torch.zeros(count, len(CODES), dtype=torch.int64),
        source_P=source_P,
        target_P=source_P,
        score_P=torch.full((len(source_P),), value),
    )
    output = leaves(Output(flat.logits_BC, flat.layers))
    result = loss(output, flat)
    assert result.isfinite()
    result.backward()
    assert all(bool(grad.isfinite().all()) for grad in gradients(output))


@every_loss
def test_weight_zero_leaves_a_loss_out(name: str) -> None:
    keeper = "pseudo" if name != "pseudo" else "soft"
    values = {"preset": keeper, "loss": {name: {"weight": 0}}}
    losses = distill_settings(values).losses()
    assert set(losses) == {keeper}
    assert set(Objective(losses, SIZES).terms) == {keeper}
    assert set(distill_settings({**values, "loss": {name: {}}}).losses()) == {keeper, name}


@every_loss
def test_its_docstring_gives_the_formula(name: str) -> None:
    assert "L = " in (look_up(LOSSES, name, "loss").__doc__ or "")


def test_presets_name_losses_of_the_table_and_every_loss_has_settings() -> None:
    for preset, named in PRESETS.items():
        assert set(named) <= set(LOSSES)
        assert set(distill_settings({"preset": preset}).losses()) == set(named)
