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
from g2t.distill.losses.align import Align, standardised
from g2t.distill.losses.base import Batch
from g2t.distill.objective import Objective
from g2t.distill.settings import PRESETS, distill_settings, signals_of
from g2t.student.base import Output, Reading
from g2t.task import Task
from tests.contract.losses import (
    CASES,
    CLASSES,
    CODES,
    DISTANCES,
    HOPS,
    MEANS,
    ROWS,
    SIZES,
    WIDTHS,
    cast,
    converted,
    every_case,
    every_loss,
    gradients,
    leaves,
    loss_called,
    needs_of,
    random_batch,
    random_output,
)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_finite_scalar_of_the_type_of_its_input(name: str, dtype: torch.dtype) -> None:
    value = loss_called(name, dtype)(random_output(dtype), random_batch(dtype))
    assert value.shape == ()
    assert value.dtype == dtype
    assert value.isfinite()
    assert value > 0


@every_case
def test_both_types_agree(name: str) -> None:
    values = [
        loss_called(name, dtype)(
            converted(random_output(torch.float32), dtype),
            replace(
                random_batch(),
                logits_BC=random_batch().logits_BC.to(dtype),
                layers=cast(random_batch().layers, dtype),
                pre_layers=cast(random_batch().pre_layers, dtype),
                reliability_B=random_batch().reliability_B.to(dtype),
                score_P=random_batch().score_P.to(dtype),
            ),
        ).item()
        for dtype in (torch.float32, torch.float64)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@every_case
def test_gradient_flows_to_the_student_and_to_projectors(name: str) -> None:
    loss, output, batch = loss_called(name), random_output(), random_batch()
    loss(output, batch).backward()
    reached = gradients(output)
    assert sum(float(grad.abs().sum()) for grad in reached) > 0
    assert all(bool(grad.isfinite().all()) for grad in reached)
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def without(batch: Batch, need: str) -> Batch:
    """Return what a run that does not ask for `need` gets of the cache."""
    changes: dict[str, dict[str, Any]] = {
        "labels": {"labels_B": torch.full_like(batch.labels_B, -1)},
        "logits": {"logits_BC": batch.logits_BC[:, :0]},
        "layers": {"layers": ()},
        "pre_layers": {"pre_layers": ()},
        "edges": {name: getattr(batch, name)[:0] for name in ("source_P", "target_P", "score_P")},
        "edge_scores": {"score_P": batch.score_P[:0]},
        "reliability": {"reliability_B": batch.reliability_B[:0]},
        "codes": {"codes_BL": batch.codes_BL[:, :0]},
        "clusters": {"cluster_B": batch.cluster_B[:0]},
    }
    return replace(batch, **changes[need])


@every_case
@pytest.mark.parametrize("need", ["labels", "edges", *SIGNALS])
def test_needs_are_honest(name: str, need: str) -> None:
    loss, output, batch = loss_called(name), random_output(), random_batch()
    value = loss(output, batch)
    if need not in needs_of(name):
        assert loss(output, without(batch, need)).equal(value)
        return
    other = random_batch(seed=3)
    fields = {
        "labels": ("labels_B",),
        "logits": ("logits_BC",),
        "layers": ("layers",),
        "pre_layers": ("pre_layers",),
        "reliability": ("reliability_B",),
        "codes": ("codes_BL",),
        "clusters": ("cluster_B",),
    }
    if need == "edge_scores":
        changed = replace(batch, score_P=batch.score_P.flip(0))
    else:
        chosen = fields.get(need, ("source_P", "target_P", "score_P"))
        changed = replace(batch, **{field: getattr(other, field) for field in chosen})
    assert not loss(output, changed).equal(value)


@every_case
def test_a_constant_added_to_a_row_of_logits_changes_nothing(name: str) -> None:
    """It changes no probability, and means of several teachers come with one of their own."""
    loss, output, batch = (
        loss_called(name, torch.float64),
        random_output(torch.float64),
        random_batch(torch.float64),
    )
    shift_B1 = torch.arange(ROWS)[:, None] - 5.0
    ours = replace(output, logits_BC=output.logits_BC + shift_B1)
    theirs = replace(batch, logits_BC=batch.logits_BC - 2 * shift_B1)
    assert loss(ours, theirs).item() == pytest.approx(loss(output, batch).item())


@every_case
def test_where_nothing_applies_the_loss_is_zero_with_a_gradient(name: str) -> None:
    loss, output = loss_called(name), random_output()
    for need in needs_of(name) & {"labels", "edges"}:
        value = loss(output, without(random_batch(), need))
        assert value.item() == 0
        value.backward()
        assert all(bool((grad == 0).all()) for grad in gradients(output))


@pytest.mark.parametrize("name", DISTANCES)
def test_a_student_like_its_teacher_costs_nothing_and_any_other_more(name: str) -> None:
    loss, batch = loss_called(name, torch.float64), random_batch(torch.float64)
    twin = leaves(
        replace(random_output(torch.float64), logits_BC=batch.logits_BC, blocks=batch.layers)
    )
    value = loss(twin, batch)
    assert value.item() == pytest.approx(0, abs=1e-12)
    value.backward()
    assert all(bool((grad.abs() < 1e-9).all()) for grad in gradients(twin))
    for seed in range(10, 15):
        assert loss(random_output(torch.float64, seed), batch) > 1e-3


@pytest.mark.parametrize(
    "name",
    [
        case
        for case, (called, values) in CASES.items()
        if called == "align"
        and values.get("map") != "attention"
        and values.get("distance") != "contrast"
    ],
)
def test_states_that_are_the_teachers_layers_are_aligned(name: str) -> None:
    loss, batch, output = loss_called(name), random_batch(), random_output()
    assert isinstance(loss, Align)
    for project in loss.projectors:
        if isinstance(project, torch.nn.Linear):
            torch.nn.init.eye_(project.weight)
            torch.nn.init.zeros_(project.bias)
    layers = batch.pre_layers if "pre_layers" in needs_of(name) else batch.layers
    targets = tuple(map(standardised, layers))
    # Token 0 and hops 1, 2; the narrower layer is what a projector leaves of a wider token.
    last = torch.stack([F.pad(t, (0, WIDTHS[-1] - t.shape[1])) for t in targets[-1:] + targets], 1)
    like = replace(output, blocks=targets, states=(*output.states[:-1], last))
    assert loss(like, batch).item() == pytest.approx(0, abs=1e-6)
    assert loss(output, batch) > 0.1


@every_case
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
        cluster_B=torch.arange(count),
        pre_layers=layers,
    )
    reading = random_output().head(count).reading
    assert reading is not None
    tokens_BTD = torch.full_like(reading.tokens_BTD, value)
    states = tuple(torch.full((count, HOPS + 1, width), value) for width in WIDTHS)
    reading = replace(reading, tokens_BTD=tokens_BTD)
    output = leaves(Output(flat.logits_BC, flat.layers, states, reading))
    result = loss(output, flat)
    assert result.isfinite()
    result.backward()
    assert all(bool(grad.isfinite().all()) for grad in gradients(output))


@every_case
@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_every_task_has_a_finite_value_and_gradient(name: str, task: Task) -> None:
    """Of two classes logits have two columns, of several labels labels have as many as logits."""
    batch, output = random_batch(), random_output()
    if task == "multilabel":
        draw = torch.Generator().manual_seed(0)
        labels_BC = torch.randint(-1, 2, (ROWS, CLASSES), generator=draw)
        batch = replace(batch, labels_B=labels_BC)
    value = loss_called(name, task=task)(output, batch)
    assert value.isfinite()
    assert value > 0
    value.backward()
    assert all(bool(grad.isfinite().all()) for grad in gradients(output))


def rows_of(output: Output, batch: Batch, rows_B: Tensor) -> tuple[Output, Batch]:
    """Return some rows of both, without pairs."""
    reading = output.reading
    assert reading is not None
    assert reading.hops_B is not None
    reading = Reading(reading.student, reading.tokens_BTD[rows_B], reading.hops_B[rows_B])
    blocks, states = (tuple(t[rows_B] for t in many) for many in (output.blocks, output.states))
    part = Output(output.logits_BC[rows_B], blocks, states, reading)
    fields = ("labels_B", "logits_BC", "reliability_B", "codes_BL", "cluster_B")
    known = {field: getattr(batch, field)[rows_B] for field in fields}
    layers, pre = (tuple(t[rows_B] for t in many) for many in (batch.layers, batch.pre_layers))
    return part, replace(batch.head(0), layers=layers, pre_layers=pre, **known)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name != "hard" and "edges" not in needs_of(name)]
)
def test_means_over_rows_do_not_see_how_a_batch_is_cut_and_macro_losses_do(name: str) -> None:
    loss, output, batch = (
        loss_called(name, torch.float64),
        random_output(torch.float64),
        random_batch(torch.float64),
    )
    whole = loss(output, batch)
    halves = [loss(*rows_of(output, batch, part)) for part in torch.arange(ROWS).chunk(2)]
    shuffled = loss(*rows_of(output, batch, torch.randperm(ROWS)))
    assert shuffled.item() == pytest.approx(whole.item())
    apart = abs(torch.stack(halves).mean().item() - whole.item())
    assert apart < 1e-9 if name in MEANS else apart > 1e-4


@pytest.mark.parametrize("name", [name for name in LOSSES if "edges" in needs_of(name)])
def test_edge_losses_do_not_see_the_order_of_pairs(name: str) -> None:
    loss, output, batch = loss_called(name), random_output(), random_batch()
    order = torch.randperm(len(batch.source_P))
    ends = {field: getattr(batch, field)[order] for field in ("source_P", "target_P", "score_P")}
    assert loss(output, replace(batch, **ends)).item() == pytest.approx(loss(output, batch).item())


def test_hard_is_the_mean_over_the_labelled_rows_of_any_parts() -> None:
    loss, output, batch = loss_called("hard"), random_output(), random_batch()
    parts = torch.split(torch.arange(ROWS), [8, 4])
    counts = [int((batch.labels_B[part] >= 0).sum()) for part in parts]
    sums = [
        count * loss(*rows_of(output, batch, part))
        for count, part in zip(counts, parts, strict=True)
    ]
    assert counts[0] != counts[1]
    whole = loss(output, batch).item()
    assert torch.stack(sums).sum().item() / sum(counts) == pytest.approx(whole)


@every_loss
def test_weight_zero_leaves_a_loss_out(name: str) -> None:
    keeper = "pseudo" if name != "pseudo" else "soft"
    values = {"student": "hop", "preset": keeper, "loss": {name: {"weight": 0}}}
    losses = distill_settings(values).losses()
    assert signals_of(distill_settings(values)) == {"logits", "layers"}  # its landmarks'
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
