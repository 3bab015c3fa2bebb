"""Reading a cache: checked when opened, then tensors by name.

No torch_geometric, no teacher, no graph artefact: a cache is self-contained.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from g2t.artifact import Artifact, open_artifact, read_json
from g2t.cache.format import (
    DTYPES,
    FEATURES,
    GRAPH,
    LOGITS,
    MANIFEST,
    SCHEMA,
    TOKENS,
    Manifest,
    TensorEntry,
    layer_name,
)
from g2t.errors import IntegrityError, UsageError
from g2t.graph.bundle import Parts, features_from
from g2t.graph.csr import Csr, Features
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

    def features(self) -> Features:
        """Return the node features, dense float32 or sparse, all rows."""
        entry = self._entry(FEATURES)
        parts = [features_from(tensors, entry.width) for tensors in self._shards(entry)]
        dense = [part for part in parts if isinstance(part, Tensor)]
        sparse = [part for part in parts if isinstance(part, Csr)]
        return torch.cat(dense).float() if dense else _stack(sparse)

    def tokens(self, hops: int) -> Tensor | None:
        """Return hop tokens Âx … Â^hops x as stored, [N, hops, F]; None if there are fewer."""
        return self._dense(TOKENS)[:, :hops] if 0 < hops <= self.manifest.hops else None

    def logits(self) -> Tensor:
        """Return the teacher's logits as stored, [N, C]."""
        return self._dense(LOGITS)

    def layer(self, layer: int) -> Tensor:
        """Return the embedding of teacher layer 1 … L as stored, [N, D]."""
        return self._dense(layer_name(layer))

    def _dense(self, name: str) -> Tensor:
        return torch.cat([tensors[name] for tensors in self._shards(self._entry(name))])

    def _entry(self, name: str) -> TensorEntry:
        entry = self.manifest.tensor(name)
        if entry is None:
            have = ", ".join(entry.name for entry in self.manifest.tensors)
            raise UsageError(
                f"cache {self.artifact.path} holds no {name}; it holds: {have}",
                "export it again with g2t export-features",
            )
        return entry

    def _shards(self, entry: TensorEntry) -> list[dict[str, Tensor]]:
        """Read a tensor's shards in order, checking shapes and type against the manifest."""
        shards = []
        for shard in self.manifest.shards_of(entry.name):
            path = self.artifact.path / shard.file
            tensors = load_tensors(path)
            _check_shard(path, tensors, entry, shard.stop - shard.start, self.manifest.hops)
            shards.append(tensors)
        return shards


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
    for shard in (manifest.graph_file, *manifest.shards):
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


def _check_shard(
    path: Path, tensors: dict[str, Tensor], entry: TensorEntry, rows: int, hops: int
) -> None:
    if entry.kind == "csr":
        start = tensors.get("features.start")
        column = tensors.get("features.column")
        fits = (
            start is not None
            and column is not None
            and len(start) == rows + 1
            and int(start[-1]) == len(column)
            and (len(column) == 0 or 0 <= int(column.min()) <= int(column.max()) < entry.width)
        )
    else:
        values = tensors.get(entry.name)
        shape = (rows, hops, entry.width) if entry.name == TOKENS else (rows, entry.width)
        fits = values is not None and values.shape == shape and values.dtype == DTYPES[entry.dtype]
    if not fits:
        raise IntegrityError(
            f"{path} does not hold {rows} rows of {entry.name} as the manifest says"
        )


def _stack(parts: list[Csr]) -> Csr:
    """Put blocks of sparse rows on top of each other."""
    counts_N = torch.cat([part.counts_N for part in parts])
    values = [part.value_E for part in parts if part.value_E is not None]
    return Csr(
        torch.nn.functional.pad(counts_N.cumsum(0), (1, 0)),
        torch.cat([part.column_E for part in parts]),
        torch.cat(values) if values else None,
        parts[0].width,
    )
