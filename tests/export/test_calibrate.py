"""The temperature against another optimiser, the calibration error by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.cache.check import open_cache
from g2t.export.calibrate import calibration_error, fit
from tests.export.graphs import EVERYTHING, Teach


def drawn(rows: int, classes: int, heat: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and labels that they are right about at a temperature."""
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=draw)
    labels = torch.multinomial((logits / heat).softmax(1), 1, generator=draw)[:, 0]
    return logits, labels


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_is_where_gradient_descent_ends(classes: int, heat: float) -> None:
    logits, labels = drawn(4000, classes, heat)
    found = fit(logits, labels)
    assert found is not None
    log_heat = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_heat], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits.double() / log_heat.exp(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert found.value == pytest.approx(math.exp(log_heat.item()), rel=1e-4)
    assert found.value == pytest.approx(heat, rel=0.1)
    assert found.nll.after == pytest.approx(closure().item(), abs=2e-6)
    assert found.nll.before == pytest.approx(F.cross_entropy(logits, labels).item(), abs=2e-6)
    assert found.nll.after <= found.nll.before
    assert found.nodes == 4000
    if heat != 1:
        assert found.calibration_error.after < found.calibration_error.before


def test_it_scales_with_the_logits_and_ignores_what_softmax_ignores() -> None:
    logits, labels = drawn(500, 3, 2.0)
    one, two = fit(logits, labels), fit(2 * logits + torch.randn(500, 1), labels)
    assert one is not None
    assert two is not None
    assert two.value == pytest.approx(2 * one.value, rel=1e-4)
    assert two.nll.after == pytest.approx(one.nll.after, abs=1e-5)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.empty(0, 3), torch.empty(0, dtype=torch.int64)),
        (torch.eye(3), torch.arange(3)),  # all are right: the colder the better
        (torch.eye(3), torch.tensor([1, 2, 0])),  # all are wrong: the hotter the better
        (torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])),  # it makes no difference
    ],
    ids=["no rows", "all right", "all wrong", "constant"],
)
def test_where_no_temperature_is_best_there_is_none(logits: Tensor, labels: Tensor) -> None:
    assert fit(logits, labels) is None


def test_the_calibration_error_by_hand() -> None:
    """Two rows of 0.9, one of them right; one of 0.6, right; one of 1/2, in the 8th bin, wrong."""
    shares = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6], [0.5, 0.5]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    wanted = (abs(1 - 2 * 0.9) + abs(1 - 0.6) + abs(0 - 0.5)) / 4
    assert calibration_error(shares.log(), labels) == pytest.approx(wanted, abs=1e-6)


def test_certain_rows_fall_into_the_last_bin() -> None:
    logits = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    assert calibration_error(logits, torch.tensor([0, 1])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "asked", [{"dtype": "int8"}, {"dtype": "fp16", "topk": 1}, {"signals": ("logits",)}], ids=str
)
def test_a_cache_tells_that_of_its_exact_logits(
    teach: Teach, tmp_path: Path, asked: dict[str, Any]
) -> None:
    """Shards of which one has no validation row, whatever the type that logits are stored in."""
    taught = teach("gat", **{**EVERYTHING, "layers": 2})
    cache = taught.export(tmp_path / "c", shard_rows=100, **asked)
    val = cache.parts.val
    assert len(torch.unique(val // 100)) < 4
    wanted = fit(taught.trace.logits_NC[val], cache.labels[val])
    found = open_cache(tmp_path / "c").manifest.temperature
    assert wanted is not None
    assert found is not None
    assert found.value == pytest.approx(wanted.value, rel=1e-3)
    assert found.nll.before == pytest.approx(wanted.nll.before, abs=1e-5)
    assert found.nodes == len(val)
    error = wanted.calibration_error.before
    assert found.calibration_error.before == pytest.approx(error, abs=1e-4)


def test_a_cache_without_logits_has_none(teach: Teach, tmp_path: Path) -> None:
    cache = teach("gcn", **EVERYTHING).export(tmp_path / "c", signals=("layers", "reliability"))
    assert cache.manifest.temperature is None
    assert "temperature" not in (tmp_path / "c" / "manifest.json").read_text()
