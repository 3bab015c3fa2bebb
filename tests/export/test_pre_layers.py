"""Layers before their activation: what PyG's own forward gives there, whatever else is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from g2t.cache.check import open_cache
from g2t.cache.convert import ConvertSettings, convert
from g2t.cache.describe import describe
from g2t.cache.reader import Cache
from g2t.cache.verify import verify
from g2t.errors import InputError, IntegrityError, UsageError
from g2t.export import ExportSettings, export, walk
from g2t.export.add import add
from g2t.export.deep import compare
from g2t.teacher import TEACHERS
from g2t_cli.app import app
from spoiling import Edit, put, tensors
from tests.export.graphs import (
    DESCRIBED,
    EVERYTHING,
    PLAIN,
    VARIATIONS,
    Taught,
    Teach,
    digests,
    errors,
    odd_graph,
    store,
    write_teacher,
)
from tests.export.odd_teachers import ODD, ODDER
from tests.export.test_deep import swapped
from tests.export.test_generic import ZOO

BOTH = ("layers", "pre_layers")
ALL = (*BOTH, "logits", "edge_scores", "reliability", "codes", "clusters")
#: The teachers of the zoo whose hidden layers have no activation of their own.
LINEAR = ("appnp", "echo")


@pytest.fixture(scope="module", autouse=True)
def odd_teachers() -> Iterator[None]:
    """List the odd teachers among all others."""
    with pytest.MonkeyPatch.context() as patch:
        for name, where in (ODD | ODDER).items():
            patch.setitem(TEACHERS, name, where)
        yield


def names(cache: Cache) -> list[str]:
    return [entry.name for entry in cache.manifest.tensors]


def check_pairs(cache: Cache, taught: Taught, linear: bool = False) -> None:
    """Fail unless every layer is, to the bit, what its activation makes of the other."""
    count = len(taught.trace.layers)
    assert len(taught.before) == count
    for layer in range(1, count + 1):
        before = cache.whole(f"teacher-p{layer}")
        assert bool((before < 0).any()) or linear
        after = before if linear else before.relu()
        assert torch.equal(after, cache.layer(layer))


@pytest.mark.parametrize("name", DESCRIBED)
@pytest.mark.parametrize("variation", VARIATIONS)
def test_described_layers_are_what_relu_reads_in_the_whole_network(
    teach: Teach, tmp_path: Path, name: str, variation: str
) -> None:
    taught = teach(name, "words", **VARIATIONS[variation])
    cache = taught.export(tmp_path / "c", signals=(*BOTH, "logits"), shard_rows=131)
    assert max(errors(cache, taught.before | taught.wanted).values()) < 1e-5
    check_pairs(cache, taught)
    short = taught.export(
        tmp_path / "s", signals=("pre_layers",), precision="fp16", dtype="fp16", hops=1
    )
    assert names(short) == ["features", "tokens-1", *taught.before]
    assert max(errors(short, taught.before).values()) < 1e-3


@pytest.mark.parametrize("name", [name for name in ZOO if not name.startswith("sgc")])
def test_so_are_those_of_a_network_that_does_not_describe_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(walk, "BLOCK_ROWS", 64)
    monkeypatch.setattr(walk, "BLOCK_EDGES", 400)
    graph = store(odd_graph(kind="words"), tmp_path / "g")
    kind = name.partition(" ")[0]
    taught = write_teacher(graph, tmp_path / "t", kind, split="cpf:3", **ZOO[name])
    cache = taught.export(tmp_path / "c", signals=(*BOTH, "logits"), shard_rows=101)
    assert max(errors(cache, taught.before | taught.wanted).values()) < 1e-5
    check_pairs(cache, taught, linear=kind in LINEAR)


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_what_else_is_written_does_not_change(tmp_path: Path, described: bool, dtype: str) -> None:
    graph = store(odd_graph(), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", "gcn", described=described, **EVERYTHING)
    asked: dict[str, Any] = {"dtype": dtype, "shard_rows": 131, "codes": 5}
    without = [signal for signal in ALL if signal != "pre_layers"]
    before = taught.export(tmp_path / "before", signals=without, **asked)
    after = taught.export(tmp_path / "after", signals=ALL, **asked)
    known, found = digests(before.artifact), digests(after.artifact)
    fresh = {file for file in found if file.startswith("teacher-p")}
    assert len(fresh) == 3 * 3  # layers, shards
    assert found.keys() == known.keys() | fresh
    assert {file for file in known if known[file] != found[file]} == {"manifest.json"}
    alone = taught.export(tmp_path / "alone", signals=("pre_layers",), **asked)
    assert {file: digests(alone.artifact)[file] for file in fresh} == {f: found[f] for f in fresh}


@pytest.mark.parametrize("name", ["gat", "gcn2", "echo"])
@pytest.mark.parametrize("first", ["layers,logits", "codes", "pre_layers", "clusters"])
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_added_later_they_are_those_of_one_export(
    tmp_path: Path, name: str, first: str, dtype: str
) -> None:
    graph = store(odd_graph(), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", name, **ZOO.get(name, PLAIN))
    asked: dict[str, Any] = {"dtype": dtype, "shard_rows": 131, "codes": 5}
    whole = taught.export(tmp_path / "w", signals=ALL, **asked)
    cache = taught.export(tmp_path / "c", signals=first.split(","), **asked).artifact.path
    for signals in (("edge_scores", "pre_layers"), ALL):
        made = add(cache, signals, teacher=taught.teacher, graph=graph)
    assert digests(made) == digests(whole.artifact)
    assert made.config == whole.artifact.config


def test_only_the_teacher_can_say_them(teach: Teach, tmp_path: Path) -> None:
    taught = teach("gcn", **PLAIN)
    cache = taught.export(tmp_path / "c").artifact
    with pytest.raises(UsageError, match="only the teacher can say this") as caught:
        add(cache.path, ("pre_layers",))
    assert "--teacher" in caught.value.hint


def test_other_signals_are_added_beside_them_without_the_teacher(
    teach: Teach, tmp_path: Path
) -> None:
    taught = teach("gcn", **PLAIN)
    whole = taught.export(tmp_path / "w", signals=(*BOTH, "edge_scores", "clusters"))
    cache = taught.export(tmp_path / "c", signals=BOTH).artifact.path
    made = add(cache, ("edge_scores", "clusters"))
    assert digests(made) == digests(whole.artifact)
    alone = taught.export(tmp_path / "a", signals=("pre_layers",)).artifact.path
    add(alone, ("clusters",))
    assert names(open_cache(alone)) == ["features", "teacher-p1", "clusters"]


def test_a_teacher_without_hidden_layer_has_none(tmp_path: Path) -> None:
    graph = store(odd_graph(), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", "sgc")
    with pytest.raises(InputError, match="no hidden layer, so there are no pre layers"):
        taught.export(tmp_path / "c", signals=("pre_layers",))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["gcn", "gcn2"])
def test_the_second_route_compares_them_too(tmp_path: Path, name: str) -> None:
    graph = store(odd_graph(kind="words"), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", name, **ZOO.get(name, EVERYTHING))
    cache = taught.export(tmp_path / "c", signals=("pre_layers",), shard_rows=131)
    for sample in (10**6, 3):
        found = compare(cache, taught.teacher, graph, sample, 0)
        assert set(found) == set(taught.before)
        assert max(found.values()) < 1e-4
    forge: Edit = tensors("teacher-p2-00000.safetensors", put("teacher-p2", swapped))
    forge(tmp_path / "c")
    with pytest.raises(IntegrityError, match="teacher-p2 of cache"):
        compare(open_cache(tmp_path / "c"), taught.teacher, graph, 10**6, 0)


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_a_conversion_changes_their_type(teach: Teach, tmp_path: Path, dtype: str) -> None:
    taught = teach("gat", **EVERYTHING)
    asked: dict[str, Any] = {"signals": ("pre_layers", "logits"), "shard_rows": 131}
    exact = taught.export(tmp_path / "exact", **asked).artifact.path
    direct = taught.export(tmp_path / "direct", dtype=dtype, **asked)
    convert(exact, tmp_path / "c", ConvertSettings.model_validate({"dtype": dtype}))
    cache = open_cache(tmp_path / "c")
    for name in taught.before:
        assert cache.entry(name) == direct.entry(name)
        assert cache.manifest.digest_of(name) == direct.manifest.digest_of(name)
    shutil.rmtree(exact)
    verify(open_cache(tmp_path / "c", remembered=False))


def test_a_converted_cache_without_layers_and_logits_grows_in_its_type(
    teach: Teach, tmp_path: Path
) -> None:
    taught = teach("gcn", **PLAIN)
    exact = taught.export(tmp_path / "exact", signals=("pre_layers",)).artifact.path
    convert(exact, tmp_path / "c", ConvertSettings.model_validate({"dtype": "bf16"}))
    add(tmp_path / "c", ("layers",), teacher=taught.teacher, graph=taught.graph)
    assert open_cache(tmp_path / "c").entry("teacher-h1").dtype == "bf16"


def test_the_commands_take_the_signal_by_its_name(teach: Teach, tmp_path: Path) -> None:
    taught, run = teach("sage", **PLAIN), CliRunner()
    paths = {"teacher": str(taught.teacher), "graph": str(taught.graph), "out": str(tmp_path / "c")}
    words = ["export-features", paths["teacher"], "--graph", paths["graph"], "--out", paths["out"]]
    assert run.invoke(app, [*words, "--for", "soft,pre_layers"]).exit_code == 0
    found = describe(open_cache(tmp_path / "c"))
    assert [t["name"] for t in found["tensors"]] == ["features", "teacher-p1", "teacher-logits"]
    shown = run.invoke(app, ["cache", "inspect", paths["out"]])
    assert "teacher-p1" in shown.stdout
    export(taught.teacher, taught.graph, tmp_path / "d", ExportSettings(signals=("logits",)))
    words = ["cache", "add", str(tmp_path / "d"), "--for", "pre_layers"]
    assert run.invoke(app, words).exit_code == 2
    more = ["--teacher", paths["teacher"], "--graph", paths["graph"]]
    assert run.invoke(app, [*words, *more]).exit_code == 0
    assert digests(open_cache(tmp_path / "d").artifact) == digests(
        open_cache(tmp_path / "c").artifact
    )
