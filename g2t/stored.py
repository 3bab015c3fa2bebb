"""Tensors that stay in their safetensors file and are read, or written, by rows.

`load_tensors` brings a whole file into memory; here only a header is read, and rows follow with
`pread`, so what a process holds does not grow with the file (a mapped file would thrash once it
exceeds the free page cache).
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeGuard

import torch
from torch import Tensor

from g2t.errors import IntegrityError
from g2t.files import REMAKE, open_regular, parse_json, reading, shown, unreadable
from g2t.tensors import set_mode

#: In the order in which the safetensors library lays them out, for alignment.
DTYPES = {
    "I64": torch.int64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_PLACES = {dtype: place for place, dtype in enumerate(DTYPES.values())}

#: The longest header that is read; one of ours has a few tensors and less than a kilobyte.
MOST_HEADER = 1 << 20

#: Dimensions at most, and rows, columns and bytes at most.
MOST_DIMENSIONS, MOST_COUNT = 8, 2**63 - 1


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: `shape[0]` rows, the first of which begins at byte `offset`."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Return rows [start, stop) as a new tensor; raises IntegrityError if the file is short."""
        end = len(self) if stop is None else stop
        rows = torch.empty((end - start, *self.shape[1:]), dtype=self.dtype)
        self.read_into(start, rows)
        return rows

    def read_into(self, start: int, rows: Tensor) -> None:
        """Fill a contiguous tensor with the rows that begin at `start`."""
        if rows.numel() == 0:
            return
        view = _bytes_of(rows)
        position = self.offset + start * self.row_bytes
        try:
            file = open_regular(self.path)
            try:
                while len(view):
                    count = os.preadv(file, [view], position)
                    if count == 0:
                        raise IntegrityError(f"{self.path} was cut short while it was read", REMAKE)
                    view, position = view[count:], position + count
            finally:
                os.close(file)
        except OSError as error:
            raise unreadable(self.path, error) from None


def _bytes_of(rows: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor."""
    data: Any = rows.detach().view(-1).view(torch.uint8).numpy()
    return memoryview(data)


def open_stored(path: Path) -> dict[str, Stored]:
    """Read a safetensors header and return its tensors, none of them loaded.

    Raises what `read_header` raises.
    """
    return read_header(path)[0]


def read_header(path: Path) -> tuple[dict[str, Stored], Any]:
    """Read a safetensors header: its tensors, none of them loaded, and the facts, None if none.

    Raises IntegrityError where the file is missing or its header does not describe its bytes,
    InputError where it cannot be read.
    """
    with reading(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise IntegrityError(f"{path} is damaged: its header is longer than the file", REMAKE)
        if length > MOST_HEADER:
            raise IntegrityError(f"{path} is damaged: its header has {length} bytes", REMAKE)
        text = file.read(length)
    try:
        header = parse_json(text)
        facts = _facts(header.pop("__metadata__", {}))
        return _tensors(path, header, 8 + length, size), facts
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: in its header, {error}", REMAKE) from None


def _facts(metadata: Any) -> Any:
    """Return what `save_tensors` was given to put beside the tensors."""
    text = metadata.get("g2t") if isinstance(metadata, dict) else None
    return None if text is None else parse_json(str(text).encode())


def _tensors(path: Path, header: dict[str, Any], start: int, size: int) -> dict[str, Stored]:
    """Check that the tensors of a header fill the rest of the file without gap or overlap."""
    spans, tensors = [], {}
    for name, facts in header.items():
        dtype, shape, (begin, end) = _described(name, facts)
        spans.append((begin, end))
        tensors[name] = Stored(path, dtype, shape, start + begin)
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ValueError("the tensors leave a gap or overlap")
        at = end
    if start + at != size:
        raise ValueError(f"the tensors end at byte {start + at}, and the file at {size}")
    return tensors


def _described(name: str, facts: Any) -> tuple[torch.dtype, tuple[int, ...], tuple[int, int]]:
    """Return type, shape and span of a tensor from its header; ValueError if they disagree."""
    fields = facts if isinstance(facts, dict) else {}
    dtype = DTYPES.get(str(fields.get("dtype")))
    shape, span = fields.get("shape"), fields.get("data_offsets")
    if dtype is None:
        raise ValueError(f"{shown(name)} has a type that g2t does not know")
    if not (_are_counts(shape) and _are_counts(span) and len(span) == 2):
        raise ValueError(f"{shown(name)} has a shape or place that cannot be")
    # An empty tensor's other dimensions must not overflow either, as torch counts strides by them.
    largest = math.prod(max(count, 1) for count in shape) * dtype.itemsize
    if largest > MOST_COUNT or math.prod(shape) * dtype.itemsize != span[1] - span[0]:
        raise ValueError(f"{shown(name)} has a shape that does not fit its bytes")
    return dtype, tuple(shape), (span[0], span[1])


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    """Tell whether a header's value is a short list of whole numbers that a file can have."""
    return (
        isinstance(values, list)
        and 1 <= len(values) <= MOST_DIMENSIONS
        and all(type(value) is int and 0 <= value <= MOST_COUNT for value in values)
    )


class TensorFile:
    """A safetensors file that is written by rows, in any order, and never held in memory.

        with TensorFile(path, {"x": (torch.float16, (1000, 8))}) as file:
            file.write("x", 0, rows)

    The same content gives the same bytes as `save_tensors` would.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
        facts: Any = None,
    ) -> None:
        header: dict[str, Any] = {}
        if facts is not None:
            header["__metadata__"] = {"g2t": json.dumps(facts, sort_keys=True)}
        end = 0
        for name in sorted(tensors, key=lambda name: (_PLACES[tensors[name][0]], name)):
            dtype, shape = tensors[name]
            begin, end = end, end + dtype.itemsize * math.prod(shape)
            header[name] = {
                "dtype": _NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [begin, end],
            }
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self.path = path
        self._file = path.open("wb", buffering=0)
        try:
            with self._naming_the_file():
                self._put(len(text).to_bytes(8, "little") + text, 0)
                self._file.truncate(8 + len(text) + end)
            self._stored = open_stored(path)
        except BaseException:
            self._file.close()
            raise

    def write(self, name: str, start: int, rows: Tensor) -> None:
        """Write rows [start, start + len(rows)) of a tensor; raises OSError on a full disk."""
        stored = self._stored[name]
        assert (rows.dtype, rows.shape[1:]) == (stored.dtype, stored.shape[1:])
        assert 0 <= start <= start + len(rows) <= len(stored)
        if rows.numel() == 0:
            return
        with self._naming_the_file():
            self._put(_bytes_of(rows.contiguous()), stored.offset + start * stored.row_bytes)

    def _put(self, data: bytes | memoryview, position: int) -> None:
        view = memoryview(data)
        while len(view):
            count = os.pwrite(self._file.fileno(), view, position)
            view, position = view[count:], position + count

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """What fails on a descriptor does not say on which file: add it, for the message."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                with self._naming_the_file():
                    os.fsync(self._file.fileno())
                set_mode(self.path)
