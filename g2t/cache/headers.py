"""What the files of a cache hold, by their headers alone, compared with what the manifest says."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2t.cache.codec import stored_shapes
from g2t.cache.format import DTYPES, GRAPH, Manifest, ShardEntry, TensorEntry
from g2t.cache.reader import Shards
from g2t.errors import IntegrityError
from g2t.files import REMAKE
from g2t.stored import Stored, open_stored, read_header
from g2t.tensors import load_tensors

#: Type and shape of a tensor.
Facts = tuple[torch.dtype, tuple[int, ...]]
INT = torch.int64


def open_graph(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Return the tensors of `graph.safetensors`; raises IntegrityError where one is not as it must.

    Lengths that no other file tells (edges, parts of the split) are taken as they are.
    """
    path, rows = folder / GRAPH, manifest.rows
    several = manifest.task == "multilabel"
    found = _facts(open_stored(path))
    wanted: dict[str, Facts] = {
        "ids": (INT, (rows,)),
        "labels": (torch.int8, (rows, len(manifest.classes))) if several else (INT, (rows,)),
        "degrees": (INT, (rows,)),
        "edges.start": (INT, (rows + 1,)),
        "edges.column": (torch.int32, _length(found, "edges.column")),
        **{part: (INT, _length(found, part)) for part in ("train", "val", "test")},
    }
    fault = next((name for name in wanted if found.get(name) != wanted[name]), None)
    fault = fault or next(iter(found.keys() - wanted.keys()), None)
    if fault is not None:
        raise IntegrityError(f"{path} does not hold {fault} as a cache of {rows} rows must", REMAKE)
    return load_tensors(path)


def open_shards(folder: Path, manifest: Manifest, start_N: Tensor) -> dict[str, Shards]:
    """Read the header of every shard and return them by tensor, in the order of their rows.

    `start_N` are the starts of the edges. Raises IntegrityError for the first that does not hold
    what the manifest says.
    """
    entries = {entry.name: entry for entry in manifest.tensors}
    opened: dict[str, Shards] = {name: [] for name in entries}
    for shard in sorted(manifest.shards, key=lambda shard: shard.start):
        entry, path = entries[shard.tensor], folder / shard.file
        tensors, said = read_header(path)
        if _facts(tensors) != _wanted(entry, shard, tensors, start_N):
            rows = shard.stop - shard.start
            raise IntegrityError(
                f"{path} does not hold {rows} rows of {entry.name} as the manifest says",
                REMAKE,
            )
        if said is not None and not _is_of(shard, said):
            raise IntegrityError(
                f"{path} does not call itself rows {shard.start} … {shard.stop} of {entry.name}",
                REMAKE,
            )
        opened[shard.tensor].append((shard, tensors))
    return opened


def check_projection(folder: Path, file: str, shape: tuple[int, int]) -> None:
    """Raise IntegrityError unless a file holds a float32 `projection` of this shape, alone."""
    if _facts(open_stored(folder / file)) != {"projection": (torch.float32, shape)}:
        rows, columns = shape
        raise IntegrityError(
            f"{folder / file} does not hold a projection of {rows} × {columns}", REMAKE
        )


def _wanted(
    entry: TensorEntry, shard: ShardEntry, tensors: dict[str, Stored], start_N: Tensor
) -> dict[str, Facts]:
    rows = shard.stop - shard.start
    if entry.kind == "edge":
        count = int(start_N[shard.stop] - start_N[shard.start])
        return {entry.name: (DTYPES[entry.dtype], (count,))}
    if entry.kind == "csr":
        length = _length(_facts(tensors), "features.column")
        wanted: dict[str, Facts] = {
            "features.start": (INT, (rows + 1,)),
            "features.column": (torch.int32, length),
        }
        if "features.value" in tensors:
            wanted["features.value"] = (DTYPES[entry.dtype], length)
        return wanted
    return stored_shapes(entry, rows)


def _is_of(shard: ShardEntry, said: Any) -> bool:
    """Compare what a shard says of itself with the manifest: files of one shape stay apart."""
    own = {"tensor": shard.tensor, "start": shard.start, "stop": shard.stop}
    return isinstance(said, dict) and own.items() <= said.items()


def _facts(tensors: dict[str, Stored]) -> dict[str, Facts]:
    return {name: (stored.dtype, stored.shape) for name, stored in tensors.items()}


def _length(facts: dict[str, Facts], name: str) -> tuple[int, ...]:
    """Return the shape [n] that a tensor has, where n is free."""
    return facts[name][1][:1] if name in facts else ()
