"""What a cache holds, in figures: for people, for programs, and for the record of its making."""

from typing import Any

from g2t.cache.format import Manifest
from g2t.cache.reader import Cache

SCHEMA = "g2t.cache-summary/1"


def describe(cache: Cache) -> dict[str, Any]:
    """Return `g2t.cache-summary/1`: one JSON object of what `g2t cache inspect` shows."""
    manifest = cache.manifest
    projection = manifest.projection_file
    return {
        "schema": SCHEMA,
        "path": str(cache.artifact.path),
        "digest": cache.artifact.digest,
        "rows": manifest.rows,
        "edges": len(cache.edges.column_E),
        "shards": len(manifest.shards),
        "shard_rows": manifest.shard_rows,
        "bytes": sum(file.bytes for file in manifest.files()),
        "task": manifest.task,
        "metric": manifest.metric,
        "classes": len(manifest.classes),
        "split_sizes": {part: len(getattr(cache.parts, part)) for part in ("train", "val", "test")},
        "graph": manifest.graph.model_dump(),
        "split": manifest.split.model_dump(),
        "teacher": manifest.teacher.model_dump(),
        "teachers": [member.model_dump(mode="json") for member in manifest.members],
        "temperature": manifest.temperature and manifest.temperature.model_dump(),
        "hops": manifest.hops,
        "projection": None
        if projection is None
        else {"bytes": projection.bytes, "digest": manifest.digest_of("projection")},
        "tensors": tensor_figures(manifest),
        "settings": dict(cache.artifact.config),
    }


def tensor_figures(manifest: Manifest) -> list[dict[str, Any]]:
    """Return for every tensor what it is, how much room it takes and how far it errs."""
    rows = []
    for entry in manifest.tensors:
        shards = manifest.shards_of(entry.name)
        rows.append(
            {
                **entry.model_dump(),
                "bytes": sum(shard.bytes for shard in shards),
                "shards": len(shards),
                "digest": manifest.digest_of(entry.name),
            }
        )
    return rows


def figures(manifest: Manifest) -> dict[str, Any]:
    """Return what `run.json` sums up of a cache: rows, bytes, and the error of each type."""
    return {
        "rows": manifest.rows,
        "bytes": sum(file.bytes for file in manifest.files()),
        "relative_error": {entry.name: entry.relative_error for entry in manifest.tensors},
    }
