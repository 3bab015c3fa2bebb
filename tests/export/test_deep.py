"""The second route agrees with every sound cache, and with none that mixes up rows or teachers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.cache.check import open_cache
from g2t.errors import IntegrityError, UsageError
from g2t.export.deep import compare
from g2t.teacher import TEACHERS
from spoiling import Edit, put, sign, tensors
from tests.export.graphs import (
    EVERYTHING,
    PLAIN,
    ROWS,
    Taught,
    Teach,
    features_of,
    graph_of,
    odd_graph,
    store,
    write_teacher,
)
from tests.export.odd_teachers import ODD, ODDER


@pytest.fixture(scope="module", autouse=True)
def odd_teachers() -> Iterator[None]:
    """List the odd teachers among all others."""
    with pytest.MonkeyPatch.context() as patch:
        for name, where in (ODD | ODDER).items():
            patch.setitem(TEACHERS, name, where)
        yield


def deep(taught: Taught, cache: Path, sample: int = 10**6, seed: int = 0) -> dict[str, float]:
    return compare(open_cache(cache), taught.teacher, taught.graph, sample, seed)


@pytest.mark.parametrize("name", ["gcn", "sage", "gat", *ODD])
@pytest.mark.parametrize("split", ["public", "cpf:2"])
def test_a_sound_cache_of_every_teacher_passes(tmp_path: Path, name: str, split: str) -> None:
    graph = store(odd_graph(kind="words"), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", name, split=split, **EVERYTHING)
    taught.export(tmp_path / "c", shard_rows=131)
    found = deep(taught, tmp_path / "c")
    assert sorted(found) == ["teacher-h1", "teacher-h2", "teacher-h3", "teacher-logits"]
    assert max(found.values()) < 1e-5
    few = deep(taught, tmp_path / "c", sample=3, seed=1)
    assert max(few.values()) < 1e-4


@pytest.mark.parametrize(
    "asked",
    [
        {"dtype": "fp16", "precision": "fp16"},
        {"dtype": "bf16"},
        {"dtype": "int8", "shard_rows": 131},
        {"dtype": "fp16", "topk": 2},
        {"dtype": "fp16", "topk": 1},
        {"signals": ("logits",)},
        {"signals": ("layers", "codes")},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_a_sound_cache_of_every_type_passes(
    teach: Teach, tmp_path: Path, name: str, asked: dict[str, Any]
) -> None:
    taught = teach(name, **EVERYTHING)
    cache = taught.export(tmp_path / "c", **asked)
    kept = {e.name for e in cache.manifest.tensors if e.name in taught.wanted}
    for sample in (ROWS, 5):
        assert set(deep(taught, tmp_path / "c", sample)) == kept


@pytest.mark.parametrize("dtype", ["int8", "bf16"])
@pytest.mark.parametrize("seed", [0, 2])
def test_one_row_that_is_louder_than_all_others_raises_no_false_alarm(
    tmp_path: Path, dtype: str, seed: int
) -> None:
    """The error of int8 is one of the loudest row; a sample without it must not be blamed."""
    features = features_of(200, "dense")
    assert isinstance(features, Tensor)
    features[150] *= 300
    ring = torch.arange(200)
    graph = store(graph_of(torch.stack([ring, ring.roll(1)]), features), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", "gcn", **PLAIN)
    taught.export(tmp_path / "c", dtype=dtype)
    assert deep(taught, tmp_path / "c", 10, seed)


#: Teachers whose steps read the first state, whose head reads all, that have no layers.
OTHERS: dict[str, dict[str, Any]] = {
    "gcn": EVERYTHING | {"jk": "max"},
    "max": EVERYTHING | {"jk": "cat"},
    "appnp": {"layers": 3},
    "gcn2": {"layers": 2},
    "sgc": {},
    "echo": {},
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("sample", [10**6, 3])
def test_a_sound_cache_of_teachers_of_other_kinds_passes(
    tmp_path: Path, name: str, sample: int
) -> None:
    graph = store(odd_graph(kind="words"), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", name, **OTHERS[name])
    taught.export(tmp_path / "c", shard_rows=131)
    found = deep(taught, tmp_path / "c", sample)
    assert sorted(found) == sorted(taught.wanted)
    assert max(found.values()) < 1e-4


def swapped(rows: Tensor) -> Tensor:
    rows[[3, 40]] = rows[[40, 3]]
    return rows


@pytest.mark.parametrize("name", ["teacher-h1", "teacher-h2", "teacher-logits"])
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_two_rows_in_each_others_place_are_found(
    teach: Teach, tmp_path: Path, name: str, dtype: str
) -> None:
    taught = teach("sage", **EVERYTHING)
    taught.export(tmp_path / "c", dtype=dtype)
    forge: Edit = tensors(f"{name}-00000.safetensors", put(name, swapped))
    forge(tmp_path / "c")
    with pytest.raises(IntegrityError, match=f"{name} of cache .* is not what its teacher says"):
        deep(taught, tmp_path / "c")


def test_the_layers_of_another_teacher_are_found(tmp_path: Path) -> None:
    graph = store(odd_graph(), tmp_path / "g")
    one, other = (
        write_teacher(graph, tmp_path / f"t{seed}", "gcn", seed=seed, **PLAIN) for seed in (0, 1)
    )
    one.export(tmp_path / "c")
    other.export(tmp_path / "d")
    for file in (tmp_path / "d").glob("teacher-*"):
        (tmp_path / "c" / file.name).write_bytes(file.read_bytes())
    sign(tmp_path / "c")
    with pytest.raises(IntegrityError, match="is not what its teacher says"):
        deep(one, tmp_path / "c", sample=20)
    with pytest.raises(IntegrityError, match="was not made from this teacher"):
        deep(other, tmp_path / "c", sample=20)


def test_a_cache_without_layers_and_logits_has_nothing_to_compare(
    teach: Teach, tmp_path: Path
) -> None:
    taught = teach("gcn", **PLAIN)
    taught.export(tmp_path / "c", signals=("codes",))
    with pytest.raises(UsageError, match="neither layers nor logits"):
        deep(taught, tmp_path / "c")


def test_the_sample_is_drawn_by_the_seed(teach: Teach, tmp_path: Path) -> None:
    taught = teach("gat", **EVERYTHING)
    taught.export(tmp_path / "c", dtype="fp16")
    found = [deep(taught, tmp_path / "c", 7, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
