"""Writing a cache shard by shard, so that an interrupted export goes on where it stopped."""

from pathlib import Path

import torch
from torch import Tensor

from g2t.artifact import file_digest, sync
from g2t.cache.format import DTYPES, DtypeName, ShardEntry, TensorEntry, shard_name
from g2t.errors import InputError, IntegrityError
from g2t.graph.bundle import feature_tensors
from g2t.graph.csr import Csr, Features, take_rows
from g2t.tensors import load_facts, save_tensors


def cast(values: Tensor, dtype: DtypeName, name: str) -> tuple[Tensor, float]:
    """Return values in a cache type and the error of it, relative to the largest magnitude.

    Raises InputError where a finite value leaves the range of the type.
    """
    cast_values = values.to(DTYPES[dtype])
    if not bool(cast_values.isfinite().all()):
        raise InputError(
            f"{name} does not fit {dtype}: its largest magnitude is {values.abs().max():.3g}",
            "use --dtype bf16 or --dtype fp32",
        )
    if values.numel() == 0:
        return cast_values, 0.0
    scale = values.abs().max().clamp(min=1e-30)
    return cast_values, float((cast_values.float() - values).abs().max() / scale)


class CacheWriter:
    """Writes tensors into the partial directory of a cache and collects their entries."""

    def __init__(self, folder: Path, shard_rows: int) -> None:
        self.folder = folder
        self.shard_rows = shard_rows
        self.tensors: list[TensorEntry] = []
        self.shards: list[ShardEntry] = []

    def write(self, name: str, rows: Features, dtype: DtypeName) -> TensorEntry:
        """Write one tensor in shards; a shard that a run before this one finished is kept."""
        error = 0.0
        for index, start in enumerate(range(0, len(rows), self.shard_rows)):
            stop = min(start + self.shard_rows, len(rows))
            block = take_rows(rows, torch.arange(start, stop))
            error = max(error, self._write_shard(name, dtype, index, start, block))
        kind = "csr" if isinstance(rows, Csr) else "dense"
        entry = TensorEntry(
            name=name, kind=kind, width=rows.shape[-1], dtype=dtype, relative_error=error
        )
        self.tensors.append(entry)
        return entry

    def _write_shard(
        self, name: str, dtype: DtypeName, index: int, start: int, block: Features
    ) -> float:
        path, stop = self.folder / shard_name(name, index), start + len(block)
        facts = {"tensor": name, "start": start, "stop": stop}
        error = _finished(path, facts)
        if error is None:
            tensors, error = _cast_rows(name, dtype, block)
            temporary = path.with_name(path.name + ".tmp")
            save_tensors(temporary, tensors, {**facts, "relative_error": error})
            sync(temporary)
            temporary.replace(path)
        self.shards.append(shard_entry(path, name, start, stop))
        return error


def _cast_rows(name: str, dtype: DtypeName, block: Features) -> tuple[dict[str, Tensor], float]:
    if isinstance(block, Tensor):
        values, error = cast(block.float(), dtype, name)
        return {name: values}, error
    if block.value_E is None:
        return feature_tensors(block), 0.0
    values, error = cast(block.value_E, dtype, name)
    return feature_tensors(Csr(block.start_N, block.column_E, values, block.width)), error


def shard_entry(path: Path, tensor: str, start: int, stop: int) -> ShardEntry:
    """Describe a finished file for the manifest."""
    return ShardEntry(
        tensor=tensor,
        file=path.name,
        start=start,
        stop=stop,
        bytes=path.stat().st_size,
        xxh3_128=file_digest(path),
    )


def _finished(path: Path, facts: dict[str, object]) -> float | None:
    """Return the recorded error of a shard that already holds these rows, else None.

    Shards get their name by a rename after a sync, so one that exists is whole.
    """
    if not path.exists():
        return None
    try:
        found = dict(load_facts(path))
    except IntegrityError:
        return None
    error = found.pop("relative_error", None)
    return float(error) if found == facts and error is not None else None
