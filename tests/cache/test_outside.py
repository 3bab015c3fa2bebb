"""A cache from a teacher that was trained elsewhere: matched by id, and usable."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from g2t.artifact import content_digest, file_digest
from g2t.cache.check import open_cache
from g2t.cache.convert import ConvertSettings, convert
from g2t.cache.matching import places
from g2t.cache.outside import OutsideFiles, OutsideSettings, import_cache
from g2t.distill.train import distill
from g2t.errors import IntegrityError
from g2t.evaluate import Sources, evaluate
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import Csr
from g2t.graph.splits import make_split
from g2t.graph.structure import induced
from g2t_cli.app import app
from tests.cache.outside import CLASSES, HIDDEN, NODES, SPLIT, Array, answers, bring, save
from tests.conftest import Notes


def test_rows_in_the_graphs_order_need_no_ids(graph_path: Path, tmp_path: Path) -> None:
    graph = read_graph(graph_path)
    logits, layer = answers(graph)
    files = OutsideFiles(
        graph_path, save(tmp_path / "z.npy", logits), (save(tmp_path / "h.npy", layer),)
    )
    cache = bring(files, tmp_path / "cache", shard_rows=40, teacher_name="mine", scaling="row")
    split = make_split(graph, SPLIT)
    np.testing.assert_array_equal(cache.logits().numpy(), logits.astype(np.float32))
    np.testing.assert_array_equal(cache.layer(1).numpy(), layer)
    features = cache.features()
    assert isinstance(features, torch.Tensor)
    assert torch.equal(features, graph.features)  # type: ignore[arg-type]
    assert torch.equal(cache.ids, split.nodes)
    assert torch.equal(cache.ids[cache.parts.test], split.parts.test)
    assert bool((cache.labels[cache.parts.test] == -1).all())
    assert torch.equal(cache.labels[cache.parts.train], graph.labels[split.parts.train])
    assert torch.equal(cache.edges.column_E, induced(graph.edges, split.nodes).column_E)
    manifest = cache.manifest
    assert (manifest.graph.digest, manifest.split.digest) == (
        graph.fingerprints()["graph"], split.digest,
    )  # fmt: skip
    teacher = manifest.teacher
    assert (manifest.teachers, manifest.temperature) == (None, None)
    assert (teacher.name, teacher.layers, teacher.scaling) == ("mine", 1, "row")
    files_by_role = {"logits": files.logits, "layer-1": files.layers[0]}
    digests = {role: f"xxh3_128:{file_digest(path)}" for role, path in files_by_role.items()}
    assert teacher.digest == content_digest(digests)
    assert cache.artifact.inputs == {"graph": manifest.graph.digest, **digests}


def shuffled(rows: int) -> Array:
    return np.random.default_rng(7).permutation(rows)


@pytest.mark.parametrize("kind", ["ints.npy", "texts.npy", "bytes.npy", "lines.txt"])
def test_ids_of_any_kind_put_rows_in_their_place(
    graph_path: Path, named_path: Path, tmp_path: Path, kind: str
) -> None:
    order = shuffled(NODES)
    path = graph_path if kind == "ints.npy" else named_path
    graph = read_graph(path)
    logits, layer = answers(graph)
    names = np.array(graph.ids)[order] if graph.ids is not None else order.astype(np.uint16)
    ids = tmp_path / kind
    if kind == "lines.txt":
        ids.write_text("\r\n".join(names) + "\n", encoding="utf-8-sig")
    else:
        save(ids, names.astype(np.bytes_) if kind == "bytes.npy" else names)
    files = OutsideFiles(
        path,
        save(tmp_path / "z.npy", logits[order]),
        (save(tmp_path / "h.npy", layer[order].astype(np.float64)),),
        ids,
    )
    cache = bring(files, tmp_path / "cache", shard_rows=17)
    np.testing.assert_array_equal(cache.logits().numpy(), logits.astype(np.float32))
    np.testing.assert_array_equal(cache.layer(1).numpy(), layer)
    assert isinstance(cache.features(), Csr) == (kind != "ints.npy")


def test_numbers_as_text_are_the_same_ids(graph_path: Path, tmp_path: Path) -> None:
    logits, _ = answers(read_graph(graph_path))
    order = shuffled(NODES)
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(map(str, order)))
    files = OutsideFiles(graph_path, save(tmp_path / "z.npy", logits[order]), ids=ids)
    cache = bring(files, tmp_path / "cache")
    np.testing.assert_array_equal(cache.logits().numpy(), logits.astype(np.float32))
    assert cache.manifest.teacher.layers == 0


@pytest.mark.parametrize("layout", ["lists", "fixed lists", "columns"])
def test_parquet_brings_its_own_ids(named_path: Path, tmp_path: Path, layout: str) -> None:
    graph, order = read_graph(named_path), shuffled(NODES)
    assert graph.ids is not None
    logits, layer = answers(graph)
    names = [graph.ids[node] for node in order]
    rows = logits[order]
    if layout == "columns":
        columns = {f"c{i}": pa.array(rows[:, i]) for i in range(CLASSES)}
    elif layout == "lists":
        columns = {"logits": pa.array(rows.tolist(), pa.list_(pa.float64()))}
    else:
        columns = {"logits": pa.array(rows.tolist(), pa.list_(pa.float32(), CLASSES))}
    path = tmp_path / "z.parquet"
    pq.write_table(pa.table({"id": pa.array(names), **columns}), path, row_group_size=13)
    files = OutsideFiles(named_path, path, (save(tmp_path / "h.npy", layer),))
    cache = bring(files, tmp_path / "cache", ids_column="id")
    np.testing.assert_array_equal(cache.logits().numpy(), logits.astype(np.float32))
    np.testing.assert_array_equal(cache.layer(1).numpy(), layer)  # no ids: the graph's order


def test_a_whole_walk_without_the_teacher(graph_path: Path, tmp_path: Path) -> None:
    graph = read_graph(graph_path)
    logits, layer = answers(graph)
    files = OutsideFiles(
        graph_path, save(tmp_path / "z.npy", logits), (save(tmp_path / "h.npy", layer),)
    )
    cache = bring(files, tmp_path / "cache", teacher_name="theirs", dtype="fp16")
    for student in ("mlp", "landmark"):
        values = {"student": student, "model": {"hidden": 8}, "train": {"epochs": 40}}
        distill(tmp_path / "cache", tmp_path / student, values, device="cpu")
        sources = Sources(tmp_path / student, graph_path, tmp_path / "cache")
        result = evaluate(sources)
        test = make_split(graph, SPLIT).parts.test
        right = torch.from_numpy(logits[test].argmax(1)) == graph.labels[test]
        assert result["teacher"]["name"] == "theirs"
        assert result["teacher"]["test"] == pytest.approx(float(right.float().mean()))
        assert 0 <= result["agreement"] <= 1
        assert result["student"]["test"] > 0.5
    other = bring(files, tmp_path / "other", dtype="fp32")
    assert other.manifest.teacher.digest == cache.manifest.teacher.digest
    with pytest.raises(IntegrityError, match="was not distilled from cache"):
        evaluate(Sources(tmp_path / "mlp", graph_path, tmp_path / "other"))


def test_a_converted_cache_teaches_and_is_evaluated_alike(graph_path: Path, tmp_path: Path) -> None:
    logits, _ = answers(read_graph(graph_path))
    files = OutsideFiles(graph_path, save(tmp_path / "z.npy", logits))
    bring(files, tmp_path / "cache")
    small = ConvertSettings(dtype="fp16", topk=2)
    convert(tmp_path / "cache", tmp_path / "small", small)
    values = {"student": "mlp", "model": {"hidden": 8}, "train": {"epochs": 2}}
    distill(tmp_path / "small", tmp_path / "student", values, device="cpu")
    result = evaluate(Sources(tmp_path / "student", graph_path, tmp_path / "small"))
    test = make_split(read_graph(graph_path), SPLIT).parts.test
    right = torch.from_numpy(logits[test].argmax(1)) == read_graph(graph_path).labels[test]
    assert result["teacher"]["test"] == pytest.approx(float(right.float().mean()))
    with pytest.raises(IntegrityError, match=r"was not distilled from cache .*teacher-logits"):
        evaluate(Sources(tmp_path / "student", graph_path, tmp_path / "cache"))


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1))
def test_every_node_finds_its_own_row(order: Sequence[int], wanted: set[int]) -> None:
    edges = Csr(torch.zeros(13, dtype=torch.int64), torch.empty(0, dtype=torch.int32), None, 12)
    graph = Graph("g", torch.zeros(12, 1), edges, torch.zeros(12).long(), ("a",), "accuracy", False)
    nodes = torch.tensor(sorted(wanted))
    found = places(graph, nodes, np.array(order), Path("ids"))
    assert [order[place] for place in found] == nodes.tolist()


def test_probabilities_are_noted(graph_path: Path, tmp_path: Path) -> None:
    logits, _ = answers(read_graph(graph_path))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for array, said in ((shares, 1), (logits, 0)):
        notes = Notes()
        files = OutsideFiles(graph_path, save(tmp_path / f"z{said}.npy", array))
        settings = OutsideSettings(split=SPLIT)
        import_cache(files, tmp_path / f"cache{said}", settings, progress=notes)
        assert len(notes.texts) == said
        assert all("looks like probabilities" in text for text in notes.texts)


def g2t(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command(graph_path: Path, tmp_path: Path) -> None:
    graph = read_graph(graph_path)
    logits, layer = answers(graph)
    save(tmp_path / "z.npy", logits)
    save(tmp_path / "h.npy", layer)
    start = ["cache", "import", "--graph", graph_path, "--split", SPLIT]
    files = ["--logits", tmp_path / "z.npy", "--layer", tmp_path / "h.npy"]
    files += ["--layer", tmp_path / "h.npy", "--teacher-name", "theirs", "--dtype", "bf16"]
    plan = g2t(*start, *files, "--out", tmp_path / "cache", "--dry-run")
    assert json.loads(plan.stdout)["widths"]["teacher-h2"] == HIDDEN
    assert not (tmp_path / "cache").exists()
    made = g2t(*start, *files, "--out", tmp_path / "cache")
    assert (made.exit_code, made.stdout) == (0, f"{tmp_path / 'cache'}\n")
    again = g2t(*start, *files, "--out", tmp_path / "cache", "--json")
    record = json.loads(again.stdout)
    assert record["config"]["teacher_name"] == "theirs"
    assert "is done already" in again.stderr
    cache = open_cache(tmp_path / "cache")
    assert (cache.manifest.teacher.layers, cache.entry("teacher-h2").dtype) == (2, "bf16")
    unknown = g2t(*start, *files, "--scaling", "log", "--out", tmp_path / "none")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    wrong = g2t(*start[:-1], "nosplit", *files, "--out", tmp_path / "none")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    missing = g2t(*start, "--logits", tmp_path / "no.npy", "--out", tmp_path / "none")
    assert (missing.exit_code, missing.stdout) == (3, "")
    assert not (tmp_path / "none").exists()
