"""Writing a cache shard by shard, so that an interrupted export goes on where it stopped.

A shard gets its name by a rename after a sync, so one that exists is whole. Its digest is taken
while its bytes are still in memory and kept in `OUT.partial/scratch/` until the commit.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from g2t.artifact import SCRATCH, file_identity, read_json, sync, write_json
from g2t.cache.codec import TINY, encode, magnitude
from g2t.cache.format import DTYPES, ShardEntry, StoredDtype, TensorEntry, shard_name
from g2t.errors import IntegrityError
from g2t.graph.bundle import feature_tensors
from g2t.graph.csr import Csr
from g2t.stored import TensorFile
from g2t.tensors import load_facts, save_tensors


class RowStream(Protocol):
    """A shard that takes rows block by block, and stands when it is left."""

    def append(self, rows_BW: Tensor) -> None:
        """Take the next rows, float32."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class CacheWriter:
    """Writes the shards of tensors into the partial directory of a cache.

    Shard i of every tensor holds rows [i · shard_rows, (i + 1) · shard_rows), the last one fewer.
    """

    def __init__(self, folder: Path, rows: int, shard_rows: int) -> None:
        self.folder = folder
        self.rows = rows
        self.shard_rows = shard_rows

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

    def write_file(self, file: str, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
        """Write a file of the cache under its name only when it is whole, and note its digest."""
        temporary = self.temporary(file)
        save_tensors(temporary, tensors, facts)
        sync(temporary)
        self.adopt(temporary, file)

    def write(self, name: str, index: int, tensors: Mapping[str, Tensor], error: float) -> None:
        """Write one shard; the same rows give the same bytes, whoever writes them."""
        temporary = self.temporary(shard_name(name, index))
        save_tensors(temporary, tensors, self.facts(name, index))
        sync(temporary)
        self.adopt(temporary, shard_name(name, index), error)

    def write_rows(
        self, name: str, index: int, rows: Tensor, dtype: StoredDtype, topk: int | None = None
    ) -> None:
        """Encode the float rows [N, W] of a shard and write it."""
        tensors, error = encode(name, rows, dtype, topk)
        self.write(name, index, tensors, error)

    def write_sparse(self, name: str, index: int, rows: Csr) -> None:
        """Write a shard of sparse features, exactly as they are."""
        self.write(name, index, feature_tensors(rows), 0.0)

    def stream(
        self, name: str, index: int, width: int, dtype: StoredDtype, topk: int | None = None
    ) -> RowStream:
        """Open a shard that takes float rows block by block."""
        return ShardStream(self, name, index, width, dtype, topk)

    def temporary(self, file: str) -> Path:
        """Return where this process writes a file before it gets its name."""
        return temporary_of(self.folder / file)

    def adopt(self, temporary: Path, file: str, error: float = 0.0) -> None:
        """Give a synced file its name, after its digest and error were noted."""
        self.note(file, {**file_identity(temporary), "relative_error": error})
        temporary.replace(self.folder / file)

    def note(self, file: str, facts: Mapping[str, Any]) -> None:
        """Note `bytes`, `xxh3_128` and `relative_error` of a file of the cache."""
        # No parents: where another worker has just committed, OUT.partial must not come back.
        (self.folder / SCRATCH).mkdir(exist_ok=True)
        own = temporary_of(self._note(file))  # another worker may write the same
        write_json(own, facts)
        own.replace(self._note(file))

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
        note = self._read_note(file)
        if note is None:
            return file_identity(self.folder / file)
        return {key: note[key] for key in ("bytes", "xxh3_128")}

    def _read_note(self, file: str) -> dict[str, Any] | None:
        """Return what was noted of a file, None where nothing was or it is of another file."""
        try:
            note = read_json(self._note(file))
        except IntegrityError:
            return None
        path = self.folder / file
        return note if path.exists() and note.get("bytes") == path.stat().st_size else None

    def _note(self, file: str) -> Path:
        return self.folder / SCRATCH / f"{file}.digest"

    def facts(self, name: str, index: int) -> dict[str, Any]:
        """Return what the header of a shard says."""
        start, stop = self.span(index)
        return {"tensor": name, "start": start, "stop": stop}

    def _finished(self, name: str, index: int) -> float | None:
        """Return the noted error of a shard that already holds these rows, else None."""
        file = shard_name(name, index)
        note = self._read_note(file)
        try:
            held = note is not None and load_facts(self.folder / file) == self.facts(name, index)
        except IntegrityError:
            return None
        return float(note["relative_error"]) if held and note is not None else None


def temporary_of(path: Path) -> Path:
    """Return where this process writes a file before it gets its name.

    Workers on other hosts share the folder and may have the same process id.
    """
    return path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.tmp")


class ShardStream:
    """One shard while its rows arrive: plain types go to the file at once, others at the end.

    Only `int8` (a scale per column) and top-k hold a shard's rows in memory.
    """

    def __init__(
        self,
        writer: CacheWriter,
        name: str,
        index: int,
        width: int,
        dtype: StoredDtype,
        topk: int | None,
    ) -> None:
        self.writer, self.name, self.index = writer, name, index
        self.dtype, self.topk = dtype, topk
        self._file = shard_name(name, index)
        self._path = writer.temporary(self._file)
        start, stop = writer.span(index)
        self._rows, self._at = stop - start, 0
        self._error = self._most = 0.0
        self._held: list[Tensor] = []
        self._stream = None
        if topk is None and dtype != "int8":
            shape = {name: (DTYPES[dtype], (self._rows, width))}
            self._stream = TensorFile(self._path, shape, writer.facts(name, index))

    def append(self, rows_BW: Tensor) -> None:
        """Take the next rows, float32; raises InputError where they do not fit the type."""
        if self._stream is None:
            self._held.append(rows_BW.clone())
            return
        tensors, error = encode(self.name, rows_BW, self.dtype)
        most = magnitude(rows_BW)
        # `encode` divides by the block's largest magnitude; a shard's error is over the shard's.
        self._error, self._most = max(self._error, error * most), max(self._most, most)
        self._stream.write(self.name, self._at, tensors[self.name])
        self._at += len(rows_BW)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._stream.__exit__(kind, error, trace)
        if kind is not None:
            self._path.unlink(missing_ok=True)
        elif self._stream is None:
            rows = torch.cat(self._held)
            self.writer.write_rows(self.name, self.index, rows, self.dtype, self.topk)
        else:
            assert self._at == self._rows
            self.writer.adopt(self._path, self._file, self._error / max(self._most, TINY))
