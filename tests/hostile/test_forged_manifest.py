"""Caches whose every digest fits and whose manifest lies: what it says contradicts itself."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from g2t.cache.check import open_cache
from g2t.files import MOST_JSON
from judging import check
from spoiling import (
    CODES,
    EDGES,
    FEATURES,
    GRAPH,
    LAYER,
    LOGITS,
    MANIFEST,
    ROWS,
    TOKENS,
    Case,
    Edit,
    edit_json,
    file_of,
    manifest,
    manifest_text,
    sign_record,
    write_cache,
)

FIRST = file_of(LOGITS)
HUGE = 2**70


def shard(of: str = LOGITS, index: int = 0, /, **facts: Any) -> Edit:
    """Change what the manifest says of a shard."""

    def change(content: Any) -> None:
        named = [entry for entry in content["shards"] if entry["tensor"] == of]
        named[index].update(facts)

    return manifest(change)


def tensor(name: str, /, **facts: Any) -> Edit:
    """Change what the manifest says of a tensor."""

    def change(content: Any) -> None:
        next(entry for entry in content["tensors"] if entry["name"] == name).update(facts)

    return manifest(change)


def says(**facts: Any) -> Edit:
    return manifest(lambda content: content.update(facts))


def split_says(**facts: Any) -> Edit:
    return manifest(lambda content: content["split"].update(facts))


def without(key: str) -> Edit:
    return manifest(lambda content: content.pop(key))


def no_shards(name: str) -> Edit:
    """A tensor without any shard."""

    def change(content: Any) -> None:
        content["shards"] = [entry for entry in content["shards"] if entry["tensor"] != name]

    return manifest(change)


def drop(name: str) -> Edit:
    """A tensor and its shards are not mentioned at all."""

    def change(content: Any) -> None:
        content["tensors"] = [entry for entry in content["tensors"] if entry["name"] != name]
        content["shards"] = [entry for entry in content["shards"] if entry["tensor"] != name]

    return manifest(change)


def share_files(content: Any) -> None:
    """The shards of the layer are listed under the tokens too."""
    layers = [entry for entry in content["shards"] if entry["tensor"] == LAYER]
    kept = [entry for entry in content["shards"] if entry["tensor"] != TOKENS]
    content["shards"] = kept + [{**entry, "tensor": TOKENS} for entry in layers]


def duplicate_key(text: str) -> str:
    return text.replace('{"schema"', '{"rows": 60, "schema"', 1)


def wide(cache: Path) -> None:
    os.truncate(cache / MANIFEST, MOST_JSON + 1)
    sign_record(cache)


def pieces(cache: Path) -> None:
    """Shards that overlap: rows 0 … 20 and 10 … 40, which add up to 60 rows with the rest."""
    shard(LOGITS, 1, start=10)(cache)


def unsigned(**facts: Any) -> Edit:
    """The manifest says another size or digest of a shard than run.json does."""

    def edit(cache: Path) -> None:
        edit_json(cache / MANIFEST, lambda content: content["shards"][0].update(facts))
        sign_record(cache)

    return edit


DAMAGED = "manifest.json is damaged"
CASES: dict[str, Case] = {
    # Its text.
    "no JSON": Case(manifest_text(lambda text: "{"), f"{DAMAGED}: Expecting"),
    "empty": Case(manifest_text(lambda text: ""), DAMAGED),
    "a list": Case(manifest_text(lambda text: f"[{text}]"), f"{DAMAGED}: this is no JSON object"),
    "an empty object": Case(manifest_text(lambda text: "{}"), "has cache schema None, this g2t"),
    "a nested bomb": Case(
        manifest_text(lambda text: '{"a":' + "[" * 200_000), f"{DAMAGED}: the nesting is too deep"
    ),
    "a large bomb": Case(wide, f"{DAMAGED}: it is longer than {MOST_JSON} bytes"),
    "a key twice": Case(manifest_text(duplicate_key), f"{DAMAGED}: a key stands twice"),
    "NaN": Case(tensor(LOGITS, relative_error=float("nan")), f"{DAMAGED}: NaN is no number"),
    "infinity": Case(tensor(LOGITS, relative_error=float("inf")), f"{DAMAGED}: Infinity is no"),
    "a key with a newline": Case(says(**{"a\nb": 1}), f"{DAMAGED}: a key is not printable"),
    # Its fields.
    "a future version": Case(
        says(schema="g2t.cache/2"), "has cache schema 'g2t.cache/2', this g2t reads 'g2t.cache/1'"
    ),
    "a long version": Case(says(schema="x" * 10_000), "has cache schema 'xxx"),
    "an unknown key": Case(says(rank=1), f"{DAMAGED} at rank: Extra inputs"),
    "a long unknown key": Case(says(**{"k" * 10_000: 1}), f"{DAMAGED} at kkk"),
    "an unknown key of a shard": Case(shard(LOGITS, 1, rank=1), f"{DAMAGED} at shards.10.rank"),
    "no rows": Case(without("rows"), f"{DAMAGED} at rows: Field required"),
    "no shards": Case(without("shards"), f"{DAMAGED} at shards: Field required"),
    "no graph file": Case(without("graph_file"), f"{DAMAGED} at graph_file"),
    "shards are an object": Case(says(shards={}), f"{DAMAGED} at shards"),
    "rows are text": Case(says(rows="many"), f"{DAMAGED} at rows"),
    "rows are true": Case(says(rows=True), "rows"),
    "zero rows": Case(says(rows=0), f"{DAMAGED} at rows"),
    "negative rows": Case(says(rows=-60), f"{DAMAGED} at rows"),
    "one row more": Case(says(rows=ROWS + 1), "covers 60 of 61 rows"),
    "one row less": Case(says(rows=ROWS - 1), "covers 60 of 59 rows"),
    "more rows than int64": Case(says(rows=HUGE), f"of {HUGE} rows"),
    "shards of no rows": Case(says(shard_rows=0), f"{DAMAGED} at shard_rows"),
    "shards of other rows": Case(says(shard_rows=30), "does not hold 30 rows"),
    "shards of huge rows": Case(says(shard_rows=HUGE), f"does not hold {HUGE} rows"),
    "an unknown metric": Case(says(metric="luck"), f"{DAMAGED} at metric"),
    "an unknown setting": Case(split_says(setting="inductive"), f"{DAMAGED} at split.setting"),
    "production without a seed": Case(split_says(setting="production"), f"{DAMAGED} at split"),
    "a seed without production": Case(split_says(seed=1), f"{DAMAGED} at split"),
    "a negative seed": Case(split_says(setting="production", seed=-1), f"{DAMAGED} at split.seed"),
    "a seed that is text": Case(
        split_says(setting="production", seed="1"), f"{DAMAGED} at split.seed"
    ),
    "a metric of two classes": Case(says(metric="roc_auc"), "roc_auc is no score of"),
    "an unknown task": Case(says(task="regression"), f"{DAMAGED} at task"),
    "a task of two classes": Case(says(task="binary"), "3 classes do not make a binary task"),
    "a class too many": Case(says(classes=list("abcd")), "has 3 columns for 4 classes"),
    "no classes": Case(says(classes=[]), "0 classes do not make a multiclass task"),
    "a hop too many": Case(says(hops=2), "the manifest says 2 hops"),
    "huge hops": Case(says(hops=HUGE), "hops"),
    "no layers": Case(
        manifest(lambda m: m["teacher"].update(layers=0)), "holds teacher-h1 of a teacher of 0"
    ),
    "negative layers": Case(
        manifest(lambda m: m["teacher"].update(layers=-1)), f"{DAMAGED} at teacher.layers"
    ),
    # Its files.
    "path upwards": Case(shard(file="../../graph.safetensors"), f"{DAMAGED} at shards.9.file"),
    "path from the root": Case(shard(file="/etc/hostname"), f"{DAMAGED} at shards.9.file"),
    "path into a folder": Case(shard(file=f"a/{FIRST}"), f"{DAMAGED} at shards.9.file"),
    "the folder above": Case(shard(file=".."), f"{DAMAGED} at shards.9.file"),
    "a newline in a path": Case(shard(file=f"{FIRST}\n"), f"{DAMAGED} at shards.9.file"),
    "NUL in a path": Case(shard(file=f"{FIRST}\0"), f"{DAMAGED} at shards.9.file"),
    "a backslash in a path": Case(shard(file="..\\x"), f"{DAMAGED} at shards.9.file"),
    "a file that is not there": Case(shard(file="other"), "the manifest and other disagree"),
    "run.json as a shard": Case(shard(file="run.json"), "the manifest and run.json disagree"),
    "the manifest as a shard": Case(shard(file=MANIFEST), f"the manifest and {MANIFEST} disagree"),
    "another size": Case(unsigned(bytes=1), "disagree"),
    "another digest": Case(unsigned(xxh3_128="0" * 32), "disagree"),
    "a digest that is none": Case(unsigned(xxh3_128="x"), f"{DAMAGED} at shards.0.xxh3_128"),
    "negative bytes": Case(unsigned(bytes=-1), f"{DAMAGED} at shards.0.bytes"),
    "a shard as the graph": Case(
        manifest(lambda m: m.update(graph_file={**m["graph_file"], "file": FIRST})), FIRST
    ),
    "a shard as the projection": Case(
        manifest(lambda m: m.update(projection_file=m["shards"][0])), "features-00000.safetensors"
    ),
    # Its tensors and their rows.
    "rows missing at the start": Case(shard(start=1), f"{LOGITS} has a gap or overlap at row 0"),
    "rows missing in the middle": Case(
        manifest(lambda m: m["shards"].pop(10)), f"{LOGITS} has a gap or overlap at row 20"
    ),
    "rows missing at the end": Case(
        manifest(lambda m: m["shards"].pop(11)), f"{LOGITS} covers 40 of 60 rows"
    ),
    "rows that overlap": Case(pieces, f"{LOGITS} has a gap or overlap at row 20"),
    "a negative start": Case(shard(start=-20), f"{DAMAGED} at shards.9.start"),
    "a stop before the start": Case(shard(LOGITS, 1, stop=10), "gap or overlap"),
    "a stop beyond int64": Case(shard(LOGITS, 2, stop=HUGE), f"covers {HUGE} of 60 rows"),
    "a broken start": Case(shard(start=0.5), f"{DAMAGED} at shards.9.start"),
    "a shard twice": Case(
        manifest(lambda m: m["shards"].append(m["shards"][9])), f"{LOGITS} has a gap or overlap"
    ),
    "an empty shard": Case(
        manifest(lambda m: m["shards"].append({**m["shards"][9], "stop": 0})), LOGITS
    ),
    "a shard of two tensors": Case(manifest(share_files), f"lists the file {file_of(LAYER)} twice"),
    "a shard of no tensor": Case(shard(tensor="none"), "none"),
    "a tensor twice": Case(
        manifest(lambda m: m["tensors"].append(m["tensors"][3])), f"lists {LOGITS} twice"
    ),
    "a tensor without shards": Case(no_shards(LOGITS), f"{LOGITS} covers 0 of 60 rows"),
    "no tensors": Case(says(tensors=[], shards=[]), "it has no features"),
    "no features": Case(drop(FEATURES), "it has no features"),
    "a name with a slash": Case(tensor(LOGITS, name="../logits"), f"{DAMAGED} at tensors.3.name"),
    "a name with a newline": Case(tensor(LOGITS, name=f"{LOGITS}\n"), f"{DAMAGED} at tensors.3"),
    "width 0": Case(tensor(LAYER, width=0), f"{DAMAGED} at tensors.2.width"),
    "a width too large": Case(tensor(LAYER, width=9), f"{file_of(LAYER)} does not hold 20 rows"),
    "a huge width": Case(tensor(LAYER, width=HUGE), f"{file_of(LAYER)} does not hold 20 rows"),
    "tokens of another width": Case(tensor(TOKENS, width=4), "tokens-1 has 4 columns, not 8"),
    "another type": Case(tensor(LAYER, dtype="bf16"), f"{file_of(LAYER)} does not hold 20 rows"),
    "an unknown type": Case(tensor(LAYER, dtype="fp4"), f"{DAMAGED} at tensors.2.dtype"),
    "logits of codes": Case(tensor(LOGITS, dtype="int16"), f"{LOGITS} cannot be int16"),
    "int8 without a scale": Case(
        tensor(LAYER, dtype="int8"), f"{file_of(LAYER)} does not hold 20 rows"
    ),
    "an unknown kind": Case(tensor(LAYER, kind="coo"), f"{DAMAGED} at tensors.2.kind"),
    "a layer of sparse rows": Case(tensor(LAYER, kind="csr"), f"{LAYER} cannot be of kind csr"),
    "dense rows as sparse ones": Case(
        tensor(FEATURES, kind="csr"), f"{file_of(FEATURES)} does not hold 20 rows"
    ),
    "edge scores of nodes": Case(tensor(EDGES, kind="dense"), f"{EDGES} cannot be of kind dense"),
    "edge scores of width 2": Case(tensor(EDGES, width=2), f"{EDGES} has 2"),
    "codes of floats": Case(tensor(CODES, dtype="fp16"), CODES),
    "top k of dense logits": Case(tensor(LOGITS, topk=2), f"{LOGITS} of width 3 and kind dense"),
    "top k of nothing": Case(tensor(LOGITS, topk=None), "keeps None values", "compact"),
    "top k beyond the classes": Case(tensor(LOGITS, topk=4), "keeps 4 values", "compact"),
    "top k that is not stored": Case(
        tensor(LOGITS, topk=1), f"{file_of(LOGITS)} does not hold 20 rows", "compact"
    ),
    "top k of int8": Case(tensor(LOGITS, dtype="int8"), f"{LOGITS} cannot be int8", "compact"),
    "sparse rows as dense ones": Case(
        tensor(FEATURES, kind="dense"), f"{file_of(FEATURES)} does not hold 20 rows", "compact"
    ),
    "sparse features of half": Case(
        tensor(FEATURES, dtype="fp16"), f"{FEATURES} cannot be fp16", "compact"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    check(CASES[name], tmp_path / "cache")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["shards"].reverse(),
        lambda content: content["tensors"].reverse(),
        lambda content: content["graph"].update(name="line\nbreak"),
    ],
)
def test_a_manifest_in_another_order_is_as_good(
    tmp_path: Path, change: Callable[[Any], object]
) -> None:
    sound = open_cache(write_cache(tmp_path / "sound"))
    manifest(change)(write_cache(tmp_path / "other"))
    other = open_cache(tmp_path / "other")
    assert GRAPH in other.artifact.record["outputs"]
    for name in (FEATURES, TOKENS, LAYER, LOGITS, CODES):
        assert other.whole(name).equal(sound.whole(name))
        assert other.manifest.digest_of(name) == sound.manifest.digest_of(name)
