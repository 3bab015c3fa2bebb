"""Teachers that do not describe themselves are run by their own code, exactly, block by block."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from g2t.cache.format import SIGNALS
from g2t.cache.writer import CacheWriter
from g2t.export import generic, walk
from g2t.export.generic import gather, neighbourhood
from g2t.export.share import Share
from g2t.export.walk import Work
from g2t.graph.bundle import read_graph
from g2t.graph.csr import Csr, Features, take_rows
from g2t.runtime import Silent
from g2t.teacher import TEACHERS
from g2t.teacher.frame import structure_of
from g2t.teacher.store import open_teacher
from tests.export.graphs import (
    DESCRIBED,
    EVERYTHING,
    PLAIN,
    ROWS,
    Kind,
    Taught,
    check_close,
    digests,
    features_of,
    odd_graph,
    store,
    write_teacher,
)
from tests.export.odd_teachers import ODD, ODDER

Write = Callable[..., Taught]


@pytest.fixture(scope="module", autouse=True)
def odd_teachers() -> Iterator[None]:
    """List the odd teachers among all others."""
    with pytest.MonkeyPatch.context() as patch:
        for name, where in (ODD | ODDER).items():
            patch.setitem(TEACHERS, name, where)
        yield


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write a teacher of the odd graph that does not describe itself: `write(name, kind, …)`."""
    folder = tmp_path_factory.mktemp("odd")
    graphs: dict[str, Path] = {}
    count = iter(range(1000))

    def write(name: str, kind: Kind = "dense", **more: Any) -> Taught:
        if kind not in graphs:
            graphs[kind] = store(odd_graph(kind=kind), folder / kind)
        described = more.pop("described", False)
        out = folder / str(next(count))
        return write_teacher(graphs[kind], out, name, described=described, **more)

    return write


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("model", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("kind", ["dense", "words"])
def test_an_odd_teacher_is_exported_exactly(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    model: dict[str, Any],
    kind: Kind,
) -> None:
    taught = write(name, kind, described=True, **model)  # if only it could
    assert open_teacher(taught.teacher).description is None
    check_close(taught.export(tmp_path / "one"), taught, 1e-5)
    monkeypatch.setattr(walk, "BLOCK_ROWS", 64)
    monkeypatch.setattr(walk, "BLOCK_EDGES", 150)
    check_close(taught.export(tmp_path / "many", shard_rows=131), taught, 1e-5)
    check_close(taught.export(tmp_path / "short", precision="fp16", dtype="fp16"), taught, 1e-3)


#: Settings of every teacher that tells what it does by its code alone; names after a space vary.
ZOO: dict[str, dict[str, Any]] = {
    "gatv2": EVERYTHING | {"jk": "max"},
    "gatv2 plain": PLAIN,
    "gat-sep": EVERYTHING | {"jk": "cat"},
    "gat-sep plain": PLAIN,
    "gin": {**EVERYTHING, "jk": "sum"},
    "gin plain": PLAIN,
    "pna": EVERYTHING,
    "pna plain": PLAIN,
    "appnp": {"layers": 3, "hidden": 24, "alpha": 0.3},
    "appnp plain": {"layers": 1},
    "gcn2": {"layers": 3, "hidden": 24, "alpha": 0.3},
    "gcn2 plain": {"layers": 1},
    "sgc": {"layers": 3},
    "sgc plain": {"layers": 1},
    "echo": {},
    "bent": {**EVERYTHING, "jk": "cat"},
}


def test_the_zoo_is_whole() -> None:
    assert {name.partition(" ")[0] for name in ZOO} >= set(TEACHERS) - set(DESCRIBED) - set(ODD)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("kind", ["dense", "words"])
def test_every_teacher_is_exported_exactly(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: Kind
) -> None:
    taught = write(name.partition(" ")[0], kind, split="cpf:3", described=True, **ZOO[name])
    assert open_teacher(taught.teacher).description is None
    # What is stored in fp16 does not go round in fp16: errors do not add up over layers.
    check_close(taught.export(tmp_path / "stored", dtype="fp16"), taught, 1e-3)
    monkeypatch.setattr(walk, "BLOCK_ROWS", 64)
    monkeypatch.setattr(walk, "BLOCK_EDGES", 400)
    check_close(taught.export(tmp_path / "many", shard_rows=101), taught, 1e-5)


@pytest.mark.parametrize("name", ["appnp", "gcn2", "echo"])
@pytest.mark.parametrize("signals", [("logits",), ("layers",), ("reliability",)])
def test_what_only_helps_is_not_in_the_cache(
    write: Write, tmp_path: Path, name: str, signals: tuple[str, ...]
) -> None:
    taught = write(name, described=True, **ZOO[name])
    cache = taught.export(tmp_path / "some", signals=signals, shard_rows=131)
    whole = taught.export(tmp_path / "all", signals=("layers", "logits", "reliability"))
    found = {entry.name for entry in cache.manifest.tensors} - {"features"}
    assert {name.split("-")[1].rstrip("123456789") for name in found} == {
        "layers": {"h"},
    }.get(signals[0], {signals[0]})
    for tensor in found:
        torch.testing.assert_close(cache.whole(tensor), whole.whole(tensor), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gcn", "sage", "gat", *ODD])
def test_no_teacher_needs_to_describe_itself(write: Write, tmp_path: Path, name: str) -> None:
    taught = write(name, split="cpf:3", **EVERYTHING)
    assert open_teacher(taught.teacher).description is None
    check_close(taught.export(tmp_path / "c", shard_rows=131), taught, 1e-5)


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_both_routes_give_the_same_signals(write: Write, tmp_path: Path, name: str) -> None:
    asked: dict[str, Any] = {"hops": 1, "shard_rows": 131, "noise": 0.3}
    asked["signals"] = SIGNALS
    routes = [
        write(name, described=described, **PLAIN).export(tmp_path / str(described), **asked)
        for described in (True, False)
    ]
    for entry in routes[0].manifest.tensors:
        if entry.name in ("teacher-edge-scores", "features"):
            continue
        one, other = (cache.whole(entry.name).float() for cache in routes)
        if entry.name == "teacher-codes":  # a row in the middle of two centres may fall to either
            assert float((one == other).double().mean()) > 0.95
        else:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    scores = [cache.edge_scores() for cache in routes]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-5)


def test_how_rows_are_fetched_changes_nothing(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, found = write("max", "sparse", **PLAIN), []
    for gap in (1, 16, 10**9):
        monkeypatch.setattr(generic, "GAP", gap)
        found.append(digests(taught.export(tmp_path / str(gap)).artifact))
    assert found[0] == found[1] == found[2]


class Held:
    """A source of rows in memory that notes what is read of it."""

    def __init__(self, rows: Features) -> None:
        self.rows = rows
        self.reads: list[tuple[int, int]] = []

    @property
    def dense_width(self) -> int:
        return self.rows.shape[1]

    def wait(self) -> None:
        """Always there."""

    def read(self, start: int, stop: int) -> Features:
        self.reads.append((start, stop))
        return take_rows(self.rows, torch.arange(start, stop))


@given(
    chosen=st.sets(st.integers(0, 199), min_size=1),
    gap=st.integers(1, 250),
    kind=st.sampled_from(["dense", "sparse", "words"]),
)
def test_gathered_rows_are_those_asked_for_in_few_reads(
    chosen: set[int], gap: int, kind: Kind
) -> None:
    rows, features = torch.tensor(sorted(chosen)), features_of(200, kind)
    source = Held(features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generic, "GAP", gap)
        found = gather(source, rows)
    wanted = take_rows(features, rows)
    if isinstance(wanted, Csr):
        assert isinstance(found, Csr)
        assert torch.equal(found.start_N, wanted.start_N)
        assert (found.value_E is None) == (wanted.value_E is None)
        found, wanted = found.dense(), wanted.dense()
    assert isinstance(found, Tensor)
    assert torch.equal(found, wanted)
    assert len(source.reads) == 1 + int((rows.diff() > gap).sum())
    assert {source.reads[0][0], source.reads[-1][1]} == {int(rows[0]), int(rows[-1]) + 1}


def test_a_neighbourhood_has_the_operators_of_the_whole_graph(write: Write, tmp_path: Path) -> None:
    taught = write("max", **PLAIN)
    taught.export(tmp_path / "c")
    work = Work(CacheWriter(tmp_path / "c", ROWS, ROWS), "fp32", 0, 0, Share(), Silent())
    whole = structure_of(read_graph(taught.graph).edges, torch.device("cpu"))
    rows = torch.tensor([0, 3, 4, 77, 78, 200, ROWS - 1])
    near, part = neighbourhood(work.observed, work.looped, rows)
    assert bool((near.diff() > 0).all())
    own = torch.searchsorted(near, rows)
    assert torch.equal(near[own], rows)
    outside = torch.ones(ROWS, dtype=torch.bool)
    outside[near] = False
    for name in ("mean", "total", "gcn"):
        wanted = getattr(whole, name).to_dense()[rows]
        found = getattr(part, name).to_dense()
        torch.testing.assert_close(found[own], wanted[:, near])
        assert bool((wanted[:, outside] == 0).all())  # nothing is left out
        found[own] = 0
        assert bool((found == found.diag().diag()).all())  # others hear none but themselves
    matrix = torch.zeros(len(near), len(near))
    matrix[part.pairs[1], part.pairs[0]] = 1
    assert torch.equal(matrix[own], whole.mean.to_dense()[rows][:, near])
    matrix[part.others[1], part.others[0]] -= 1
    assert torch.equal(matrix, matrix.diag().diag())  # self-loops are left
