"""The learning rate over the epochs, against numbers worked out by hand, and what needs CUDA."""

import math

import pytest
import torch

from g2t.errors import MissingExtra, UsageError
from g2t.runtime import check_device
from g2t.schedule import rate_factor


def test_the_rate_rises_and_then_stays_or_falls_as_a_cosine() -> None:
    constant = [rate_factor(epoch, 6, 2, "constant") for epoch in range(6)]
    assert constant == [0.5, 1, 1, 1, 1, 1]
    half = math.sqrt(0.5)
    cosine = [rate_factor(epoch, 6, 2, "cosine") for epoch in range(6)]
    assert cosine == pytest.approx([0.5, 1, 1, (1 + half) / 2, 0.5, (1 - half) / 2])
    assert [rate_factor(epoch, 3, 0, "constant") for epoch in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(("precision", "compiled"), [("bf16", False), ("fp32", True)])
def test_what_needs_cuda_says_so_elsewhere(
    precision: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingExtra, match="needs CUDA, which is not here"):
        check_device(precision, compiled, torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UsageError, match="needs CUDA, not cpu"):
        check_device(precision, compiled, torch.device("cpu"))
    check_device(precision, compiled, torch.device("cuda"))
    check_device("fp32", False, torch.device("cpu"))
