"""What is checked of a cache whenever it is opened: sizes, digests, manifest, coverage, rows."""

from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from g2t.artifact import Artifact, open_artifact, read_json
from g2t.cache.format import GRAPH, MANIFEST, SCHEMA, Manifest
from g2t.cache.reader import Cache
from g2t.errors import IntegrityError
from g2t.graph.bundle import Parts
from g2t.graph.csr import Csr


def open_cache(path: Path) -> Cache:
    """Open a cache and check sizes, digests, manifest, row coverage and ids.

    Raises InputError if there is none, IntegrityError, naming the reason, if it was changed.
    """
    artifact = open_artifact(path, "cache")
    content = read_json(path / MANIFEST)
    if content.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path} has cache schema {content.get('schema')!r}, this g2t reads {SCHEMA!r}",
            "upgrade g2t to read it",
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"{path / MANIFEST} is damaged at {where}: {first['msg']}") from None
    _check_shards(artifact, manifest)
    cache = Cache(artifact, manifest)
    _check_rows(cache)
    return cache


def _check_shards(artifact: Artifact, manifest: Manifest) -> None:
    """Compare the manifest with the recorded files, and each tensor's shards with the row count."""
    outputs = artifact.record["outputs"]
    for shard in manifest.files():
        known = outputs.get(shard.file)
        if known is None or (known["bytes"], known["xxh3_128"]) != (shard.bytes, shard.xxh3_128):
            raise IntegrityError(f"{artifact.path}: the manifest and {shard.file} disagree")
    for entry in manifest.tensors:
        end = 0
        for shard in manifest.shards_of(entry.name):
            if shard.start != end:
                raise IntegrityError(
                    f"{artifact.path}: {entry.name} has a gap or overlap at row {end}"
                )
            end = shard.stop
        if end != manifest.rows:
            raise IntegrityError(
                f"{artifact.path}: {entry.name} covers {end} of {manifest.rows} rows"
            )


def _check_rows(cache: Cache) -> None:
    """Check the graph part: ids ascend, every set of rows and every label is in range."""
    where, rows = cache.artifact.path, cache.rows
    try:
        faults = {
            "node ids are not ascending: rows were permuted or repeated": not _ascends(cache.ids),
            f"there are not {rows} ids, labels and edge rows": {
                len(cache.ids),
                len(cache.labels),
                len(cache.edges),
            }
            != {rows},
            "the edges are no sparse rows, or one leads out of the cache's rows": not _is_csr(
                cache.edges, rows
            ),
            "a part of the split is no set of rows": not _are_parts(cache.parts, rows),
            "a label is out of range, or a test label is in the cache": not _labels_fit(cache),
        }
    except (KeyError, IndexError, RuntimeError, TypeError) as error:
        raise IntegrityError(f"{where}: {GRAPH} is damaged: {error}") from None
    for fault, found in faults.items():
        if found:
            raise IntegrityError(f"{where}: {fault}")


def _ascends(ids: Tensor) -> bool:
    return ids.dtype == torch.int64 and bool((ids.diff() > 0).all()) and int(ids.min()) >= 0


def _is_csr(edges: Csr, rows: int) -> bool:
    column_E = edges.column_E
    inside = len(column_E) == 0 or 0 <= int(column_E.min()) <= int(column_E.max()) < rows
    return edges.has_valid_starts() and inside


def _are_parts(parts: Parts, rows: int) -> bool:
    every = torch.cat([parts.train, parts.val, parts.test])
    inside = bool(((every >= 0) & (every < rows)).all())
    return every.dtype == torch.int64 and inside and len(torch.unique(every)) == len(every)


def _labels_fit(cache: Cache) -> bool:
    """Training and validation rows have a label of the classes, all other rows have none."""
    seen = torch.zeros(cache.rows, dtype=torch.bool)
    seen[torch.cat([cache.parts.train, cache.parts.val])] = True
    labels, classes = cache.labels, len(cache.manifest.classes)
    right = torch.where(seen, (labels >= 0) & (labels < classes), labels == -1)
    return labels.dtype == torch.int64 and bool(right.all())
