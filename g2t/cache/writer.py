"""Writing a cache shard by shard, so that an interrupted export goes on where it stopped.

A shard gets its name by a rename after a sync, so one that exists is whole. Its digest is taken
while its bytes are still in memory and kept in `OUT.partial/scratch/` until the commit.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from g2t.artifact import SCRATCH, file_identity, read_json, sync, write_json
from g2t.cache.codec import encode
from g2t.cache.format import DtypeName, ShardEntry, TensorEntry, shard_name
from g2t.errors import IntegrityError
from g2t.graph.bundle import feature_tensors
from g2t.graph.csr import Csr
from g2t.tensors import load_facts, save_tensors


class CacheWriter:
    """Writes the shards of tensors into the partial directory of a cache.

    Shard i of every tensor holds rows [i · shard_rows, (i + 1) · shard_rows), the last one fewer.
    """

    def __init__(self, folder: Path, rows: int, shard_rows: int) -> None:
        self.folder = folder
        self.rows = rows
        self.shard_rows = shard_rows
        (folder / SCRATCH).mkdir(exist_ok=True)

    @property
    def shards(self) -> int:
        """How many shards every tensor has."""
        return -(-self.rows // self.shard_rows)

    def span(self, index: int) -> tuple[int, int]:
        """Return the rows [start, stop) of a shard."""
        start = index * self.shard_rows
        return start, min(start + self.shard_rows, self.rows)

    def is_done(self, name: str, index: int) -> bool:
        """Tell whether a shard stands already, whole and with these rows."""
        return self._finished(name, index) is not None

    def write(self, name: str, index: int, tensors: Mapping[str, Tensor], error: float) -> None:
        """Write one shard; the same rows give the same bytes, whoever writes them."""
        path, facts = self.folder / shard_name(name, index), self._facts(name, index)
        self.write_file(path.name, tensors, {**facts, "relative_error": error})

    def write_file(self, file: str, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
        """Write a file of the cache under its name only when it is whole, and note its digest."""
        path = self.folder / file
        temporary = path.with_name(f"{file}.{os.getpid()}.tmp")
        save_tensors(temporary, tensors, facts)
        self.adopt(temporary, file)

    def adopt(self, temporary: Path, file: str) -> None:
        """Take a file written elsewhere in the folder as a file of the cache."""
        sync(temporary)
        write_json(self._note(file), file_identity(temporary))
        temporary.replace(self.folder / file)

    def write_rows(
        self, name: str, index: int, rows: Tensor, dtype: DtypeName, topk: int | None = None
    ) -> None:
        """Encode the float rows [N, W] of a shard and write it."""
        tensors, error = encode(name, rows, dtype, topk)
        self.write(name, index, tensors, error)

    def write_sparse(self, name: str, index: int, rows: Csr) -> None:
        """Write a shard of sparse features, exactly as they are."""
        self.write(name, index, feature_tensors(rows), 0.0)

    def entries(self, tensor: TensorEntry) -> tuple[TensorEntry, list[ShardEntry]]:
        """Describe a finished tensor and its shards for the manifest.

        Raises IntegrityError where a shard is not there.
        """
        shards, errors = [], [0.0]
        for index in range(self.shards):
            error = self._finished(tensor.name, index)
            if error is None:
                raise IntegrityError(f"{self.folder / shard_name(tensor.name, index)} is missing")
            errors.append(error)
            start, stop = self.span(index)
            shards.append(self.file_entry(tensor.name, shard_name(tensor.name, index), start, stop))
        return tensor.model_copy(update={"relative_error": max(errors)}), shards

    def file_entry(self, tensor: str, file: str, start: int, stop: int) -> ShardEntry:
        """Describe a finished file for the manifest."""
        known = self.identity(file)
        return ShardEntry(tensor=tensor, file=file, start=start, stop=stop, **known)

    def identity(self, file: str) -> dict[str, Any]:
        """Return `bytes` and `xxh3_128` of a finished file, noted when it was written."""
        path, note = self.folder / file, self._note(file)
        try:
            known = read_json(note)
        except IntegrityError:
            known = {}
        if known.get("bytes") != path.stat().st_size:
            known = file_identity(path)
            write_json(note, known)
        return known

    def _note(self, file: str) -> Path:
        return self.folder / SCRATCH / f"{file}.digest"

    def _facts(self, name: str, index: int) -> dict[str, Any]:
        start, stop = self.span(index)
        return {"tensor": name, "start": start, "stop": stop}

    def _finished(self, name: str, index: int) -> float | None:
        """Return the recorded error of a shard that already holds these rows, else None."""
        path = self.folder / shard_name(name, index)
        if not path.exists():
            return None
        try:
            found = dict(load_facts(path))
        except IntegrityError:
            return None
        error = found.pop("relative_error", None)
        return float(error) if found == self._facts(name, index) and error is not None else None
