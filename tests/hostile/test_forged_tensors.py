"""Caches whose every digest fits and whose numbers lie: shards and the graph part."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.errors import IntegrityError
from judging import check, read_all
from spoiling import (
    CODES,
    EDGES,
    FEATURES,
    GRAPH,
    LAYER,
    LOGITS,
    ROWS,
    TOKENS,
    Case,
    Edit,
    at,
    data,
    file_of,
    forged,
    header,
    manifest,
    put,
    tensors,
    write_cache,
)

NAN, INF = float("nan"), float("inf")
FIRST = file_of(LOGITS)


def rows(name: str, change: Callable[[Tensor], Tensor], key: str = "", shard: int = 0) -> Edit:
    """Change one tensor of a shard; `key` where the file calls it otherwise."""
    return tensors(file_of(name, shard), put(key or name, change))


def graph(name: str, change: Callable[[Tensor], Tensor]) -> Edit:
    return tensors(GRAPH, put(name, change))


def without(file: str, name: str) -> Edit:
    return tensors(file, lambda content: content.pop(name))


def beside(file: str, name: str) -> Edit:
    """One tensor more than there should be."""
    return tensors(file, lambda content: content.update({name: torch.zeros(3)}))


def instead(file: str, content: bytes) -> Edit:
    return forged(data(file, lambda before: content))


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def doubled(text: str) -> str:
    """A header that names its tensor twice."""
    entry = text[text.index(f'"{LOGITS}":') : text.rindex("}")]
    return text.replace(entry, f"{entry},{entry}")


def as_number_of_bytes(length: int) -> bytes:
    return length.to_bytes(8, "little") + b"{}"


def swap_names(cache: Path) -> None:
    """Layer and tokens have the same shape and type, and each other's files."""
    first, second = cache / file_of(LAYER), cache / file_of(TOKENS)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def swap(cache: Path) -> None:
    """The first and the second twenty rows of a tensor change places, which only the facts tell."""
    first, second = cache / file_of(LAYER, 0), cache / file_of(LAYER, 1)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def of_another_split(cache: Path) -> None:
    tensors(GRAPH, lambda content: content.update(train=content["val"].clone()))(cache)


MISMATCH = "does not hold 20 rows of"
BAD_HEADER = "is damaged: in its header, "
SHARDS: dict[str, Case] = {
    # Headers.
    "empty": Case(instead(FIRST, b""), f"{FIRST} is damaged: its header is longer than the file"),
    "seven bytes": Case(instead(FIRST, b"\0" * 7), "its header is longer than the file"),
    "no safetensors": Case(instead(FIRST, b"rows" * 50), "its header is longer than the file"),
    "a pickle": Case(instead(FIRST, b"\x80\x04\x95" + b"." * 50), "header is longer than the file"),
    "header length 2^63": Case(instead(FIRST, as_number_of_bytes(2**63)), "longer than the file"),
    "header length 2^64-1": Case(instead(FIRST, as_number_of_bytes(2**64 - 1)), "longer than the"),
    "header one byte longer": Case(instead(FIRST, as_number_of_bytes(3)), "longer than the file"),
    "a megabyte of header": Case(
        instead(FIRST, as_number_of_bytes(2 + (1 << 20)) + b" " * (1 << 20)), "its header has 10485"
    ),
    "a nested header": Case(header(FIRST, lambda text: "[" * 100_000), "the nesting is too deep"),
    "a header that is a list": Case(header(FIRST, lambda text: "[]"), "this is no JSON object"),
    "a tensor named twice": Case(header(FIRST, doubled), f"{BAD_HEADER}a key stands twice"),
    "another name": Case(
        header(FIRST, replaced(f'"{LOGITS}":', '"weights":')), f"{FIRST} {MISMATCH} {LOGITS}"
    ),
    "a name with a newline": Case(
        header(FIRST, replaced(f'"{LOGITS}":', '"a\\nb":')), f"{BAD_HEADER}a key is not printable"
    ),
    "an unknown type": Case(
        header(FIRST, replaced("F16", "F8_E4M3")), f"{BAD_HEADER}'teacher-logits' has a type"
    ),
    "a shape of fewer rows": Case(header(FIRST, replaced("[20,3]", "[19,3]")), "does not fit its"),
    "a shape of huge rows": Case(
        header(FIRST, replaced("[20,3]", f"[{2**62},{2**62}]")), "does not fit its bytes"
    ),
    "a negative shape": Case(
        header(FIRST, replaced("[20,3]", "[-20,-3]")), "a shape or place that cannot be"
    ),
    "a broken shape": Case(
        header(FIRST, replaced("[20,3]", "[20.0,3]")), "a shape or place that cannot be"
    ),
    "a shape turned": Case(header(FIRST, replaced("[20,3]", "[3,20]")), f"{MISMATCH} {LOGITS}"),
    "a flat shape": Case(header(FIRST, replaced("[20,3]", "[60]")), f"{MISMATCH} {LOGITS}"),
    "a place beyond the file": Case(
        header(FIRST, replaced("[0,120]", "[120,240]")), "the tensors leave a gap or overlap"
    ),
    "a place in the header": Case(
        header(FIRST, replaced("[0,120]", "[-120,0]")), "a shape or place that cannot be"
    ),
    "cut and signed": Case(forged(data(FIRST, lambda b: b[:-1])), "the tensors end at byte"),
    "extended and signed": Case(
        forged(data(FIRST, lambda b: b + b"\0")), "the tensors end at byte"
    ),
    # Shapes and types.
    "a row less": Case(rows(LOGITS, lambda t: t[:-1]), f"{MISMATCH} {LOGITS}"),
    "a row more": Case(rows(LOGITS, lambda t: torch.cat([t, t[:1]])), f"{MISMATCH} {LOGITS}"),
    "no row": Case(rows(LOGITS, lambda t: t[:0]), f"{MISMATCH} {LOGITS}"),
    "a column more": Case(rows(LAYER, lambda t: torch.cat([t, t], 1)), f"{MISMATCH} {LAYER}"),
    "rank 1": Case(rows(LAYER, lambda t: t[:, 0]), f"{MISMATCH} {LAYER}"),
    "rank 3": Case(rows(LAYER, lambda t: t[:, :, None]), f"{MISMATCH} {LAYER}"),
    "another type": Case(rows(LAYER, lambda t: t.float()), f"{MISMATCH} {LAYER}"),
    "bits of another type": Case(rows(LAYER, lambda t: t.view(torch.int16)), f"{MISMATCH} {LAYER}"),
    "one shard of another type": Case(
        rows(LAYER, lambda t: t.bfloat16(), shard=2), f"{file_of(LAYER, 2)} {MISMATCH} {LAYER}"
    ),
    "another tensor's shard": Case(forged(swap_names), f"{MISMATCH}"),
    "shards swapped": Case(forged(swap), file_of(LAYER)),
    "facts of other rows": Case(header(FIRST, replaced('\\"stop\\": 20', '\\"stop\\": 40')), FIRST),
    "facts that are a number": Case(
        header(FIRST, lambda text: re.sub('"g2t":"{.*}"}', '"g2t":"7"}', text)), f"{BAD_HEADER}this"
    ),
    "a tensor beside it": Case(beside(FIRST, "more"), f"{FIRST} {MISMATCH} {LOGITS}"),
    # Values.
    "NaN features": Case(rows(FEATURES, at((3, 1), NAN)), f"{file_of(FEATURES)}: features holds"),
    "NaN tokens": Case(rows(TOKENS, at((0, 0), NAN)), f"{file_of(TOKENS)}: tokens-1 holds NaN or"),
    "a NaN layer": Case(rows(LAYER, at((19, 7), NAN)), f"{file_of(LAYER)}: {LAYER} holds NaN or"),
    "a row of NaN": Case(rows(LAYER, at(5, NAN)), f"{file_of(LAYER)}: {LAYER} holds NaN or"),
    "NaN in the last row": Case(
        rows(LOGITS, at((-1, -1), NAN), shard=2), f"{file_of(LOGITS, 2)}: {LOGITS} holds NaN or inf"
    ),
    "infinite logits": Case(rows(LOGITS, at((0, 0), INF)), f"{LOGITS} holds NaN or infinite"),
    "both infinities": Case(
        rows(LOGITS, lambda t: at((0, 1), -INF)(at((0, 0), INF)(t))), "holds NaN or infinite values"
    ),
    "a row of infinity": Case(rows(LAYER, at(0, -INF)), f"{LAYER} holds NaN or infinite values"),
    "NaN edge scores": Case(rows(EDGES, at(0, NAN)), f"{EDGES} "),
    "edge scores too few": Case(rows(EDGES, lambda t: t[:-1]), f"{MISMATCH} {EDGES}"),
    "edge scores too many": Case(rows(EDGES, lambda t: torch.cat([t, t])), f"{MISMATCH} {EDGES}"),
    "a negative code": Case(rows(CODES, at((0, 0), -1)), CODES),
    # Compact types.
    "int8 without a scale": Case(
        without(file_of(LAYER), f"{LAYER}.scale"), f"{MISMATCH} {LAYER}", "compact"
    ),
    "a scale too short": Case(
        rows(LAYER, lambda t: t[:-1], f"{LAYER}.scale"), f"{MISMATCH} {LAYER}", "compact"
    ),
    "a scale of another type": Case(
        rows(LAYER, lambda t: t.half(), f"{LAYER}.scale"), f"{MISMATCH} {LAYER}", "compact"
    ),
    "a NaN scale": Case(rows(LAYER, at(0, NAN), f"{LAYER}.scale"), "holds NaN or", "compact"),
    "an infinite scale": Case(rows(LAYER, at(0, INF), f"{LAYER}.scale"), "holds NaN or", "compact"),
    "a huge scale": Case(rows(LAYER, at(0, 3e38), f"{LAYER}.scale"), "holds NaN or", "compact"),
    "a class too high": Case(
        rows(LOGITS, at((0, 0), 3), f"{LOGITS}.index"), "names a class outside 0 … 2", "compact"
    ),
    "a negative class": Case(
        rows(LOGITS, at((0, 0), -1), f"{LOGITS}.index"), "names a class outside 0 … 2", "compact"
    ),
    "classes of int64": Case(
        rows(LOGITS, lambda t: t.long(), f"{LOGITS}.index"), f"{MISMATCH} {LOGITS}", "compact"
    ),
    "a NaN kept value": Case(
        rows(LOGITS, at((0, 0), NAN), f"{LOGITS}.value"), "holds NaN or infinite", "compact"
    ),
    "a NaN rest": Case(
        rows(LOGITS, at(4, NAN), f"{LOGITS}.rest"), "holds NaN or infinite values", "compact"
    ),
    "no rest": Case(without(FIRST, f"{LOGITS}.rest"), f"{MISMATCH} {LOGITS}", "compact"),
    "a feature column too high": Case(
        rows(FEATURES, at(0, 8), "features.column"), "holds no sparse rows of 8 col", "compact"
    ),
    "a negative feature column": Case(
        rows(FEATURES, at(0, -1), "features.column"), "holds no sparse rows of 8 col", "compact"
    ),
    "feature starts that fall": Case(
        rows(FEATURES, at(3, 0), "features.start"), "holds no sparse rows of 8 col", "compact"
    ),
    "feature starts beyond the end": Case(
        rows(FEATURES, at(-1, 99), "features.start"), "holds no sparse rows of 8 col", "compact"
    ),
    "feature starts not from 0": Case(
        rows(FEATURES, at(0, 1), "features.start"), "holds no sparse rows of 8 col", "compact"
    ),
    "feature starts of int32": Case(
        rows(FEATURES, lambda t: t.int(), "features.start"), f"{MISMATCH} features", "compact"
    ),
    "feature values too few": Case(
        rows(FEATURES, lambda t: t[:-1], "features.value"), f"{MISMATCH} features", "compact"
    ),
    "NaN feature values": Case(
        rows(FEATURES, at(0, NAN), "features.value"), "features holds NaN or inf", "compact"
    ),
}

PERMUTED = "node ids are not ascending: rows were permuted or repeated"
NO_ROWS = "the edges are no sparse rows, or one leads out of the cache's rows"
NO_PART = "a part of the split is no set of rows"
LABEL = "a label is out of range, or a test label is in the cache"
GRAPHS: dict[str, Case] = {
    "ids permuted": Case(graph("ids", lambda t: t.flip(0)), PERMUTED),
    "two ids swapped": Case(graph("ids", lambda t: t[[1, 0, *range(2, ROWS)]]), PERMUTED),
    "an id repeated": Case(graph("ids", at(1, 0)), PERMUTED),
    "a negative id": Case(graph("ids", at(0, -5)), PERMUTED),
    "ids of int32": Case(graph("ids", lambda t: t.int()), "does not hold ids as a cache of 60"),
    "ids of floats": Case(graph("ids", lambda t: t.double()), f"{GRAPH} is damaged"),
    "an id less": Case(graph("ids", lambda t: t[1:]), "does not hold ids as a cache of 60"),
    "ids of rank 2": Case(graph("ids", lambda t: t[:, None]), "does not hold ids as a cache of 60"),
    "no ids": Case(without(GRAPH, "ids"), "does not hold ids as a cache of 60 rows"),
    "no labels": Case(without(GRAPH, "labels"), "does not hold labels"),
    "no edges": Case(without(GRAPH, "edges.column"), "does not hold edges.column"),
    "no split": Case(without(GRAPH, "val"), "does not hold val"),
    "a tensor beside": Case(beside(GRAPH, "more"), "does not hold more"),
    "labels too few": Case(graph("labels", lambda t: t[1:]), "does not hold labels"),
    "labels of floats": Case(graph("labels", lambda t: t.float()), "does not hold labels"),
    "a test label": Case(graph("labels", at(35, 1)), LABEL),
    "a label of no part": Case(graph("labels", at(59, 1)), LABEL),
    "a training label missing": Case(graph("labels", at(0, -1)), LABEL),
    "a validation label missing": Case(graph("labels", at(25, -1)), LABEL),
    "a label too high": Case(graph("labels", at(0, 3)), LABEL),
    "a label too low": Case(graph("labels", at(0, -2)), LABEL),
    "an edge too far": Case(graph("edges.column", at(0, ROWS)), NO_ROWS),
    "a negative edge": Case(graph("edges.column", at(0, -1)), NO_ROWS),
    "edges of int64": Case(graph("edges.column", lambda t: t.long()), "not hold edges.column"),
    "an edge less": Case(graph("edges.column", lambda t: t[1:]), NO_ROWS),
    "starts that fall": Case(graph("edges.start", at(3, 0)), NO_ROWS),
    "starts beyond the end": Case(graph("edges.start", at(1, 10_000)), "edge"),
    "negative starts": Case(graph("edges.start", at(20, -4)), "edge"),
    "starts not from 0": Case(graph("edges.start", at(0, 1)), "edge"),
    "starts of floats": Case(graph("edges.start", lambda t: t.float()), "not hold edges.start"),
    "a start less": Case(graph("edges.start", lambda t: t[:-1]), "does not hold edges.start"),
    "other degrees": Case(graph("degrees", at(0, 3)), "the degrees are not those of the edges"),
    "parts that overlap": Case(graph("val", at(0, 19)), NO_PART),
    "train is val": Case(of_another_split, NO_PART),
    "a row repeated in a part": Case(graph("test", at(1, 30)), NO_PART),
    "a row too high in a part": Case(graph("test", at(-1, ROWS)), NO_PART),
    "a negative row in a part": Case(graph("train", at(0, -1)), NO_PART),
    "a part of int32": Case(graph("train", lambda t: t.int()), "does not hold train"),
    "a part of rank 2": Case(graph("train", lambda t: t[None]), "does not hold train"),
}


@pytest.mark.parametrize("name", SHARDS)
def test_a_shard_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    check(SHARDS[name], tmp_path / "cache")


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_part_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    check(GRAPHS[name], tmp_path / "cache")


ONLY_VERIFIED: dict[str, Case] = {
    "a class twice in a row": Case(
        rows(LOGITS, lambda t: t[:, [0, 0]], f"{LOGITS}.index"), "names a class twice", "compact"
    ),
    "neighbours out of order": Case(
        graph("edges.column", lambda t: t[[1, 0, *range(2, 2 * ROWS)]]), "twice or out of order"
    ),
    "a neighbour twice": Case(graph("edges.column", at(3, 0)), "twice or out of order"),
}


@pytest.mark.parametrize("name", ONLY_VERIFIED)
def test_what_only_a_full_check_can_find(tmp_path: Path, name: str) -> None:
    """It does not make training fail, so opening does not look for it."""
    case = ONLY_VERIFIED[name]
    case.edit(write_cache(tmp_path / "cache", case.kind))
    with pytest.raises(IntegrityError, match=case.said):
        read_all(tmp_path / "cache")


def test_empty_parts_and_edges_are_no_lie(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")

    def empty(content: dict[str, Tensor]) -> None:
        content["labels"][20:30] = -1
        content["val"] = content["val"][:0]
        content["edges.column"] = content["edges.column"][:0]
        content["edges.start"].zero_()
        content["degrees"].zero_()

    tensors(GRAPH, empty)(cache)
    for shard in range(3):
        rows(EDGES, lambda t: t[:0], shard=shard)(cache)
    read_all(cache)


def test_a_forged_copy_of_a_sound_cache_is_sound(tmp_path: Path) -> None:
    """The tools that forge do no harm of their own."""

    def nothing(content: Any) -> None:
        """Leave it as it is."""

    for edit in (forged(nothing), manifest(nothing), tensors(FIRST, nothing), header(FIRST, str)):
        cache = write_cache(tmp_path / str(id(edit)))
        edit(cache)
        read_all(cache)
