"""Files of tensors: what is said of one that is not there, or no longer there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.errors import IntegrityError
from g2t.tensors import load_facts, load_tensors, save_tensors

READERS = [load_facts, load_tensors]


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_not_there(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(IntegrityError, match="x is missing from its artefact"):
        read(tmp_path / "x")


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_goes_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any]
) -> None:
    """safetensors opens a file, then torch does: another worker's commit may come in between."""
    save_tensors(tmp_path / "x", {"x": torch.ones(3)}, {"a": 1})

    def late(path: Path, framework: str) -> object:
        path.unlink()
        return torch.UntypedStorage.from_file(str(path), shared=False, nbytes=1)

    monkeypatch.setattr("g2t.tensors.safe_open", late)
    with pytest.raises(IntegrityError, match="x is missing from its artefact"):
        read(tmp_path / "x")


@pytest.mark.parametrize("read", READERS)
def test_another_failure_of_torch_is_no_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any]
) -> None:
    def fail(path: Path, framework: str) -> object:
        raise RuntimeError("unable to mmap 12 bytes: Cannot allocate memory (12)")

    monkeypatch.setattr("g2t.tensors.safe_open", fail)
    with pytest.raises(RuntimeError, match="allocate"):
        read(tmp_path / "x")


def test_facts_come_back_and_none_are_damage(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"x": torch.ones(3)}, {"a": [1, 2]})
    assert load_facts(tmp_path / "x") == {"a": [1, 2]}
    save_tensors(tmp_path / "y", {"x": torch.ones(3)})
    with pytest.raises(IntegrityError, match="y has no readable header"):
        load_facts(tmp_path / "y")
