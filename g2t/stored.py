"""Tensors that stay in their safetensors file and are read, or written, by rows.

`load_tensors` brings a whole file into memory; here only a header is read, and rows follow with
`pread`, so what a process holds does not grow with the file (a mapped file would thrash once it
exceeds the free page cache).
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from g2t.errors import InputError, IntegrityError
from g2t.tensors import set_mode

DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}

#: The longest header that is read, as in the safetensors library.
MOST_HEADER = 100_000_000


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
        view = memoryview(rows.view(-1).view(torch.uint8).numpy())
        position = self.offset + start * self.row_bytes
        try:
            file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            raise IntegrityError(f"{self.path} is missing from its artefact") from None
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error
        try:
            while len(view):
                count = os.preadv(file, [view], position)
                if count == 0:
                    raise IntegrityError(f"{self.path} was cut short while it was read")
                view, position = view[count:], position + count
        finally:
            os.close(file)


def open_stored(path: Path) -> dict[str, Stored]:
    """Read a safetensors header and return its tensors, none of them loaded.

    Raises IntegrityError where the file is missing or its header does not describe its bytes.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, MOST_HEADER):
                raise IntegrityError(f"{path} is damaged: its header is longer than the file")
            header = json.loads(file.read(length))
        return _tensors(path, header, 8 + length, size)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing from its artefact") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged: its header cannot be read ({error})") from None


def _tensors(path: Path, header: dict[str, Any], start: int, size: int) -> dict[str, Stored]:
    """Check that the tensors of a header fill the rest of the file without gap or overlap."""
    header.pop("__metadata__", None)
    spans, tensors = [], {}
    for name, facts in header.items():
        begin, end = facts["data_offsets"]
        stored = Stored(path, DTYPES[facts["dtype"]], tuple(facts["shape"]), start + begin)
        counts = (*stored.shape, begin, end)
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError(f"the shape or place of {name}")
        if not stored.shape or math.prod(stored.shape) * stored.dtype.itemsize != end - begin:
            raise ValueError(f"the shape of {name} does not fit its bytes")
        spans.append((begin, end))
        tensors[name] = stored
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ValueError("its tensors leave a gap or overlap")
        at = end
    if start + at != size:
        raise ValueError(f"its tensors end at byte {start + at}, the file at {size}")
    return tensors


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
        # Widest type first keeps every tensor aligned, as the safetensors library does it.
        for name in sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name)):
            dtype, shape = tensors[name]
            begin, end = end, end + dtype.itemsize * math.prod(shape)
            header[name] = {
                "dtype": _NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [begin, end],
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.path = path
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(8 + len(text) + end)
        self._file.flush()
        self._stored = open_stored(path)

    def write(self, name: str, start: int, rows: Tensor) -> None:
        """Write rows [start, start + len(rows)) of a tensor; raises OSError on a full disk."""
        stored = self._stored[name]
        assert rows.dtype == stored.dtype
        assert start + len(rows) <= len(stored)
        if rows.numel() == 0:
            return
        view = memoryview(rows.contiguous().view(-1).view(torch.uint8).numpy())
        position = stored.offset + start * stored.row_bytes
        while len(view):
            count = os.pwrite(self._file.fileno(), view, position)
            view, position = view[count:], position + count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            set_mode(self.path)
