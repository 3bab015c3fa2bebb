"""A cache from a teacher that was trained elsewhere: matched by id, refused by name, usable."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from g2t.artifact import content_digest, file_digest
from g2t.cache.check import open_cache
from g2t.cache.convert import ConvertSettings, convert
from g2t.cache.matching import places
from g2t.cache.outside import OutsideFiles, OutsideSettings, import_cache
from g2t.cache.reader import Cache
from g2t.distill.train import distill
from g2t.errors import InputError, IntegrityError, MissingExtra, UsageError
from g2t.evaluate import Sources, evaluate
from g2t.graph.bundle import Graph, read_graph, write_graph
from g2t.graph.csr import Csr, compact
from g2t.graph.importing import import_graph
from g2t.graph.splits import make_split
from g2t.graph.structure import induced
from g2t.runtime import Silent
from g2t.stage import Stage
from g2t_cli.app import app

NODES, CLASSES, HIDDEN = 90, 3, 7
SPLIT = "random:40/20/40:0"
Array = NDArray[Any]


class Notes(Silent):
    """A progress that keeps its notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(scope="module")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graph") / "graph"
    csbm = {"nodes": NODES, "degree": 5.0, "classes": CLASSES, "features": 8, "noise": 0.3}
    return import_graph("synthetic:csbm", out, csbm, None, Silent(), False).path


def store(graph: Graph, out: Path) -> Path:
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({}).path


@pytest.fixture(scope="module")
def named_path(graph_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same graph with ids of the user's own, and sparse features."""
    graph = read_graph(graph_path)
    assert isinstance(graph.features, torch.Tensor)
    features = graph.features.clone()
    features[features.abs() < features.abs().quantile(0.9)] = 0
    ids = tuple(f"paper {node:03d}" for node in range(NODES))
    named = replace(graph, features=compact(features), ids=ids)
    return store(named, tmp_path_factory.mktemp("named") / "graph")


def answers(graph: Graph) -> tuple[Array, Array]:
    """Logits that mostly know the label, and a layer, row by node."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(NODES, CLASSES))
    logits[np.arange(NODES), graph.labels.numpy()] += 3
    return logits, draw.normal(size=(NODES, HIDDEN)).astype(np.float32)


def save(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def bring(files: OutsideFiles, out: Path, **settings: Any) -> Cache:
    values = {"split": SPLIT, "dtype": "fp32", **settings}
    import_cache(files, out, OutsideSettings.model_validate(values))
    return open_cache(out)


def refused(files: OutsideFiles, out: Path, said: str, **settings: Any) -> InputError:
    with pytest.raises(InputError, match=said) as caught:
        bring(files, out, **settings)
    assert not out.exists()
    assert not out.with_name(out.name + ".partial").exists()
    assert "\n" not in caught.value.message
    return caught.value


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


def test_parquet_without_pyarrow_names_the_extra(
    graph_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "z.parquet"
    pq.write_table(pa.table({"a": [1.0]}), path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match="needs pyarrow") as caught:
        bring(OutsideFiles(graph_path, path), tmp_path / "cache")
    assert caught.value.code == 69
    assert "g2t[parquet]" in caught.value.hint


def test_only_nodes_of_the_split_need_rows(graph_path: Path, tmp_path: Path) -> None:
    graph = read_graph(graph_path)
    alone = torch.arange(NODES - 4, NODES)
    keep = torch.arange(NODES - 4)
    edges = induced(graph.edges, keep)
    start_N = torch.cat([edges.start_N, edges.start_N[-1:].expand(4)])
    parted = replace(
        graph,
        edges=Csr(start_N, edges.column_E, None, NODES),
        labels=torch.arange(NODES) % 2,
        classes=("a", "b"),
    )
    path = store(replace(parted, labels=parted.labels), tmp_path / "graph")
    logits = np.random.default_rng(1).normal(size=(NODES, 2))
    few = OutsideFiles(
        path,
        save(tmp_path / "few.npy", logits[:-4]),
        ids=save(tmp_path / "few-ids.npy", np.arange(NODES - 4)),
    )
    with pytest.raises(InputError, match="too few labelled nodes"):
        bring(few, tmp_path / "cache", split="cpf:0")
    refused(few, tmp_path / "cache", f"no row for node '{int(alone[0])}', nor for 3 more")


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


def with_ids(graph_path: Path, folder: Path, ids: Any, logits: Array) -> OutsideFiles:
    where = folder / ("ids.npy" if isinstance(ids, np.ndarray) else "ids.txt")
    if isinstance(ids, np.ndarray):
        save(where, ids)
    else:
        where.write_text("\n".join(ids))
    return OutsideFiles(graph_path, save(folder / "z.npy", logits), ids=where)


def test_the_first_wrong_id_is_named(graph_path: Path, named_path: Path, tmp_path: Path) -> None:
    logits, _ = answers(read_graph(graph_path))
    ids = np.arange(NODES)

    def say(path: Path, wrong: Any, said: str, rows: int = NODES) -> None:
        refused(with_ids(path, tmp_path, wrong, logits[:rows]), tmp_path / "cache", said)

    say(graph_path, np.where(ids == 11, 500, ids), "names node '500' in row 12, which graph csbm")
    say(graph_path, np.where(ids == 11, -1, ids), "names node '-1' in row 12")
    say(graph_path, np.where(ids == 11, 4, ids), "names node '4' twice, again in row 12")
    say(graph_path, ids[:-2], "no row for node '88', nor for 1 more", NODES - 2)
    say(graph_path, ids[:-1], "has 89 ids, .* has 90 rows")
    say(graph_path, ids / 1, "holds float64 .*no ids")
    say(graph_path, ids[None], r"holds int64 \[1, 90\], no ids")
    say(graph_path, ids.astype(np.uint64) + 2**63, "an id beyond")
    texts = [f"paper {node:03d}" for node in range(NODES)]
    say(named_path, [*texts[:5], "paper 5", *texts[6:]], "names node 'paper 5' in row 6")
    say(named_path, [*texts[:5], texts[2], *texts[6:]], "names node 'paper 002' twice, again in")
    say(named_path, texts[:-1], "no row for node 'paper 089'$", NODES - 1)
    say(named_path, [*texts[:5], "", *texts[6:]], "line 6 of .* is empty")
    say(named_path, ids, "names node '0' in row 1")
    say(graph_path, ["0.0", *map(str, ids[1:])], "names node '0.0' in row 1")


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1))
def test_every_node_finds_its_own_row(order: Sequence[int], wanted: set[int]) -> None:
    edges = Csr(torch.zeros(13, dtype=torch.int64), torch.empty(0, dtype=torch.int32), None, 12)
    graph = Graph("g", torch.zeros(12, 1), edges, torch.zeros(12).long(), ("a",), "accuracy", False)
    nodes = torch.tensor(sorted(wanted))
    found = places(graph, nodes, np.array(order), Path("ids"))
    assert [order[place] for place in found] == nodes.tolist()


def test_numbers_that_do_not_fit_are_refused(graph_path: Path, tmp_path: Path) -> None:
    graph = read_graph(graph_path)
    logits, layer = answers(graph)
    out = tmp_path / "cache"

    def say(array: Any, said: str) -> None:
        refused(OutsideFiles(graph_path, save(tmp_path / "z.npy", array)), out, said)

    def spoilt(value: float) -> Array:
        wrong = logits.copy()
        wrong[[41, 60], 1] = value
        return wrong

    for value in (np.nan, np.inf, 1e300):
        say(spoilt(value), r"z\.npy holds a number for node '41' that is missing, infinite or too")
    say(logits[:, :2], "has 2 columns, graph csbm has 3 classes")
    say(logits[:-1], "has 89 rows, graph csbm has 90 nodes")
    say(logits[:, 0], r"holds float64 \[90\], not numbers")
    say(logits.astype(complex), "complex128")
    say(logits.astype(str), "not numbers")
    say(np.zeros((NODES, 0)), "not numbers")
    say(logits.astype(object), r"no readable \.npy file")
    good = save(tmp_path / "z.npy", logits)
    layer[3, 3] = np.inf
    spoilt_layer = save(tmp_path / "h.npy", layer)
    refused(
        OutsideFiles(graph_path, good, (spoilt_layer,)), out, "h.npy holds a number for node '3"
    )
    refused(OutsideFiles(graph_path, good, (tmp_path / "no.npy",)), out, "cannot read .*no.npy")
    good.write_bytes(good.read_bytes()[:-8])
    refused(OutsideFiles(graph_path, good), out, r"no readable \.npy file")
    other = tmp_path / "z.csv"
    other.write_text("1,2,3")
    refused(OutsideFiles(graph_path, other), out, "is of no known kind")
    np.savez(tmp_path / "z.npz", logits)
    (tmp_path / "z.npz").rename(tmp_path / "zip.npy")
    refused(OutsideFiles(graph_path, tmp_path / "zip.npy"), out, "holds several arrays")


def test_parquet_that_does_not_fit_is_refused(graph_path: Path, tmp_path: Path) -> None:
    logits, _ = answers(read_graph(graph_path))
    path, out, rows = tmp_path / "z.parquet", tmp_path / "cache", logits.tolist()
    ids = pa.array(range(NODES))

    def say(columns: dict[str, Any], said: str, ids_column: str = "id") -> str:
        pq.write_table(pa.table(columns), path)
        return refused(OutsideFiles(graph_path, path), out, said, ids_column=ids_column).hint

    lists = pa.array(rows)
    hint = say({"id": ids, "z": lists}, "no column 'ids' for --ids-column", "ids")
    assert "did you mean id?" in hint
    say({"id": ids, "z": pa.array([*rows[:8], [1.0], *rows[9:]])}, "row 9 of .* has 1 numbers")
    say({"id": ids, "z": pa.array([*rows[:8], None, *rows[9:]])}, "row 9 of .* has no numbers")
    say(
        {"id": ids, "z": pa.array([*rows[:8], [1.0, None, 2.0], *rows[9:]])}, "for node '8' that is"
    )
    say({"id": ids, "z": pa.array([["a", "b", "c"]] * NODES)}, "not numbers")
    say({"id": ids, "z": lists, "more": ids}, "column 'z' of .* holds no numbers of a node")
    say({"id": ids, "a": ids, "b": ids, "name": pa.array(["x"] * NODES)}, "column 'name'")
    say({"id": ids}, "has no column of numbers")
    say({"id": pa.array([None, *range(1, NODES)]), "z": lists}, "row 1 of .* has no id")
    say({"id": pa.array([0.5] * NODES), "z": lists}, "no ids")
    index = {"__index_level_0__": ids, "a": ids, "b": ids, "c": ids}
    say({"id": ids, **index}, "column '__index_level_0__'")
    path.write_bytes(b"PAR1 no")
    refused(OutsideFiles(graph_path, path), out, "no readable Parquet file")
    npy = OutsideFiles(graph_path, save(tmp_path / "z.npy", logits))
    with pytest.raises(UsageError, match="--ids-column is for Parquet"):
        bring(npy, out, ids_column="id")


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
