"""Tensors in their files: the same bytes by either writer, rows by any route, errors by name."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from g2t.errors import InputError, IntegrityError
from g2t.stored import DTYPES, TensorFile, open_stored, read_header
from g2t.tensors import load_tensors, save_tensors

#: The same folder serves every example: each writes its file anew.
anew = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)

Spec = tuple[torch.dtype, tuple[int, ...]]
specs = st.tuples(
    st.sampled_from(list(DTYPES.values())),
    st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple),
)
names = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp", "Cn", "Co", "Cf"]),
    min_size=1,
    max_size=8,
).filter(lambda name: name != "__metadata__" and name.isprintable())
files = st.dictionaries(names, specs, min_size=1, max_size=5)
facts = st.none() | st.dictionaries(names, st.integers() | st.text(max_size=5))


def descriptors() -> set[str]:
    """The open files of this process."""
    return {file.name for file in Path("/proc/self/fd").iterdir()}


def filled(spec: Spec, seed: int) -> Tensor:
    dtype, shape = spec
    values = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype)


@anew
@given(files, facts, st.randoms(use_true_random=False))
def test_the_bytes_are_those_that_save_tensors_writes(
    tmp_path: Path, shapes: dict[str, Spec], known: Any, chance: Any
) -> None:
    """Two writers, one format: whole tensors at once, and rows in any order."""
    tensors = {name: filled(spec, seed) for seed, (name, spec) in enumerate(shapes.items())}
    save_tensors(tmp_path / "whole", tensors, known)
    pieces = [(name, row) for name, tensor in tensors.items() for row in range(len(tensor))]
    chance.shuffle(pieces)
    with TensorFile(tmp_path / "rows", shapes, known) as file:
        for name, row in pieces:
            file.write(name, row, tensors[name][row : row + 1])
    assert (tmp_path / "rows").read_bytes() == (tmp_path / "whole").read_bytes()
    assert read_header(tmp_path / "rows") == (open_stored(tmp_path / "rows"), known)


@anew
@given(specs, st.data())
def test_rows_are_those_of_the_whole_tensor(tmp_path: Path, spec: Spec, data: Any) -> None:
    whole = filled(spec, 0)
    save_tensors(tmp_path / "x", {"x": whole, "y": torch.ones(3)})
    stored = open_stored(tmp_path / "x")["x"]
    assert (stored.dtype, stored.shape, len(stored)) == (*spec, spec[1][0])
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert torch.equal(stored.read(start, stop), whole[start:stop])
    assert torch.equal(stored.read(start), whole[start:])
    assert torch.equal(stored.read(), load_tensors(tmp_path / "x")["x"])


def test_a_strided_block_is_written_as_it_reads(tmp_path: Path) -> None:
    block = torch.arange(12.0).view(3, 4).t()
    with TensorFile(tmp_path / "x", {"x": (torch.float32, (5, 3))}) as file:
        file.write("x", 1, block)
    expected = torch.cat([torch.zeros(1, 3), block])
    assert torch.equal(open_stored(tmp_path / "x")["x"].read(), expected)


@pytest.mark.parametrize(
    ("name", "start", "rows"),
    [
        ("x", 0, torch.ones(1, 3, dtype=torch.float16)),
        ("x", 0, torch.ones(1, 4)),
        ("x", 4, torch.ones(2, 3)),
        ("x", -1, torch.ones(1, 3)),
    ],
)
def test_rows_that_do_not_fit_are_a_defect(
    tmp_path: Path, name: str, start: int, rows: Tensor
) -> None:
    with (
        TensorFile(tmp_path / "x", {"x": (torch.float32, (5, 3))}) as file,
        pytest.raises(AssertionError),
    ):
        file.write(name, start, rows)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_the_mode_obeys_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        TensorFile(tmp_path / "x", {"x": (torch.int8, (1,))}).__exit__(None, None, None)
        save_tensors(tmp_path / "y", {"x": torch.zeros(1)})
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xy"]
    assert modes == [0o666 & ~umask] * 2


def test_a_file_is_synced_and_closed_when_whole_and_closed_when_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    before = descriptors()
    shapes: dict[str, Spec] = {"x": (torch.int8, (1,))}
    with pytest.raises(KeyboardInterrupt), TensorFile(tmp_path / "x", shapes):
        raise KeyboardInterrupt
    assert synced == []
    with TensorFile(tmp_path / "x", shapes):
        pass
    assert len(synced) == 1
    assert descriptors() == before


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> int:
        raise OSError(28, "No space left on device")

    shapes: dict[str, Spec] = {"x": (torch.int8, (8,))}
    before = descriptors()
    with TensorFile(tmp_path / "x", shapes) as file, monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left") as caught:
            file.write("x", 0, torch.zeros(8, dtype=torch.int8))
        assert caught.value.filename == str(tmp_path / "x")
        with pytest.raises(OSError, match="No space left") as caught:
            TensorFile(tmp_path / "y", shapes)
        assert caught.value.filename == str(tmp_path / "y")
    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OSError, match="No space left") as caught,
        TensorFile(tmp_path / "z", shapes),
    ):
        pass
    assert caught.value.filename == str(tmp_path / "z")
    assert descriptors() == before


def test_a_file_that_is_cut_after_it_was_opened(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"x": torch.ones(1000)})
    stored = open_stored(tmp_path / "x")["x"]
    os.truncate(tmp_path / "x", 2000)
    with pytest.raises(IntegrityError, match="was cut short while it was read"):
        stored.read()
    assert stored.read(0, 10).tolist() == [1] * 10


def test_a_disk_that_fails_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tensors(tmp_path / "x", {"x": torch.ones(3)})
    stored = open_stored(tmp_path / "x")["x"]

    def fails(*given: object) -> int:
        raise OSError(5, "Input/output error")

    before = descriptors()
    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(InputError, match=r"cannot read .*x: Input/output error"):
        stored.read()
    assert descriptors() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_an_input_error(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"x": torch.ones(3)})
    stored = open_stored(tmp_path / "x")["x"]
    (tmp_path / "x").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        open_stored(tmp_path / "x")
    with pytest.raises(InputError, match="Permission denied"):
        stored.read()
