"""Reading a cache: checked when opened, then tensors by name, whole or by rows.

No torch_geometric, no teacher, no graph artefact: a cache is self-contained.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from g2t.artifact import Artifact
from g2t.cache.codec import decode, stored_shapes
from g2t.cache.format import (
    DTYPES,
    EDGE_SCORES,
    FEATURES,
    GRAPH,
    LOGITS,
    PROJECTION,
    Manifest,
    ShardEntry,
    TensorEntry,
    layer_name,
    token_name,
)
from g2t.errors import IntegrityError, UsageError
from g2t.graph.bundle import Parts
from g2t.graph.csr import Csr, Features
from g2t.stored import Stored, open_stored
from g2t.tensors import load_tensors


@dataclass(frozen=True)
class Cache:
    """An open cache. Row r of every tensor belongs to node `ids[r]`."""

    artifact: Artifact
    manifest: Manifest

    @property
    def rows(self) -> int:
        """The number of nodes with a row, N."""
        return self.manifest.rows

    @cached_property
    def _graph(self) -> dict[str, Tensor]:
        return load_tensors(self.artifact.path / GRAPH)

    @property
    def ids(self) -> Tensor:
        """The node ids of the rows, ascending int64 [N]."""
        return self._graph["ids"]

    @property
    def labels(self) -> Tensor:
        """Labels of training and validation rows, int64 [N]; -1 for all others."""
        return self._graph["labels"]

    @property
    def parts(self) -> Parts:
        """The split, as ascending row numbers."""
        return Parts(self._graph["train"], self._graph["val"], self._graph["test"])

    @property
    def edges(self) -> Csr:
        """The observed edges, by row number: row v lists its in-neighbours."""
        return Csr(self._graph["edges.start"], self._graph["edges.column"], None, self.rows)

    @cached_property
    def projection(self) -> Tensor | None:
        """The fixed projection of the features that tokens were made of, float32 [F, W], if any."""
        if self.manifest.projection_file is None:
            return None
        return load_tensors(self.artifact.path / PROJECTION)["projection"]

    def features(self) -> Features:
        """Return the node features, dense float32 or sparse, all rows."""
        entry = self.entry(FEATURES)
        if entry.kind == "dense":
            return self.whole(FEATURES).float()
        shards = self.manifest.shards_of(FEATURES)
        return _stack([self._sparse(entry, shard) for shard in shards])

    def tokens(self, hops: int) -> Tensor | None:
        """Return hop tokens Âx … Â^hops x as stored, [N, hops, F]; None if there are fewer."""
        if not 0 < hops <= self.manifest.hops:
            return None
        return torch.stack([self.whole(token_name(hop)) for hop in range(1, hops + 1)], 1)

    def logits(self) -> Tensor:
        """Return the teacher's logits, [N, C]."""
        return self.whole(LOGITS)

    def layer(self, layer: int) -> Tensor:
        """Return the embedding of teacher layer 1 … L, [N, D]."""
        return self.whole(layer_name(layer))

    def edge_scores(self) -> Tensor:
        """Return the teacher's score of every edge, in the order of `edges.column_E`, float [E]."""
        shards = [shard for _, shard in self.shards(self.entry(EDGE_SCORES))]
        return torch.cat([shard[EDGE_SCORES].read() for shard in shards])

    def whole(self, name: str) -> Tensor:
        """Return all rows of a dense or top-k tensor, as `Rows.read` does."""
        return self.open(name).read(0, self.rows)

    def open(self, name: str) -> "Rows":
        """Open a dense or top-k tensor for reading by rows; raises UsageError if it is not here."""
        entry = self.entry(name)
        return Rows(entry, self.manifest.shard_rows, [shard for _, shard in self.shards(entry)])

    def entry(self, name: str) -> TensorEntry:
        """Return the manifest's entry of a tensor; raises UsageError if the cache has none."""
        entry = self.manifest.tensor(name)
        if entry is None:
            have = ", ".join(entry.name for entry in self.manifest.tensors)
            raise UsageError(
                f"cache {self.artifact.path} holds no {name}; it holds: {have}",
                "g2t cache add writes what is missing",
            )
        return entry

    def shards(self, entry: TensorEntry) -> list[tuple[ShardEntry, dict[str, Stored]]]:
        """Open a tensor's shards in order, their headers checked against the manifest."""
        opened = []
        for shard in self.manifest.shards_of(entry.name):
            tensors = open_stored(self.artifact.path / shard.file)
            self._check_shard(entry, shard, tensors)
            opened.append((shard, tensors))
        return opened

    def _sparse(self, entry: TensorEntry, shard: ShardEntry) -> Csr:
        path = self.artifact.path / shard.file
        tensors = load_tensors(path)
        try:
            rows = Csr(
                tensors["features.start"],
                tensors["features.column"],
                tensors.get("features.value"),
                entry.width,
            )
            fits = (
                len(rows) == shard.stop - shard.start
                and rows.start_N.dtype == torch.int64
                and rows.column_E.dtype == torch.int32
                and rows.has_valid_starts()
                and _inside(rows.column_E, entry.width)
                and bool(rows.values().isfinite().all())
            )
        except (KeyError, IndexError, RuntimeError):
            fits = False
        if not fits:
            raise _mismatch(path, entry, shard)
        return rows

    def _check_shard(
        self, entry: TensorEntry, shard: ShardEntry, tensors: dict[str, Stored]
    ) -> None:
        path, rows = self.artifact.path / shard.file, shard.stop - shard.start
        if entry.kind == "edge":
            start_N = self._graph["edges.start"]
            count = int(start_N[shard.stop] - start_N[shard.start])
            wanted = {entry.name: (DTYPES[entry.dtype], (count,))}
        elif entry.kind == "csr":
            return  # checked where its rows are read
        else:
            wanted = stored_shapes(entry, rows)
        found = {name: (stored.dtype, stored.shape) for name, stored in tensors.items()}
        if found != wanted:
            raise _mismatch(path, entry, shard)


class Rows:
    """A dense or top-k tensor of a cache, read by rows, decoded, and never held as a whole."""

    def __init__(
        self, entry: TensorEntry, shard_rows: int, shards: list[dict[str, Stored]]
    ) -> None:
        self.entry = entry
        self.shard_rows = shard_rows
        self._shards = shards

    @property
    def dtype(self) -> torch.dtype:
        """The type that rows are returned in: float32 for int8 and top-k, else as stored."""
        decoded = self.entry.kind == "topk" or self.entry.dtype == "int8"
        return torch.float32 if decoded else DTYPES[self.entry.dtype]

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows [start, stop), [stop - start, W]; raises IntegrityError if one is not finite."""
        rows = torch.empty(stop - start, self.entry.width, dtype=self.dtype)
        self.read_into(start, rows)
        return rows

    def read_into(self, start: int, rows: Tensor) -> None:
        """Fill a contiguous tensor [n, W] of type `dtype` with rows [start, start + n)."""
        stop, at = start + len(rows), start
        while at < stop:
            index = at // self.shard_rows
            end = min(stop, (index + 1) * self.shard_rows)
            self._read_part(index, at - index * self.shard_rows, rows[at - start : end - start])
            at = end
        if rows.dtype.is_floating_point and not bool(rows.isfinite().all()):
            raise IntegrityError(f"{self.entry.name} holds NaN or infinite values")

    def _read_part(self, index: int, start: int, rows: Tensor) -> None:
        shard, name = self._shards[index], self.entry.name
        if self.dtype == DTYPES[self.entry.dtype] and self.entry.kind == "dense":
            shard[name].read_into(start, rows)
            return
        stop = start + len(rows)
        tensors = {
            key: stored.read() if key.endswith(".scale") else stored.read(start, stop)
            for key, stored in shard.items()
        }
        if self.entry.kind == "topk" and not _inside(tensors[f"{name}.index"], self.entry.width):
            raise IntegrityError(f"{name} names a class outside 0 … {self.entry.width - 1}")
        rows.copy_(decode(tensors, self.entry))


def _inside(index_E: Tensor, width: int) -> bool:
    return len(index_E) == 0 or 0 <= int(index_E.min()) <= int(index_E.max()) < width


def _mismatch(path: Path, entry: TensorEntry, shard: ShardEntry) -> IntegrityError:
    rows = shard.stop - shard.start
    return IntegrityError(f"{path} does not hold {rows} rows of {entry.name} as the manifest says")


def _stack(parts: list[Csr]) -> Csr:
    """Put blocks of sparse rows on top of each other."""
    counts_N = torch.cat([part.counts_N for part in parts])
    values = [part.value_E for part in parts if part.value_E is not None]
    if values and len(values) < len(parts):
        values = [part.values() for part in parts]
    return Csr(
        torch.nn.functional.pad(counts_N.cumsum(0), (1, 0)),
        torch.cat([part.column_E for part in parts]),
        torch.cat(values) if values else None,
        parts[0].width,
    )
