"""Opening a cache: sizes, digests, manifest, the header of every shard, ids, edges and split.

No tensor is read but those of `graph.safetensors`, so a cache of thousands of shards opens at once.
"""

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from g2t.artifact import RECORD, Artifact, open_artifact, read_json
from g2t.cache.format import FEATURES, MANIFEST, SCHEMA, Manifest
from g2t.cache.headers import check_projection, open_graph, open_shards
from g2t.cache.reader import Cache
from g2t.cache.rules import fault_of
from g2t.errors import IntegrityError
from g2t.files import REMAKE, shown
from g2t.task import labelled


def open_cache(path: Path, remembered: bool = True) -> Cache:
    """Open a cache and check that nothing in it contradicts anything else.

    With `remembered` false every file is hashed, whatever is remembered of it. Raises InputError if
    there is no cache, IntegrityError, naming the reason, if it was changed.
    """
    artifact = open_artifact(path, "cache", remembered)
    manifest = _read_manifest(path)
    _check_files(artifact, manifest)
    fault = fault_of(manifest)
    if fault is not None:
        raise IntegrityError(f"{path}: {fault}", REMAKE)
    graph = open_graph(path, manifest)
    _check_rows(Cache(artifact, manifest, graph, {}))
    cache = Cache(artifact, manifest, graph, open_shards(path, manifest, graph["edges.start"]))
    _check_projection(cache)
    return cache


def _read_manifest(path: Path) -> Manifest:
    content = read_json(path / MANIFEST)
    if content.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path} has cache schema {shown(content.get('schema'))}, this g2t reads {SCHEMA!r}",
            "upgrade g2t to read it",
        )
    try:
        return Manifest.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(
            f"{path / MANIFEST} is damaged at {where[:80]}: {first['msg']}",
            REMAKE,
        ) from None


def _check_files(artifact: Artifact, manifest: Manifest) -> None:
    """Raise IntegrityError unless the record answers for the manifest, and both for every file."""
    outputs = artifact.record["outputs"]
    if MANIFEST not in outputs:
        raise IntegrityError(f"{artifact.path / RECORD} does not answer for {MANIFEST}", REMAKE)
    for shard in manifest.files():
        known = outputs.get(shard.file)
        if known is None or (known["bytes"], known["xxh3_128"]) != (shard.bytes, shard.xxh3_128):
            raise IntegrityError(f"{artifact.path}: the manifest and {shard.file} disagree", REMAKE)


def _check_projection(cache: Cache) -> None:
    file, features = cache.manifest.projection_file, cache.entry(FEATURES)
    if file is not None:
        shape = (features.width, cache.entry("tokens-0").width)
        check_projection(cache.artifact.path, file.file, shape)


def _check_rows(cache: Cache) -> None:
    """Check the graph part: ids ascend, every set of rows and every label is in range."""
    sound = cache.edges.is_valid()
    faults = {
        "node ids are not ascending: rows were permuted or repeated": not _ascends(cache.ids),
        "the edges are no sparse rows, or one leads out of the cache's rows": not sound,
        "the degrees are not those of the edges": not torch.equal(
            cache.graph["degrees"], cache.edges.counts_N
        ),
        "a part of the split is no set of rows": not _are_parts(cache),
    }
    for fault, found in faults.items():
        if found:
            raise IntegrityError(f"{cache.artifact.path}: {fault}", REMAKE)
    if not _labels_fit(cache):
        raise IntegrityError(
            f"{cache.artifact.path}: a label is out of range, or a test label is in the cache",
            REMAKE,
        )


def _ascends(ids: Tensor) -> bool:
    first = ids[:1]
    return bool((ids.diff() > 0).all()) and bool((first >= 0).all())


def _are_parts(cache: Cache) -> bool:
    parts = (cache.parts.train, cache.parts.val, cache.parts.test)
    taken_N = torch.zeros(cache.rows, dtype=torch.bool)
    for rows in parts:
        if not _ascends(rows) or (len(rows) and int(rows[-1]) >= cache.rows):
            return False
        if bool(taken_N[rows].any()):
            return False
        taken_N[rows] = True
    return True


def _labels_fit(cache: Cache) -> bool:
    """Training and validation rows have labels that can be, all other rows have none."""
    seen = torch.zeros(cache.rows, dtype=torch.bool)
    seen[torch.cat([cache.parts.train, cache.parts.val])] = True
    labels, several = cache.labels, cache.manifest.task == "multilabel"
    limit = 2 if several else len(cache.manifest.classes)
    inside = bool(((labels >= -1) & (labels < limit)).all())
    return inside and torch.equal(labelled(labels), seen)
