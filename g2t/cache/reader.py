"""Reading a cache: checked when opened, then tensors by name, whole or by rows.

No torch_geometric, no teacher, no graph artefact: a cache is self-contained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from g2t.artifact import Artifact
from g2t.cache.codec import decode, is_finite
from g2t.cache.format import (
    DTYPES,
    EDGE_SCORES,
    FEATURES,
    LOGITS,
    PROJECTION,
    Manifest,
    ShardEntry,
    TensorEntry,
    layer_name,
    token_name,
)
from g2t.errors import IntegrityError, UsageError
from g2t.files import REMAKE
from g2t.graph.bundle import Parts
from g2t.graph.csr import Csr, Features
from g2t.stored import Stored
from g2t.tensors import load_tensors

#: A tensor's shards in the order of their rows, each with what its file holds.
Shards = list[tuple[ShardEntry, dict[str, Stored]]]


@dataclass(frozen=True, eq=False)
class Cache:
    """An open cache, made by `g2t.cache.check.open_cache`. Row r belongs to node `ids[r]`.

    `graph` holds the tensors of `graph.safetensors`, `shards` the headers of all others by tensor.
    """

    artifact: Artifact
    manifest: Manifest
    graph: Mapping[str, Tensor]
    shards: Mapping[str, Shards]

    @property
    def rows(self) -> int:
        """The number of nodes with a row, N."""
        return self.manifest.rows

    @property
    def ids(self) -> Tensor:
        """The node ids of the rows, ascending int64 [N]."""
        return self.graph["ids"]

    @property
    def labels(self) -> Tensor:
        """Labels of training and validation rows, int64 [N] or int8 [N, C]; -1 for all others."""
        return self.graph["labels"]

    @property
    def parts(self) -> Parts:
        """The split, as ascending row numbers."""
        return Parts(self.graph["train"], self.graph["val"], self.graph["test"])

    @property
    def edges(self) -> Csr:
        """The observed edges, by row number: row v lists its in-neighbours."""
        return Csr(self.graph["edges.start"], self.graph["edges.column"], None, self.rows)

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
        return _stack([self.sparse(shard) for shard, _ in self.shards[FEATURES]])

    def tokens(self, hops: int) -> Tensor | None:
        """Return hop tokens Âx … Â^hops x as stored, [N, hops, F]; None if there are fewer."""
        if not 0 < hops <= self.manifest.hops:
            return None
        first = self.open(token_name(1))
        tokens_NKF = torch.empty(self.rows, hops, first.entry.width, dtype=first.dtype)
        for hop in range(hops):
            tokens_NKF[:, hop] = self.whole(token_name(hop + 1))
        return tokens_NKF

    def logits(self) -> Tensor:
        """Return the teacher's logits, [N, C]."""
        return self.whole(LOGITS)

    def layer(self, layer: int) -> Tensor:
        """Return the embedding of teacher layer 1 … L, [N, D]."""
        return self.whole(layer_name(layer))

    def edge_scores(self) -> Tensor:
        """Return the teacher's score of every edge, in the order of `edges.column_E`, float [E]."""
        self.entry(EDGE_SCORES)
        scores_E = torch.cat([part[EDGE_SCORES].read() for _, part in self.shards[EDGE_SCORES]])
        if not is_finite(scores_E):
            raise IntegrityError(
                f"{self.artifact.path}: {EDGE_SCORES} holds NaN or infinite values",
                REMAKE,
            )
        return scores_E

    def whole(self, name: str) -> Tensor:
        """Return all rows of a dense or top-k tensor, as `Rows.read` does."""
        return self.open(name).read(0, self.rows)

    def open(self, name: str) -> "Rows":
        """Open a dense or top-k tensor for reading by rows; raises UsageError if it is not here."""
        entry = self.entry(name)
        shards = [tensors for _, tensors in self.shards[name]]
        return Rows(entry, self.manifest.shard_rows, shards)

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

    def sparse(self, shard: ShardEntry) -> Csr:
        """Return the sparse features of one shard; raises IntegrityError where they are none."""
        entry, path = self.entry(FEATURES), self.artifact.path / shard.file
        tensors = load_tensors(path)
        rows = Csr(
            tensors["features.start"],
            tensors["features.column"],
            tensors.get("features.value"),
            entry.width,
        )
        if not rows.is_valid():
            raise IntegrityError(f"{path} holds no sparse rows of {entry.width} columns", REMAKE)
        if rows.value_E is not None and not is_finite(rows.value_E):
            raise IntegrityError(f"{path}: {entry.name} holds NaN or infinite values", REMAKE)
        return rows


class Rows:
    """A dense or top-k tensor of a cache, read by rows, decoded, and never held as a whole."""

    def __init__(
        self, entry: TensorEntry, shard_rows: int, shards: list[dict[str, Stored]]
    ) -> None:
        self.entry = entry
        self.shard_rows = shard_rows
        self._shards = shards
        self._counted = f"{entry.name}.rest" if entry.kind == "topk" else entry.name

    def __len__(self) -> int:
        last = len(self._shards) - 1
        return last * self.shard_rows + len(self._shards[last][self._counted])

    @property
    def dtype(self) -> torch.dtype:
        """The type that rows are returned in: float32 for int8 and top-k, else as stored."""
        decoded = self.entry.kind == "topk" or self.entry.dtype == "int8"
        return torch.float32 if decoded else DTYPES[self.entry.dtype]

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows [start, stop), [stop - start, W].

        Raises IndexError for rows that are not there, IntegrityError if one is not finite.
        """
        rows = torch.empty(stop - start, self.entry.width, dtype=self.dtype)
        self.read_into(start, rows)
        return rows

    def read_into(self, start: int, rows: Tensor) -> None:
        """Fill a contiguous tensor [n, W] of type `dtype` with rows [start, start + n)."""
        stop, at = start + len(rows), start
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start} … {stop} of {len(self)} rows of {self.entry.name}")
        while at < stop:
            index = at // self.shard_rows
            end = min(stop, (index + 1) * self.shard_rows)
            part = rows[at - start : end - start]
            self._read_part(index, at - index * self.shard_rows, part)
            if part.dtype.is_floating_point and not is_finite(part):
                raise IntegrityError(
                    f"{self._file(index)}: {self.entry.name} holds NaN or infinite values",
                    REMAKE,
                )
            at = end

    def _read_part(self, index: int, start: int, rows: Tensor) -> None:
        shard, name = self._shards[index], self.entry.name
        if self.dtype == DTYPES[self.entry.dtype] and self.entry.kind == "dense":
            shard[name].read_into(start, rows)
            return
        tensors = self.read_stored(index, start, start + len(rows))
        rows.copy_(decode(tensors, self.entry))

    def read_stored(self, index: int, start: int, stop: int) -> dict[str, Tensor]:
        """Return rows [start, stop) of a shard as they are stored, not decoded.

        Raises IntegrityError where a top-k row names a class that is not there.
        """
        tensors = {
            key: stored.read() if key.endswith(".scale") else stored.read(start, stop)
            for key, stored in self._shards[index].items()
        }
        name, width = self.entry.name, self.entry.width
        if self.entry.kind == "topk" and not _inside(tensors[f"{name}.index"], width):
            raise IntegrityError(
                f"{self._file(index)}: {name} names a class outside 0 … {width - 1}",
                REMAKE,
            )
        return tensors

    def _file(self, index: int) -> Path:
        return self._shards[index][self._counted].path


def _inside(index_E: Tensor, width: int) -> bool:
    return len(index_E) == 0 or 0 <= int(index_E.min()) <= int(index_E.max()) < width


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
