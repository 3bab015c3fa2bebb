"""The cache says what the teacher says, in any type and any sharding, and no test label."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.artifact import Artifact, open_artifact
from g2t.cache.check import open_cache
from g2t.cache.format import DTYPES, TensorEntry
from g2t.cache.reader import Cache
from g2t.cache.writer import CacheWriter
from g2t.errors import InputError, IntegrityError, UsageError
from g2t.export import ExportSettings, export
from g2t.graph.bundle import Graph, Parts, read_graph, write_graph
from g2t.graph.csr import Csr, compact, from_pairs
from g2t.graph.structure import largest_component
from g2t.stage import Stage
from g2t.teacher.forward import trace
from g2t.teacher.frame import Trace
from g2t.teacher.store import read_teacher
from g2t.teacher.train import teach
from g2t.tensors import load_facts, load_tensors

NODES, FEATURES, CLASSES = 170, 6, 2
#: The nodes of the large component, each with a neighbour on a ring; the others are pairs.
LARGE = 150


def make_graph(sparse: bool) -> Graph:
    generator = torch.Generator().manual_seed(0)
    ring = torch.arange(LARGE)
    chord = torch.randint(0, LARGE, (2, 200), generator=generator)
    pairs = torch.arange(LARGE, NODES).view(-1, 2).T
    source = torch.cat([ring, chord[0], pairs[0]])
    target = torch.cat([(ring + 1) % LARGE, chord[1], pairs[1]])
    labels = torch.arange(NODES) % CLASSES
    features = torch.randn(NODES, FEATURES, generator=generator) + labels[:, None]
    if sparse:
        features[torch.rand(NODES, FEATURES, generator=generator) > 0.05] = 0
        features[:, 0] = labels + 1.5  # no row is empty
    # The ids of the large component are not the first ones.
    order = torch.randperm(NODES, generator=generator)
    graph_features = torch.empty_like(features)
    graph_features[order] = features
    shuffled = torch.empty_like(labels)
    shuffled[order] = labels
    ids = torch.arange(NODES)
    return Graph(
        name="two sizes",
        features=compact(graph_features) if sparse else graph_features,
        edges=from_pairs(
            torch.cat([order[source], order[target]]),
            torch.cat([order[target], order[source]]),
            NODES,
        ),
        labels=shuffled,
        classes=("a", "b"),
        metric="accuracy",
        directed=False,
        splits={"public": Parts(ids[:50], ids[50:100], ids[100:])},
    )


def store(graph: Graph, out: Path) -> Path:
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({}).path


def make_teacher(graph: Path, out: Path, split: str) -> Path:
    values = {
        "split": split,
        "features": "raw",
        "model": {"hidden": 8, "layers": 3},
        "train": {"epochs": 3},
    }
    return teach(graph, out, values, device="cpu").path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """(graph, teacher) by name: dense or sparse features, public or cpf split."""
    folder = tmp_path_factory.mktemp("made")
    dense, sparse = store(make_graph(False), folder / "d"), store(make_graph(True), folder / "s")
    return {
        "dense": (dense, make_teacher(dense, folder / "dt", "public")),
        "sparse": (sparse, make_teacher(sparse, folder / "st", "public")),
        "cpf": (dense, make_teacher(dense, folder / "ct", "cpf:3")),
    }


def export_to(made: tuple[Path, Path], out: Path, **settings: Any) -> Artifact:
    artifact = export(made[1], made[0], out, ExportSettings.model_validate(settings))
    assert artifact is not None
    return artifact


def known_of(made: tuple[Path, Path]) -> Trace:
    return trace(read_teacher(made[1]), read_graph(made[0]))


def tensors_of(cache: Cache) -> dict[str, Tensor]:
    found = {f"h{i}": cache.layer(i) for i in range(1, cache.manifest.teacher.layers + 1)}
    return {**found, "logits": cache.logits()}


def dense(features: Tensor | Csr) -> Tensor:
    return features if isinstance(features, Tensor) else features.dense()


@pytest.mark.parametrize("name", ["dense", "sparse", "cpf"])
def test_fp32_is_exact(made: dict[str, tuple[Path, Path]], tmp_path: Path, name: str) -> None:
    export_to(made[name], tmp_path / "c", dtype="fp32")
    cache, known, graph = (
        open_cache(tmp_path / "c"),
        known_of(made[name]),
        read_graph(made[name][0]),
    )
    wanted = {f"h{i}": layer for i, layer in enumerate(known.layers, 1)} | {
        "logits": known.logits_NC
    }
    found = tensors_of(cache)
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():  # other sums than a whole forward's, so other roundings
        assert float((found[key] - values).abs().max() / values.abs().max()) < 1e-5
    assert {entry.relative_error for entry in cache.manifest.tensors} == {0.0}
    assert torch.equal(dense(cache.features()), dense(graph.features)[cache.ids])
    assert isinstance(cache.features(), Csr) == (name == "sparse")


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_short_types_err_as_much_as_is_recorded(
    made: dict[str, tuple[Path, Path]], tmp_path: Path, dtype: str
) -> None:
    artifact = export_to(made["dense"], tmp_path / "c", dtype=dtype)
    cache, known = open_cache(tmp_path / "c"), known_of(made["dense"])
    wanted = dict(zip(("h1", "h2", "logits"), (*known.layers, known.logits_NC), strict=True))
    for name, values in tensors_of(cache).items():
        assert values.dtype == DTYPES[dtype]
        error = float((values.float() - wanted[name]).abs().max() / wanted[name].abs().max())
        entry = cache.manifest.tensor(f"teacher-{name}")
        assert entry is not None
        assert error == pytest.approx(entry.relative_error, rel=0.01)
        assert 0 < error < (1e-3 if dtype == "fp16" else 8e-3)
        assert artifact.record["summary"]["relative_error"][entry.name] == entry.relative_error


@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_small_shards_hold_the_same_rows(
    made: dict[str, tuple[Path, Path]], tmp_path: Path, name: str
) -> None:
    export_to(made[name], tmp_path / "one", hops=2)
    export_to(made[name], tmp_path / "many", hops=2, shard_rows=33)
    one, many = open_cache(tmp_path / "one"), open_cache(tmp_path / "many")
    shards = many.manifest.shards_of("teacher-logits")
    assert [(s.start, s.stop) for s in shards] == [
        (0, 33), (33, 66), (66, 99), (99, 132), (132, 165), (165, 170),
    ]  # fmt: skip
    assert len(one.manifest.shards_of("teacher-logits")) == 1
    for shard in many.manifest.shards:
        facts = load_facts(many.artifact.path / shard.file)
        assert (facts["tensor"], facts["start"], facts["stop"]) == (
            shard.tensor, shard.start, shard.stop,
        )  # fmt: skip
    first, second = tensors_of(one), tensors_of(many)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(dense(one.features()), dense(many.features()))
    tokens = one.tokens(2), many.tokens(2)
    assert tokens[0] is not None
    assert tokens[1] is not None
    assert torch.equal(tokens[0], tokens[1])


@pytest.mark.parametrize("name", ["dense", "sparse", "cpf"])
def test_hop_tokens_are_powers_of_the_operator(
    made: dict[str, tuple[Path, Path]], tmp_path: Path, name: str
) -> None:
    export_to(made[name], tmp_path / "c", dtype="fp32", hops=3)
    cache, graph = open_cache(tmp_path / "c"), read_graph(made[name][0])
    adjacency = graph.edges.dense().double()[cache.ids][:, cache.ids]
    adjacency.fill_diagonal_(1)
    scale = adjacency.sum(1).rsqrt()
    operator = scale[:, None] * adjacency * scale
    state = dense(graph.features)[cache.ids].double()
    tokens = cache.tokens(3)
    assert tokens is not None
    assert tokens.shape == (cache.rows, 3, FEATURES)
    for hop in range(3):
        state = operator @ state
        torch.testing.assert_close(tokens[:, hop].double(), state, rtol=1e-4, atol=1e-5)
    fewer = cache.tokens(2)
    assert fewer is not None
    assert torch.equal(fewer, tokens[:, :2])
    assert cache.tokens(4) is None
    assert cache.tokens(0) is None


def test_only_the_largest_component_has_rows_in_cpf(
    made: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    export_to(made["cpf"], tmp_path / "c")
    cache, graph = open_cache(tmp_path / "c"), read_graph(made["cpf"][0])
    assert torch.equal(cache.ids, largest_component(graph.edges))
    assert cache.rows == LARGE < graph.nodes
    assert [len(part) for part in (cache.parts.train, cache.parts.val)] == [40, 60]
    wanted = graph.edges.dense()[cache.ids][:, cache.ids]
    assert torch.equal(cache.edges.dense(), wanted)
    split = read_teacher(made["cpf"][1]).split
    assert torch.equal(cache.ids[cache.parts.test], split.parts.test)
    assert cache.manifest.split.digest == split.digest


@pytest.mark.parametrize("name", ["dense", "cpf"])
def test_no_test_label_is_in_any_file(
    made: dict[str, tuple[Path, Path]], tmp_path: Path, name: str
) -> None:
    export_to(made[name], tmp_path / "c", hops=1)
    cache, graph = open_cache(tmp_path / "c"), read_graph(made[name][0])
    seen = torch.cat([cache.parts.train, cache.parts.val])
    assert torch.equal(cache.labels[seen], graph.labels[cache.ids[seen]])
    hidden = torch.ones(cache.rows, dtype=torch.bool)
    hidden[seen] = False
    assert bool((cache.labels[hidden] == -1).all())
    answers = graph.labels[cache.ids]
    for file in cache.artifact.path.glob("*.safetensors"):
        for key, tensor in load_tensors(file).items():
            if len(tensor) != cache.rows:
                continue
            for column in tensor.reshape(cache.rows, -1).T:
                assert not torch.equal(column.long(), answers), (file.name, key)


def test_a_value_out_of_range_is_refused_with_the_way_out(
    made: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    graph = read_graph(made["dense"][0])
    assert isinstance(graph.features, Tensor)
    features = graph.features.clone()
    features[7, 2] = 1e6
    large = store(replace(graph, features=features), tmp_path / "g")
    pair = (large, make_teacher(large, tmp_path / "t", "public"))
    with pytest.raises(InputError, match="does not fit fp16: its largest magnitude is") as caught:
        export_to(pair, tmp_path / "c")
    assert "--dtype bf16 or --dtype fp32" in caught.value.hint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["g", "t"]
    export_to(pair, tmp_path / "c", dtype="bf16")  # what the hint says


def test_shards_of_an_interrupted_export_are_kept(
    made: dict[str, tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"hops": 1, "shard_rows": 40}
    whole = export_to(made["dense"], tmp_path / "whole", **settings)
    adopt = CacheWriter.adopt
    finished: list[str] = []

    def adopt_seven(writer: CacheWriter, temporary: Path, file: str, error: float = 0.0) -> None:
        if len(finished) == 7:
            raise KeyboardInterrupt
        adopt(writer, temporary, file, error)
        finished.append(file)

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "adopt", adopt_seven)
        with pytest.raises(KeyboardInterrupt):
            export_to(made["dense"], tmp_path / "c", **settings)
    partial = tmp_path / "c.partial"
    for name in finished:
        os.utime(partial / name, ns=(1, 1))
    (partial / "teacher-h1-00002.safetensors.tmp").write_bytes(b"half")
    again = export_to(made["dense"], tmp_path / "c", **settings)
    assert {(again.path / name).stat().st_mtime_ns for name in finished} == {1}
    others = whole.record["outputs"].keys() - set(finished)
    assert all((again.path / name).stat().st_mtime_ns > 1 for name in others)
    assert again.digest == whole.digest
    for name in whole.record["outputs"]:
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_shard_may_have_no_entries(tmp_path: Path) -> None:
    rows = compact(torch.tensor([[2.0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 3, 0, 0, 0]]))
    assert isinstance(rows, Csr)
    writer = CacheWriter(tmp_path, 3, 1)
    for index in range(3):
        writer.write_sparse("features", index, rows.rows(torch.tensor([index])))
    entry, shards = writer.entries(TensorEntry(name="features", kind="csr", width=5, dtype="fp32"))
    assert (entry.relative_error, len(shards)) == (0.0, 3)
    empty = load_tensors(tmp_path / shards[1].file)
    assert empty["features.start"].tolist() == [0, 0]
    assert empty["features.column"].dtype == torch.int32


def test_a_shard_of_other_rows_is_not_taken_for_done(tmp_path: Path) -> None:
    rows = torch.arange(12.0).view(6, 2)
    writer = CacheWriter(tmp_path, 6, 4)
    writer.write_rows("x", 0, rows[:4], "fp32")
    assert writer.is_done("x", 0)
    assert not writer.is_done("x", 1)
    assert not CacheWriter(tmp_path, 6, 3).is_done("x", 0)
    assert not writer.is_done("y", 0)
    with pytest.raises(IntegrityError, match=r"x-00001.* is missing"):
        writer.entries(TensorEntry(name="x", width=2, dtype="fp32"))


def test_the_same_export_is_done_and_another_refused(
    made: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    first = export_to(made["dense"], tmp_path / "c")
    stamp = (first.path / "run.json").stat().st_mtime_ns
    assert export_to(made["dense"], tmp_path / "c").digest == first.digest
    assert (first.path / "run.json").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="hops is 0, now 2"):
        export_to(made["dense"], tmp_path / "c", hops=2)


def test_a_teacher_of_another_graph_is_refused(
    made: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match="learned from graph two sizes"):
        export_to((made["sparse"][0], made["dense"][1]), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_what_the_cache_lacks_is_named(made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    cache = open_cache(export_to(made["dense"], tmp_path / "c").path)
    with pytest.raises(
        UsageError, match="holds no teacher-h9; it holds: features, teacher-h1, teacher-h2"
    ):
        cache.layer(9)
    assert open_artifact(cache.artifact.path, "cache").record["summary"]["rows"] == NODES
