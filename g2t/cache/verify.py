"""Reading every number of a cache once, which opening leaves out because it takes its time.

Opening finds what was changed after the writing; this finds what was written wrongly.
"""

from typing import Any

import torch
from torch import Tensor

from g2t.cache.codec import is_finite, magnitude
from g2t.cache.format import (
    CLUSTERS,
    CODES,
    EDGE_SCORES,
    GRAPH,
    PROJECTION,
    RELIABILITY,
    TensorEntry,
)
from g2t.cache.reader import Cache
from g2t.errors import IntegrityError
from g2t.files import REMAKE
from g2t.runtime import Progress, Silent

SCHEMA = "g2t.cache-verification/1"

#: Bytes that are looked at in one go.
PIECE = 1 << 24


def verify(cache: Cache, progress: Progress | None = None) -> dict[str, Any]:
    """Read every tensor of an open cache once and return `g2t.cache-verification/1`.

    For the digests to count, open it with `remembered=False`. Raises IntegrityError for the first
    number that is not finite, index that is out of range, or row that names something twice.
    """
    show, path = progress or Silent(), cache.artifact.path
    _check_edges(cache)
    entries = cache.manifest.tensors
    for done, entry in enumerate(entries, 1):
        _check_tensor(cache, entry)
        show.update("verify", done, len(entries), {})
    if cache.projection is not None and not is_finite(cache.projection):
        raise IntegrityError(f"{path / PROJECTION} holds NaN or infinite values", REMAKE)
    outputs = cache.artifact.record["outputs"]
    return {
        "schema": SCHEMA,
        "path": str(path),
        "digest": cache.artifact.digest,
        "rows": cache.rows,
        "tensors": [entry.name for entry in entries],
        "files": len(outputs),
        "bytes": sum(output["bytes"] for output in outputs.values()),
    }


def _check_edges(cache: Cache) -> None:
    """Raise IntegrityError where a row names its neighbours out of order or twice."""
    start_N, column_E = cache.edges.start_N, cache.edges.column_E
    step, last = PIECE // column_E.itemsize, len(column_E) - 1
    for begin in range(0, last, step):
        end = min(begin + step, last)
        falls = (column_E[begin + 1 : end + 1] <= column_E[begin:end]).nonzero().flatten()
        edge = falls + (begin + 1)
        # A column may be no larger than the one before only where a row begins.
        wrong = edge[start_N[torch.searchsorted(start_N, edge)] != edge]
        if len(wrong):
            row = int(torch.searchsorted(start_N, wrong[:1], right=True)) - 1
            raise IntegrityError(
                f"{cache.artifact.path / GRAPH}: row {row} names a neighbour twice or out of order",
                REMAKE,
            )


def _check_tensor(cache: Cache, entry: TensorEntry) -> None:
    if entry.kind == "csr":
        for shard, _ in cache.shards[entry.name]:
            cache.sparse(shard)
    elif entry.kind == "edge":
        _check_scores(cache, entry)
    else:
        _check_dense(cache, entry)


def _check_scores(cache: Cache, entry: TensorEntry) -> None:
    for shard, tensors in cache.shards[entry.name]:
        stored = tensors[EDGE_SCORES]
        step = PIECE // stored.row_bytes
        for start in range(0, len(stored), step):
            scores = stored.read(start, min(start + step, len(stored)))
            if not is_finite(scores) or magnitude(scores) > 1:
                file = cache.artifact.path / shard.file
                raise IntegrityError(f"{file}: {entry.name} leaves -1 … 1", REMAKE)


def _check_dense(cache: Cache, entry: TensorEntry) -> None:
    """Read the rows of a dense or top-k tensor; the reader itself refuses what is not finite."""
    rows = cache.open(entry.name)
    step = max(1, PIECE // (4 * entry.width))
    for index, (shard, _) in enumerate(cache.shards[entry.name]):
        for start in range(shard.start, shard.stop, step):
            stop = min(start + step, shard.stop)
            fault = _fault_of(entry, rows.read(start, stop))
            if entry.kind == "topk":
                stored = rows.read_stored(index, start - shard.start, stop - shard.start)
                classes_NK = stored[f"{entry.name}.index"].sort(1).values
                if bool((classes_NK.diff(dim=1) == 0).any()):
                    fault = "a row names a class twice"
            if fault:
                file = cache.artifact.path / shard.file
                raise IntegrityError(f"{file}: {entry.name}: {fault}", REMAKE)


def _fault_of(entry: TensorEntry, values: Tensor) -> str:
    """Return what is wrong with numbers whose range is known, "" if nothing."""
    if entry.name == CODES and bool((values < 0).any()):
        return "a code is negative"
    if entry.name == CLUSTERS and bool((values < 0).any()):
        return "a cluster is negative"
    if entry.name == RELIABILITY and bool(((values < 0) | (values > 1)).any()):
        return "a value leaves 0 … 1"
    return ""
