"""The manifest of a cache whose files all stand."""

from collections.abc import Iterable, Mapping
from typing import Any

from g2t.cache.format import GRAPH, PROJECTION, SCHEMA, Manifest, TensorEntry
from g2t.cache.writer import CacheWriter


def assemble(
    writer: CacheWriter,
    entries: Iterable[TensorEntry],
    lineage: Mapping[str, Any],
    hops: int = 0,
    projected_from: int | None = None,
) -> Manifest:
    """Return the manifest of the writer's files.

    `lineage` is what it says of `task`, `metric`, `classes`, `graph`, `split`, `teacher`, and if it
    does of `feature_names`, `teachers` and `temperature`;
    `projected_from` are the columns of the features where there is a projection. Raises
    IntegrityError where a shard is missing.
    """
    found = [writer.entries(entry) for entry in entries]
    projection = None
    if projected_from is not None:
        projection = writer.file_entry("projection", PROJECTION, 0, projected_from)
    return Manifest.model_validate(
        {
            "schema": SCHEMA,
            "rows": writer.rows,
            "shard_rows": writer.shard_rows,
            "hops": hops,
            **lineage,
            "graph_file": writer.file_entry("graph", GRAPH, 0, writer.rows),
            "projection_file": projection,
            "tensors": tuple(entry for entry, _ in found),
            "shards": tuple(shard for _, shards in found for shard in shards),
        }
    )
