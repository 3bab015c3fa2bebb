"""What a manifest must say to be one: names, kinds and types, and rows covered without a gap."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from g2t.cache.format import (
    CLUSTERS,
    CODES,
    EDGE_SCORES,
    FEATURES,
    GRAPH,
    LOGITS,
    PROJECTION,
    RELIABILITY,
    Manifest,
    ShardEntry,
    TensorEntry,
    layer_name,
    pre_layer_name,
    token_name,
)
from g2t.metrics import METRICS

FLOATS = ("fp32", "fp16", "bf16")
#: The types that each kind of tensor comes in.
TYPES = {
    "dense": (*FLOATS, "int8", "int16", "int32"),
    "csr": ("fp32",),
    "topk": FLOATS,
    "edge": FLOATS,
}
#: The types that only one tensor has, which has no other.
OWN_TYPES = {CODES: "int16", CLUSTERS: "int32"}
#: The kinds that a tensor comes in, where `dense` is not the only one.
KINDS = {FEATURES: ("dense", "csr"), LOGITS: ("dense", "topk"), EDGE_SCORES: ("edge",)}


def fault_of(manifest: Manifest) -> str | None:
    """Return the first thing in which a manifest contradicts itself, None if there is nothing."""
    return next(_faults(manifest), None)


def _faults(manifest: Manifest) -> Iterator[str]:
    names = [entry.name for entry in manifest.tensors]
    yield from (f"the manifest lists {name} twice" for name in _repeated(names))
    yield from _shard_faults(manifest)
    files = [shard.file for shard in manifest.files()]
    yield from (f"the manifest lists the file {file} twice" for file in _repeated(files))
    alone = [(manifest.graph_file, GRAPH), (manifest.projection_file, PROJECTION)]
    for found, wanted in alone:
        if found is not None and found.file != wanted:
            yield f"{found.file} stands in the place of {wanted}"
    single = "binary" if len(manifest.classes) == 2 else "multiclass"
    if manifest.task not in (single, "multilabel") or len(manifest.classes) < 2:
        yield f"{len(manifest.classes)} classes do not make a {manifest.task} task"
    if manifest.metric not in METRICS[manifest.task]:
        yield f"{manifest.metric} is no score of a {manifest.task} task"
    yield from _teacher_faults(manifest)
    for entry in manifest.tensors:
        yield from _entry_faults(entry)
    yield from _set_faults(manifest)


def _teacher_faults(manifest: Manifest) -> Iterator[str]:
    """Compare the teachers, where there are several, with each other and with the one of layers."""
    members = manifest.members
    if manifest.teachers is not None and len(members) < 2:
        yield f"it lists {len(members)} teachers where there must be several"
        return
    yield from (f"it lists teacher {one} twice" for one in _repeated(m.digest for m in members))
    first, others = members[0], members[1:]
    if (first.name, first.digest) != (manifest.teacher.name, manifest.teacher.digest):
        yield "its teacher is not the first of its teachers"
    if "layers" not in first.roles or any(other.roles != ("logits",) for other in others):
        yield "the first of its teachers gives the layers, every other one logits alone"


def _shard_faults(manifest: Manifest) -> Iterator[str]:
    """Compare every tensor's shards with the rows that they must cover."""
    shards: defaultdict[str, list[ShardEntry]] = defaultdict(list)
    for shard in manifest.shards:
        shards[shard.tensor].append(shard)
    known = {entry.name for entry in manifest.tensors}
    yield from (f"there is a shard of {name}, which is no tensor" for name in shards.keys() - known)
    for name in sorted(known):
        end = 0
        for shard in sorted(shards[name], key=lambda shard: shard.start):
            if shard.start != end:
                yield f"{name} has a gap or overlap at row {end}"
            end = shard.stop
        if end != manifest.rows:
            yield f"{name} covers {end} of {manifest.rows} rows"
    for shard in manifest.shards:  # readers find a row's shard by division
        whole = shard.start % manifest.shard_rows == 0
        if not whole or shard.stop != min(shard.start + manifest.shard_rows, manifest.rows):
            yield f"{shard.file} does not hold {manifest.shard_rows} rows as all but a last must"


def _entry_faults(entry: TensorEntry) -> Iterator[str]:
    """Compare a tensor's kind, type and top k with each other and with its name."""
    if entry.kind not in KINDS.get(entry.name, ("dense",)):
        yield f"{entry.name} cannot be of kind {entry.kind}"
    own = OWN_TYPES.get(entry.name)
    fits = entry.dtype == own if own else entry.dtype not in OWN_TYPES.values()
    if entry.dtype not in TYPES[entry.kind] or not fits:
        yield f"{entry.name} cannot be {entry.dtype} and of kind {entry.kind}"
    if entry.name == RELIABILITY and entry.dtype == "int8":
        yield f"{entry.name} cannot be int8: its values would leave 0 … 1"
    if (entry.kind == "topk") != (entry.topk is not None) or (entry.topk or 1) > entry.width:
        yield f"{entry.name} of width {entry.width} and kind {entry.kind} keeps {entry.topk} values"
    if entry.name in (EDGE_SCORES, RELIABILITY, CLUSTERS) and entry.width != 1:
        yield f"{entry.name} has {entry.width} columns, not one"


def _set_faults(manifest: Manifest) -> Iterator[str]:
    """Compare the tensors with each other, and with what the manifest says of hops and layers."""
    entries = {entry.name: entry for entry in manifest.tensors}
    if FEATURES not in entries:
        yield f"it has no {FEATURES}"
        return
    projected = manifest.projection_file is not None
    found = _numbers(entries, "tokens-")
    if found != list(range(0 if projected else 1, len(found) + (not projected))):
        yield f"hop tokens {found} have a gap, or no projection that belongs to them"
    if manifest.hops != max(found, default=0) or (projected and not found):
        yield f"the manifest says {manifest.hops} hops, and there are tokens of {found}"
    layers = manifest.teacher.layers
    yield from _layer_faults(entries, layers)
    if LOGITS in entries and entries[LOGITS].width != len(manifest.classes):
        yield f"{LOGITS} has {entries[LOGITS].width} columns for {len(manifest.classes)} classes"
    if manifest.task == "multilabel" and LOGITS in entries and entries[LOGITS].kind == "topk":
        yield f"{LOGITS} of a multilabel task cannot be of kind topk"
    if CODES in entries and entries[CODES].width != layers:
        yield f"{CODES} has {entries[CODES].width} columns for a teacher of {layers} layers"
    named, columns = manifest.feature_names, entries[FEATURES].width
    if named is not None and not len(named) == len(set(named)) == columns:
        yield f"it gives {len(named)} names, some maybe twice, to {columns} feature columns"
    width = entries[token_name(0) if projected else FEATURES].width
    for name in map(token_name, found):
        if entries[name].width != width:
            yield f"{name} has {entries[name].width} columns, not {width}"


def _layer_faults(entries: Mapping[str, TensorEntry], layers: int) -> Iterator[str]:
    """Compare the layers, after and before their activation, with their number and each other."""
    for stem in ("teacher-h", "teacher-p"):
        for layer in _numbers(entries, stem):
            if not 1 <= layer <= layers:
                yield f"it holds {stem}{layer} of a teacher of {layers} layers"
    for layer in _numbers(entries, "teacher-p"):
        before, after = entries[pre_layer_name(layer)], entries.get(layer_name(layer))
        if after is not None and after.width != before.width:
            yield f"{before.name} has {before.width} columns, {after.name} {after.width}"


def _numbers(names: Iterable[str], stem: str) -> list[int]:
    """Return the ascending numbers n of those names that are `stem` and n."""
    found = (re.fullmatch(rf"{stem}(0|[1-9]\d{{0,5}})", name) for name in names)
    return sorted(int(match[1]) for match in found if match is not None)


def _repeated(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
