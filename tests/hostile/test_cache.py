"""Caches that were damaged, cut, mixed up or forged: each refused, with the place named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from g2t.artifact import file_digest, outputs_digest
from g2t.cache.check import open_cache
from g2t.cache.reader import Cache
from g2t.distill.train import distill, plan_student
from g2t.errors import InputError, IntegrityError
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.teacher.train import teach
from g2t.tensors import load_facts, load_tensors, save_tensors

LOGITS = ("teacher-logits-00000.safetensors", "teacher-logits-00001.safetensors")
Edit = Callable[[Path], object]


def walk(folder: Path, seed: int) -> Path:
    """Make graph, teacher, cache and student in a folder."""
    csbm = {"nodes": 60, "degree": 4.0, "classes": 3, "features": 8, "seed": seed}
    graph = import_graph("synthetic:csbm", folder / "graph", csbm, None, Silent(), False).path
    values = {"split": "random:40/20/40:0", "model": {"hidden": 8}, "train": {"epochs": 3}}
    teacher = teach(graph, folder / "teacher", values, device="cpu").path
    settings = ExportSettings(shard_rows=40, hops=1)
    cache = export(teacher, graph, folder / "cache", settings).path
    student = {"student": "mlp", "model": {"hidden": 8}, "train": {"epochs": 2}}
    distill(cache, folder / "student", student, device="cpu")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walk(tmp_path_factory.mktemp("home"), 0)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walk(tmp_path_factory.mktemp("foreign"), 1)


@pytest.fixture
def cache(home: Path, tmp_path: Path) -> Path:
    """A copy of a sound cache, to be spoilt."""
    return shutil.copytree(home / "cache", tmp_path / "cache")


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_manifest(change: Callable[[dict[str, Any]], object]) -> Edit:
    """An edit of the manifest after which every digest fits again."""

    def edit(cache: Path) -> None:
        edit_json(cache / "manifest.json", change)
        sign(cache)

    return edit


def sign(cache: Path) -> None:
    """Make manifest and run.json agree with the files that are there: a careful forger's work."""
    manifest = json.loads((cache / "manifest.json").read_text())
    for shard in (manifest["graph_file"], *manifest["shards"]):
        if (cache / shard["file"]).is_file():
            facts = {"bytes": (cache / shard["file"]).stat().st_size}
            shard.update(facts, xxh3_128=file_digest(cache / shard["file"]))
    (cache / "manifest.json").write_text(json.dumps(manifest))
    record = json.loads((cache / "run.json").read_text())
    record["outputs"] = {
        file.name: {"bytes": file.stat().st_size, "xxh3_128": file_digest(file)}
        for file in sorted(cache.iterdir())
        if file.name not in ("run.json", "metrics.jsonl")
    }
    record["digest"] = outputs_digest(record["outputs"])
    (cache / "run.json").write_text(json.dumps(record))


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object], facts: Any = None) -> None:
    tensors = load_tensors(path)
    change(tensors)
    save_tensors(path, tensors, facts)


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def swap(cache: Path) -> None:
    first, second = (cache / name for name in LOGITS)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def permute_rows(path: Path) -> None:
    def turn(tensors: dict[str, Tensor]) -> None:
        tensors["teacher-logits"] = tensors["teacher-logits"].flip(0)

    rewrite(path, turn, load_facts(path))


def permute_ids(cache: Path) -> None:
    def turn(tensors: dict[str, Tensor]) -> None:
        tensors["ids"] = tensors["ids"].flip(0)

    rewrite(cache / "graph.safetensors", turn)


def reveal(cache: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["labels"][tensors["test"]] = 1

    rewrite(cache / "graph.safetensors", add)


def lead_out(cache: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["edges.column"][0] = 60

    rewrite(cache / "graph.safetensors", add)


def resign(change: Edit) -> Edit:
    def edit(cache: Path) -> None:
        change(cache)
        sign(cache)

    return edit


def shorten(cache: Path) -> None:
    """A shard with fewer rows than the manifest says, all digests fitting."""
    name = "teacher-logits"
    rewrite(cache / LOGITS[1], lambda t: t.update({name: t[name][:-1]}))


def widen(cache: Path) -> None:
    rewrite(cache / LOGITS[1], lambda t: t.update({"teacher-logits": torch.zeros(20, 4).half()}))


def retype(cache: Path) -> None:
    name = "teacher-logits"
    rewrite(cache / LOGITS[1], lambda t: t.update({name: t[name].float()}))


def rename(cache: Path) -> None:
    save_file({"weights": torch.zeros(20, 3).half()}, cache / LOGITS[1])


def read_all(path: Path) -> Cache:
    cache = open_cache(path)
    cache.logits()
    cache.features()
    cache.tokens(1)
    for layer in range(1, cache.manifest.teacher.layers + 1):
        cache.layer(layer)
    return cache


def test_the_sound_cache_is_read_and_signing_changes_nothing(cache: Path) -> None:
    assert read_all(cache).rows == 60
    sign(cache)
    assert read_all(cache).rows == 60


SPOILT: dict[str, tuple[Edit, str]] = {
    "cut": (lambda c: cut(c / LOGITS[0]), rf"{LOGITS[0]} has \d+ bytes, run.json says"),
    "emptied": (lambda c: (c / LOGITS[0]).write_bytes(b""), rf"{LOGITS[0]} has 0 bytes"),
    "extended": (lambda c: extend(c / LOGITS[0]), rf"{LOGITS[0]} has \d+ bytes, run.json says"),
    "bit flipped": (lambda c: flip_bit(c / LOGITS[1]), rf"{LOGITS[1]} does not match its recorded"),
    "shards swapped": (swap, rf"{LOGITS[0]} has \d+ bytes"),
    "rows permuted": (lambda c: permute_rows(c / LOGITS[0]), rf"{LOGITS[0]} does not match"),
    "ids permuted": (permute_ids, r"graph.safetensors (does not match|has \d+ bytes)"),
    "missing": (lambda c: (c / LOGITS[1]).unlink(), rf"{LOGITS[1]} is missing"),
    "no manifest": (lambda c: (c / "manifest.json").unlink(), "manifest.json is missing"),
    "manifest edited": (
        lambda c: edit_json(c / "manifest.json", lambda m: m.update(metric="roc_auc")),
        "manifest.json has",
    ),
    "record of another version": (
        lambda c: edit_json(c / "run.json", lambda r: r.update(schema="g2t.artifact/9")),
        "has schema 'g2t.artifact/9', this g2t reads 'g2t.artifact/1'",
    ),
    "record edited": (
        lambda c: edit_json(c / "run.json", lambda r: r.update(digest="sha256:00")),
        "run.json was edited: its digest does not fit",
    ),
    "record lacks a file": (
        lambda c: edit_json(c / "run.json", lambda r: r["outputs"].pop(LOGITS[0])),
        "run.json was edited",
    ),
    "record is no JSON": (lambda c: (c / "run.json").write_text("{"), "run.json is damaged"),
}

FORGED: dict[str, tuple[Edit, str]] = {
    "ids permuted": (resign(permute_ids), "node ids are not ascending: rows were permuted"),
    "test labels": (resign(reveal), "or a test label is in the cache"),
    "edge out of the rows": (resign(lead_out), "one leads out of the cache's rows"),
    "shards swapped": (resign(swap), f"{LOGITS[0]} does not hold 40 rows of teacher-logits"),
    "row missing": (resign(shorten), f"{LOGITS[1]} does not hold 20 rows of teacher-logits"),
    "column too many": (resign(widen), f"{LOGITS[1]} does not hold 20 rows of teacher-logits"),
    "another type": (resign(retype), f"{LOGITS[1]} does not hold 20 rows of teacher-logits"),
    "another tensor": (resign(rename), f"{LOGITS[1]} does not hold 20 rows of teacher-logits"),
    "no safetensors": (
        resign(lambda c: (c / LOGITS[1]).write_bytes(b"rows")),
        f"{LOGITS[1]} is damaged",
    ),
    "future manifest": (
        edit_manifest(lambda m: m.update(schema="g2t.cache/2")),
        "has cache schema 'g2t.cache/2', this g2t reads 'g2t.cache/1'",
    ),
    "unknown field": (
        edit_manifest(lambda m: m.update(rank=1)),
        "manifest.json is damaged at rank",
    ),
    "field missing": (edit_manifest(lambda m: m.pop("rows")), "manifest.json is damaged at rows"),
    "path upwards": (
        edit_manifest(lambda m: m["shards"][0].update(file="../../graph/graph.safetensors")),
        r"manifest.json is damaged at shards.0.file",
    ),
    "path from the root": (
        edit_manifest(lambda m: m["shards"][0].update(file="/etc/hostname")),
        r"manifest.json is damaged at shards.0.file",
    ),
    "folder above": (
        edit_manifest(lambda m: m["shards"][0].update(file="..")),
        r"the manifest and .. disagree",
    ),
    "gap": (
        edit_manifest(lambda m: m["shards"][0].update(start=1)),
        "teacher-h1 has a gap or overlap at row 0",
    ),
    "shard not listed": (
        edit_manifest(lambda m: m["shards"].pop(1)),
        "teacher-h1 covers 40 of 60 rows",
    ),
    "shard listed twice": (
        edit_manifest(lambda m: m["shards"].append(m["shards"][0])),
        "teacher-h1 has a gap or overlap",
    ),
    "too many rows": (edit_manifest(lambda m: m.update(rows=61)), "covers 60 of 61 rows"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_cache_is_not_opened(cache: Path, what: str) -> None:
    edit, said = SPOILT[what]
    edit(cache)
    with pytest.raises(IntegrityError, match=said) as caught:
        open_cache(cache)
    one_sentence(caught.value, cache)


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_cache_is_not_read(cache: Path, what: str) -> None:
    edit, said = FORGED[what]
    edit(cache)
    with pytest.raises(IntegrityError, match=said) as caught:
        read_all(cache)
    one_sentence(caught.value, cache)


GRAPH_FORGED: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "no ids": lambda t: t.pop("ids"),
    "no labels": lambda t: t.pop("labels"),
    "no edge columns": lambda t: t.pop("edges.column"),
    "a test row too high": lambda t: t["test"].__setitem__(0, 60),
    "a train row too high": lambda t: t["train"].__setitem__(0, 1000),
    "train is val": lambda t: t.__setitem__("train", t["val"].clone()),
    "labels short": lambda t: t.__setitem__("labels", t["labels"][:-1].clone()),
    "labels not whole": lambda t: t.__setitem__("labels", t["labels"].float()),
    "a train label missing": lambda t: t["labels"].__setitem__(t["train"][0], -1),
    "a val label missing": lambda t: t["labels"].__setitem__(t["val"][0], -1),
    "a label too high": lambda t: t["labels"].__setitem__(t["train"][0], 3),
    "a negative id": lambda t: t["ids"].__setitem__(0, -5),
    "a negative column": lambda t: t["edges.column"].__setitem__(0, -1),
    "starts that fall": lambda t: t["edges.start"].__setitem__(1, 10_000),
}


@pytest.mark.parametrize("what", GRAPH_FORGED)
def test_a_forged_graph_part_is_not_read(cache: Path, what: str) -> None:
    resign(lambda folder: rewrite(folder / "graph.safetensors", GRAPH_FORGED[what]))(cache)
    with pytest.raises(IntegrityError) as caught:
        open_cache(cache)
    one_sentence(caught.value, cache)


def one_sentence(error: IntegrityError, cache: Path) -> None:
    assert error.code == 4
    assert str(cache) in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize("what", ["bit flipped", "rows permuted", "missing"])
def test_a_student_is_not_trained_from_a_spoilt_cache(cache: Path, what: str) -> None:
    SPOILT[what][0](cache)
    with pytest.raises(IntegrityError, match=SPOILT[what][1]):
        distill(cache, cache.parent / "student", {"student": "mlp"}, device="cpu")
    assert [file.name for file in cache.parent.iterdir()] == ["cache"]


def test_opening_a_cache_writes_nothing_into_it(cache: Path) -> None:
    before = {f: (f.stat().st_mtime_ns, f.stat().st_atime_ns > 0) for f in cache.iterdir()}
    stamp = cache.stat().st_mtime_ns
    plan_student(cache, {"student": "mlp"})
    read_all(cache)
    assert {f: (f.stat().st_mtime_ns, f.stat().st_atime_ns > 0) for f in cache.iterdir()} == before
    assert cache.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("cache", "was not distilled from cache .*: graph differs"),
        ("graph", "learned from graph csbm .* this graph is csbm"),
        ("teacher", "cache .* was not exported from teacher"),
    ],
)
def test_a_part_of_another_lineage_is_refused(
    home: Path, foreign: Path, part: str, said: str
) -> None:
    sources = {name: home / name for name in ("student", "graph", "cache", "teacher")}
    assert evaluate(Sources(**sources))["student"]["name"] == "mlp"
    with pytest.raises(IntegrityError, match=said) as caught:
        evaluate(Sources(**{**sources, part: foreign / part}))
    assert caught.value.code == 4


def test_a_foreign_teacher_is_refused_without_a_cache_too(home: Path, foreign: Path) -> None:
    sources = Sources(home / "student", home / "graph", None, foreign / "teacher")
    with pytest.raises(IntegrityError, match="did not learn from teacher"):
        evaluate(sources)


def test_a_teacher_exports_only_its_own_graph(home: Path, foreign: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="learned from graph csbm"):
        export(foreign / "teacher", home / "graph", tmp_path / "cache", ExportSettings())
    assert list(tmp_path.iterdir()) == []


def test_a_moved_cache_is_the_same_cache(home: Path, cache: Path) -> None:
    sources = Sources(home / "student", home / "graph", cache, home / "teacher")
    assert evaluate(sources)["agreement"] is not None


def test_a_cache_of_another_kind_is_an_input_error(home: Path) -> None:
    with pytest.raises(InputError, match="is a teacher, not a cache"):
        open_cache(home / "teacher")
    with pytest.raises(InputError, match="there is no cache at"):
        open_cache(home / "nothing")
