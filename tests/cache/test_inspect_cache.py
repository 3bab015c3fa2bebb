"""`g2t cache inspect` says what is there; `verify` reads all of it and finds what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from g2t.artifact import file_identity, outputs_digest
from g2t.cache.check import open_cache
from g2t.cache.describe import describe
from g2t.cache.format import CLUSTERS, CODES, EDGE_SCORES, RELIABILITY
from g2t.cache.verify import PIECE, verify
from g2t.errors import IntegrityError
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.stored import Stored, open_stored, read_header
from g2t.teacher.train import teach
from g2t.tensors import load_tensors, save_tensors
from g2t_cli.app import app

#: See `make_cache` in conftest.py: where a cache lies, and what was written into it.
MakeCache = Callable[..., Any]
Change = Callable[[dict[str, Tensor]], object]


def g2t(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def forge(folder: Path, file: str, change: Change) -> None:
    """Change the tensors of a file and make every digest fit again."""
    tensors = {name: tensor.clone() for name, tensor in load_tensors(folder / file).items()}
    change(tensors)
    save_tensors(folder / file, tensors, read_header(folder / file)[1])
    manifest = json.loads((folder / "manifest.json").read_text())
    for shard in (manifest["graph_file"], manifest["projection_file"], *manifest["shards"]):
        if shard is not None and shard["file"] == file:
            shard.update(file_identity(folder / file))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    record = json.loads((folder / "run.json").read_text())
    record["outputs"] = {name: file_identity(folder / name) for name in record["outputs"]}
    record["digest"] = outputs_digest(record["outputs"])
    (folder / "run.json").write_text(json.dumps(record))


def test_the_summary_counts_what_is_there(make_cache: MakeCache) -> None:
    made = make_cache(sparse=True, projected=True, dtype="fp16", topk=2)
    cache = made.open()
    summary = describe(cache)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["schema"] == "g2t.cache-summary/1"
    assert (summary["rows"], summary["edges"]) == (50, len(cache.edges.column_E))
    assert (summary["hops"], summary["settings"]) == (2, {"made": "by hand"})
    assert summary["split_sizes"] == {"train": 10, "val": 10, "test": 25}
    assert summary["graph"] == {"name": "by hand", "digest": "sha256:01"}
    assert summary["split"] == {"name": "public", "digest": "sha256:02"}
    assert summary["teacher"]["layers"] == 2
    projection = made.path / "projection.safetensors"
    assert summary["projection"]["bytes"] == projection.stat().st_size
    payload = [file.stat().st_size for file in made.path.glob("*.safetensors")]
    assert summary["bytes"] == sum(payload)
    assert summary["shards"] == len(payload) - 2
    tensors = {tensor["name"]: tensor for tensor in summary["tensors"]}
    assert list(tensors) == [entry.name for entry in cache.manifest.tensors]
    for name, tensor in tensors.items():
        own = [file.stat().st_size for file in made.path.glob(f"{name}-0*.safetensors")]
        assert (tensor["bytes"], tensor["shards"]) == (sum(own), 3)
        assert tensor["digest"] == cache.manifest.digest_of(name)
    logits = tensors["teacher-logits"]
    assert (logits["kind"], logits["dtype"], logits["width"], logits["topk"]) == (
        "topk", "fp16", 5, 2,
    )  # fmt: skip
    assert 0 < logits["relative_error"] < 1e-3
    assert tensors["features"]["kind"] == "csr"
    assert describe(make_cache().open())["projection"] is None


def test_inspect_prints_one_object_or_aligned_text(make_cache: MakeCache) -> None:
    made = make_cache(dtype="bf16")
    printed = g2t("cache", "inspect", made.path, "--json")
    assert json.loads(printed.stdout) == describe(made.open())
    text = g2t("cache", "inspect", made.path)
    assert (text.exit_code, text.stderr) == (0, "")
    lines = text.stdout.splitlines()
    assert lines[0].split() == ["cache", str(made.path)]
    header = next(line for line in lines if line.startswith("tensor"))
    assert header.split()[:4] == ["tensor", "kind", "dtype", "width"]
    table = {line.split()[0]: line for line in lines[lines.index(header) + 1 :]}
    assert list(table) == [entry.name for entry in made.open().manifest.tensors]
    assert table["teacher-h2"].split()[1:4] == ["dense", "bf16", "6"]
    assert {line[header.index("dtype") - 1] for line in table.values()} == {" "}


@pytest.mark.parametrize("options", [{}, {"sparse": True, "dtype": "int8"}, {"topk": 3}])
def test_a_sound_cache_is_verified(make_cache: MakeCache, options: dict[str, Any]) -> None:
    made = make_cache(**options)
    found = verify(open_cache(made.path, remembered=False))
    files = [f for f in made.path.iterdir() if f.name not in ("run.json", "metrics.jsonl")]
    assert found["files"] == len(files)
    assert found["bytes"] == sum(file.stat().st_size for file in files)
    assert found["tensors"] == [entry.name for entry in made.open().manifest.tensors]
    result = g2t("cache", "verify", made.path)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{made.path}: sound: {len(found['tensors'])} tensors of 50 rows in {len(files)} files, "
        f"{found['bytes']} bytes\n"
    )
    record = json.loads(g2t("cache", "verify", made.path, "--json", "-q").stdout)
    assert record == {**found, "deep": None}


def set_at(name: str, place: Any, value: Any) -> Change:
    return lambda tensors: tensors[name].__setitem__(place, value)


H2, LOGITS = "teacher-h2-00001.safetensors", "teacher-logits-00001.safetensors"
WRONG: dict[str, tuple[dict[str, Any], str, Change, str]] = {
    "nan": ({}, H2, set_at("teacher-h2", (3, 2), torch.nan), "teacher-h2 holds NaN or infinite"),
    "inf in fp16": (
        {"dtype": "fp16"},
        H2,
        set_at("teacher-h2", (19, 5), torch.inf),
        "teacher-h2 holds NaN or infinite",
    ),
    "a scale of int8": (
        {"dtype": "int8"},
        H2,
        set_at("teacher-h2.scale", 1, torch.nan),
        "teacher-h2 holds NaN or infinite",
    ),
    "the rest": (
        {"topk": 2},
        LOGITS,
        set_at("teacher-logits.rest", 7, torch.inf),
        "teacher-logits holds NaN or infinite",
    ),
    "a class too high": (
        {"topk": 2},
        LOGITS,
        set_at("teacher-logits.index", (7, 1), 5),
        "names a class outside 0 … 4",
    ),
    "a class twice": (
        {"topk": 2},
        LOGITS,
        lambda t: t["teacher-logits.index"][9].fill_(1),
        "a row names a class twice",
    ),
    "a column too high": (
        {"sparse": True},
        "features-00002.safetensors",
        set_at("features.column", 0, 12),
        "holds no sparse rows of 12 columns",
    ),
    "a sparse nan": (
        {"sparse": True},
        "features-00002.safetensors",
        set_at("features.value", 0, torch.nan),
        "features holds NaN or infinite",
    ),
    "starts that fall": (
        {"sparse": True},
        "features-00002.safetensors",
        set_at("features.start", 1, 10**6),
        "holds no sparse rows",
    ),
    "an edge score": (
        {},
        f"{EDGE_SCORES}-00002.safetensors",
        set_at(EDGE_SCORES, 0, torch.nan),
        "leaves -1 … 1",
    ),
    "a score that is no cosine": (
        {},
        f"{EDGE_SCORES}-00000.safetensors",
        set_at(EDGE_SCORES, 3, -1.1),
        "leaves -1 … 1",
    ),
    "a reliability": (
        {},
        f"{RELIABILITY}-00002.safetensors",
        set_at(RELIABILITY, (9, 0), 1.5),
        "leaves 0 … 1",
    ),
    "a code": ({}, f"{CODES}-00000.safetensors", set_at(CODES, (5, 1), -1), "a code is negative"),
    "a cluster": (
        {},
        f"{CLUSTERS}-00001.safetensors",
        set_at(CLUSTERS, (2, 0), -1),
        "a cluster is negative",
    ),
    "the projection": (
        {"projected": True},
        "projection.safetensors",
        set_at("projection", (0, 0), torch.nan),
        "projection.safetensors holds NaN",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_was_written_wrongly_is_found(make_cache: MakeCache, what: str) -> None:
    options, file, change, said = WRONG[what]
    made = make_cache(**options)
    forge(made.path, file, change)
    cache = open_cache(made.path)  # opening reads no tensor, and every digest fits
    with pytest.raises(IntegrityError, match=said) as caught:
        verify(cache)
    assert str(made.path) in caught.value.message
    assert (result := g2t("cache", "verify", made.path, "-q")).exit_code == 4
    assert (result.stdout, result.stderr.count("\n")) == ("", 2)


def test_neighbours_ascend_within_a_row_and_only_there(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_cache()
    start_N = made.open().edges.start_N
    wide = int((start_N.diff() >= 2).nonzero()[3])
    at = int(start_N[wide])

    def repeat(tensors: dict[str, Tensor]) -> None:
        tensors["edges.column"][at + 1] = tensors["edges.column"][at]

    forge(made.path, "graph.safetensors", repeat)
    for piece in (PIECE, 4 * 7, 4):  # wherever the pieces end, the place is the same
        monkeypatch.setattr("g2t.cache.verify.PIECE", piece)
        with pytest.raises(IntegrityError, match=f"row {wide} names a neighbour twice"):
            verify(open_cache(made.path))


def test_a_changed_file_is_found_though_it_is_remembered(make_cache: MakeCache) -> None:
    made = make_cache()
    shard = made.path / H2
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    result = g2t("cache", "verify", made.path)
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"{shard} does not match its recorded digest" in result.stderr


def test_deep_needs_what_to_compare_with(make_cache: MakeCache, tmp_path: Path) -> None:
    made = make_cache()
    incomplete: list[tuple[object, ...]] = [("--deep",), ("--deep", "--teacher", tmp_path)]
    for options in incomplete:
        result = g2t("cache", "verify", made.path, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--deep needs --teacher DIR and --graph DIR" in result.stderr
    for options in (("--teacher", tmp_path), ("--sample", 5), ("--seed", 1)):
        result = g2t("cache", "verify", made.path, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "go with --deep" in result.stderr


def test_deep_compares_with_the_teacher(tmp_path: Path) -> None:
    csbm = {"nodes": 60, "degree": 4.0, "classes": 3, "features": 8}
    graph = import_graph("synthetic:csbm", tmp_path / "graph", csbm, None, Silent(), False).path
    values = {"split": "random:40/20/40:0", "model": {"hidden": 8}, "train": {"epochs": 2}}
    teacher = teach(graph, tmp_path / "teacher", values, device="cpu").path
    export(teacher, graph, tmp_path / "cache", ExportSettings(shard_rows=40))
    start = ("cache", "verify", tmp_path / "cache", "--deep", "--teacher", teacher)
    options = (*start, "--graph", graph, "--sample", 20, "--quiet")
    found = json.loads(g2t(*options, "--json").stdout)["deep"]
    assert (found["sample"], found["seed"]) == (20, 0)
    assert found["relative_error"].keys() == {"teacher-h1", "teacher-logits"}
    assert max(found["relative_error"].values()) < 2e-3
    assert "teacher-logits: within" in g2t(*options).stdout

    def rotate(tensors: dict[str, Tensor]) -> None:
        tensors["teacher-h1"] = tensors["teacher-h1"].roll(1, 0)

    forge(tmp_path / "cache", "teacher-h1-00000.safetensors", rotate)
    assert g2t("cache", "verify", tmp_path / "cache").exit_code == 0
    result = g2t(*options)
    assert (result.exit_code, result.stdout) == (4, "")


def test_what_is_no_cache_is_an_input_error(tmp_path: Path) -> None:
    for name in ("inspect", "verify"):
        result = g2t("cache", name, tmp_path / "none")
        assert (result.exit_code, result.stdout) == (3, "")
        assert "there is no cache at" in result.stderr


def test_thousands_of_shards_are_opened_at_once(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers are read once per shard and no tensor but the graph's."""
    opened: list[str] = []

    def counted(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def reading(path: Path) -> Any:
            opened.append(path.name)
            return read(path)

        return reading

    def refuse(*arguments: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr("g2t.cache.headers.open_stored", counted(open_stored))
    monkeypatch.setattr("g2t.cache.headers.read_header", counted(read_header))
    monkeypatch.setattr(Stored, "read_into", refuse)
    made = make_cache(sparse=True, projected=True)
    cache = made.open()
    assert sorted(opened) == sorted(file.name for file in made.path.glob("*.safetensors"))
    with pytest.raises(AssertionError, match="a tensor was read"):
        cache.logits()


def test_shards_of_one_shape_cannot_change_places(make_cache: MakeCache) -> None:
    made = make_cache()
    first, second = (made.path / f"teacher-h2-0000{index}.safetensors" for index in (0, 1))
    tensors, facts = load_tensors(first), read_header(second)[1]
    save_tensors(first, {name: tensor.clone() for name, tensor in tensors.items()}, facts)
    for file in (first.name, second.name):
        forge(made.path, file, lambda tensors: None)
    with pytest.raises(IntegrityError, match=r"00000\S+ does not call itself rows 0 … 20 of"):
        open_cache(made.path)
