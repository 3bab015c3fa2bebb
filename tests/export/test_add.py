"""`cache add`: the cache that one export would have made, and nothing of the old rewritten."""

import os
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from g2t.artifact import Artifact
from g2t.cache.check import open_cache
from g2t.cache.reader import Cache
from g2t.cache.writer import CacheWriter
from g2t.distill.train import distill
from g2t.errors import IntegrityError, UsageError
from g2t.evaluate import Sources, evaluate
from g2t.export import memory, write
from g2t.export.add import add
from tests.export.graphs import EVERYTHING, PLAIN, Taught, Teach, digests

LATE = ("edge_scores", "reliability", "codes", "clusters", "pre_layers")
#: More orders would say nothing new of signals that no other one touches.
ORDERS = [(*order, "clusters", "pre_layers") for order in permutations(LATE[:3])]
ORDERS.append(LATE[::-1])
ALL = ("layers", "logits", *LATE)
#: Shards, tokens and types as they come, none of them the default.
ASKED: dict[str, Any] = {"dtype": "fp16", "shard_rows": 131, "hops": 1, "codes": 7, "noise": 0.5}
VOLATILE = {"run.json", "metrics.jsonl"}


@pytest.fixture(scope="module")
def taught(teach: Teach) -> Taught:
    return teach("gat", "sparse", **{**EVERYTHING, "layers": 2})


@pytest.fixture(scope="module")
def begun(taught: Taught, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with layers and logits."""
    out = tmp_path_factory.mktemp("begun") / "c"
    return taught.export(out, **ASKED).artifact.path


@pytest.fixture(scope="module")
def union(taught: Taught, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that was exported with every signal."""
    return taught.export(tmp_path_factory.mktemp("union") / "c", signals=ALL, **ASKED)


def contents(cache: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in cache.iterdir() if f.name not in VOLATILE}


def same(made: Artifact, wanted: Artifact) -> bool:
    """The same bytes, and the same said of them."""
    said = ("digest", "outputs", "inputs", "config", "summary", "seed", "kind")
    return contents(made.path) == contents(wanted.path) and all(
        made.record[key] == wanted.record[key] for key in said
    )


def grow(cache: Path, taught: Taught, *signals: str, **more: Any) -> Artifact:
    return add(cache, signals, teacher=taught.teacher, graph=taught.graph, **more)


@pytest.mark.parametrize("order", ORDERS, ids=">".join)
def test_in_any_order_it_is_the_cache_of_one_export(
    taught: Taught, begun: Path, union: Cache, tmp_path: Path, order: tuple[str, ...]
) -> None:
    cache = tmp_path / "c"
    shutil.copytree(begun, cache)
    inodes = {file.name: file.stat().st_ino for file in cache.glob("*.safetensors")}
    for signal in order:
        made = grow(cache, taught, signal)
        assert all((cache / file).stat().st_ino == inode for file, inode in inodes.items())
    assert same(made, union.artifact)
    assert open_cache(cache, remembered=False).artifact.digest == union.artifact.digest
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    "first",
    [
        ("logits",),
        ("edge_scores",),
        ("codes",),
        ("reliability",),
        ("layers", "codes"),
        ("clusters",),
        ("pre_layers",),
    ],
)
def test_whatever_it_began_with(
    taught: Taught, union: Cache, tmp_path: Path, first: tuple[str, ...]
) -> None:
    cache = taught.export(tmp_path / "c", signals=first, **ASKED)
    assert same(grow(cache.artifact.path, taught, *ALL), union.artifact)


@pytest.mark.parametrize(
    "asked",
    [
        {"dtype": "int8"},
        {"dtype": "fp16", "precision": "fp16", "topk": 2},
        {"dtype": "fp32", "precision": "fp16", "hops": 1, "project": "random:3"},
        {"dtype": "bf16"},
    ],
    ids=str,
)
def test_in_any_type(teach: Teach, tmp_path: Path, asked: dict[str, Any]) -> None:
    taught = teach("sage", **EVERYTHING)
    whole = taught.export(tmp_path / "whole", signals=ALL, shard_rows=131, codes=5, **asked)
    cache = taught.export(tmp_path / "c", signals=("logits",), shard_rows=131, codes=5, **asked)
    for signals in (("reliability",), ("layers", "edge_scores"), LATE):
        made = grow(cache.artifact.path, taught, *signals)
    assert same(made, whole.artifact)


def test_scores_codes_and_clusters_need_neither_teacher_nor_graph(
    begun: Path, union: Cache, tmp_path: Path
) -> None:
    shutil.copytree(begun, tmp_path / "c")
    made = add(tmp_path / "c", ("codes", "edge_scores", "clusters"))
    taught = ("manifest", "teacher-reliability", "teacher-p")
    kept = {file for file in digests(union.artifact) if not file.startswith(taught)}
    assert {file: digests(made)[file] for file in kept} == {
        file: digests(union.artifact)[file] for file in kept
    }


@pytest.mark.parametrize("have", [("logits",), ("logits", "edge_scores")])
def test_clusters_need_no_layers_either(
    taught: Taught, union: Cache, tmp_path: Path, have: tuple[str, ...]
) -> None:
    cache = taught.export(tmp_path / "c", signals=have, **ASKED).artifact.path
    made = add(cache, ("clusters",))
    files = [file for file in digests(union.artifact) if file.startswith("clusters")]
    assert len(files) > 1
    assert {file: digests(made)[file] for file in files} == {
        file: digests(union.artifact)[file] for file in files
    }
    with pytest.raises(UsageError, match="clusters from the edges"):
        add(cache, ("codes",))


def test_files_are_copied_where_they_cannot_be_linked(
    taught: Taught, begun: Path, union: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("no links here")

    shutil.copytree(begun, tmp_path / "c")
    monkeypatch.setattr(os, "link", refuse)
    assert same(grow(tmp_path / "c", taught, *ALL), union.artifact)


def test_what_is_there_already_is_not_touched(taught: Taught, union: Cache, tmp_path: Path) -> None:
    shutil.copytree(union.artifact.path, tmp_path / "c")
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "c").iterdir()}
    inode = (tmp_path / "c").stat().st_ino
    assert add(tmp_path / "c", ("codes", "layers")).digest == union.artifact.digest
    assert grow(tmp_path / "c", taught, *ALL).digest == union.artifact.digest
    assert {f.name: f.stat().st_mtime_ns for f in (tmp_path / "c").iterdir()} == before
    assert (tmp_path / "c").stat().st_ino == inode


def test_a_student_of_the_old_cache_is_one_of_the_new(
    taught: Taught, begun: Path, tmp_path: Path
) -> None:
    cache, student = tmp_path / "c", tmp_path / "s"
    shutil.copytree(begun, cache)
    values = {"student": "mlp", "preset": "soft", "train": {"epochs": 1}, "model": {"hidden": 4}}
    learned = distill(cache, student, values, device="cpu")
    before = evaluate(Sources(student, taught.graph, cache))
    grow(cache, taught, *LATE)
    assert evaluate(Sources(student, taught.graph, cache)) == before
    again = distill(cache, student, values, device="cpu")  # done already, nothing to refuse
    assert again.record["timings"] == learned.record["timings"]


@pytest.mark.parametrize("signal", ["reliability", "layers", "logits"])
def test_what_only_the_teacher_knows_is_asked_of_it(
    teach: Teach, tmp_path: Path, signal: str
) -> None:
    taught = teach("gcn", **PLAIN)
    have = [s for s in ("layers", "logits") if s != signal]
    cache = taught.export(tmp_path / "c", signals=have).artifact
    before = contents(cache.path)
    with pytest.raises(UsageError, match="only the teacher can say this") as caught:
        add(cache.path, (signal,))
    assert "--teacher" in caught.value.hint
    assert contents(cache.path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("wrong", ["teacher", "graph"])
def test_another_teacher_or_graph_is_refused(teach: Teach, tmp_path: Path, wrong: str) -> None:
    taught = teach("gcn", **PLAIN)
    cache = taught.export(tmp_path / "c").artifact
    other = teach("gcn", **{**PLAIN, "hidden": 17})
    if wrong == "graph":
        other = teach("gcn", "sparse", **PLAIN)
    before = contents(cache.path)
    with pytest.raises(IntegrityError, match="was not made from this teacher"):
        grow(cache.path, other, "reliability")
    if wrong == "graph":  # the teacher's own, of another graph
        with pytest.raises(IntegrityError, match="learned from graph"):
            add(cache.path, ("reliability",), teacher=taught.teacher, graph=other.graph)
    assert contents(cache.path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("after", [1, 5, 9])
def test_an_interrupted_addition_goes_on_and_the_cache_stays_sound(
    taught: Taught, begun: Path, union: Cache, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, after: int,
) -> None:  # fmt: skip
    cache = tmp_path / "c"
    shutil.copytree(begun, cache)
    before, adopt = contents(cache), CacheWriter.adopt
    adopted: list[Path] = []

    def interrupt(writer: CacheWriter, temporary: Path, file: str, error: float = 0.0) -> None:
        if len(adopted) == after:
            raise KeyboardInterrupt
        adopt(writer, temporary, file, error)
        adopted.append(writer.folder / file)

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "adopt", interrupt)
        with pytest.raises(KeyboardInterrupt):
            grow(cache, taught, *LATE)
    assert contents(cache) == before
    open_cache(cache, remembered=False)
    for file in adopted:
        os.utime(file, ns=(1, 1))
    made = grow(cache, taught, *LATE)
    assert same(made, union.artifact)
    kept = [cache / file.name for file in adopted if (cache / file.name).exists()]
    assert all(file.stat().st_mtime_ns == 1 for file in kept)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_budget_that_is_too_small_leaves_nothing(
    taught: Taught, begun: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, tmp_path / "c")
    for signals in (("reliability",), ("edge_scores",)):
        with pytest.raises(UsageError, match="is too small for this graph"):
            grow(tmp_path / "c", taught, *signals, memory=1 << 20)
        with pytest.raises(UsageError, match="is too small for this graph"):
            add(tmp_path / "c", ("edge_scores",), memory=1 << 20)
        assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert memory.GRAIN > 1 << 20


def test_a_defect_while_adding_leaves_the_cache_as_it_was(
    taught: Taught, begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*parts: object) -> None:
        raise IntegrityError("damaged on the way")

    cache = tmp_path / "c"
    shutil.copytree(begun, cache)
    before = contents(cache)
    monkeypatch.setattr(write, "write_codes", fail)
    with pytest.raises(IntegrityError, match="on the way"):
        grow(cache, taught, "codes")
    assert contents(cache) == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
