"""Cache → cache of another type: what the teacher says, stored in fewer bytes or in more.

Shard by shard, so that memory holds one shard and an interrupted conversion goes on where it
stopped. What no type may change, features and the graph part first of all, is copied byte by byte.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from torch import Tensor

from g2t.artifact import Artifact, sync, write_json
from g2t.cache.check import open_cache
from g2t.cache.codec import check_one_choice, check_topk, encode, recode_topk
from g2t.cache.describe import figures
from g2t.cache.format import (
    DTYPES,
    FEATURES,
    LOGITS,
    MANIFEST,
    DtypeName,
    Manifest,
    ShardEntry,
    TensorEntry,
    shard_name,
)
from g2t.cache.reader import Cache, Rows
from g2t.cache.writer import CacheWriter
from g2t.config import Settings
from g2t.errors import IntegrityError, Stopped
from g2t.runtime import Progress, Silent, StopSignal, stop_on_signal
from g2t.stage import Stage


class ConvertSettings(Settings):
    """Settings of `g2t cache convert`."""

    dtype: DtypeName = Field(description="type of layers, logits, and tokens of sparse features")
    topk: int | None = Field(None, ge=1, description="logits kept per row; unset: as many as now")


def convert(
    cache_path: Path,
    out: Path,
    settings: ConvertSettings,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Write a cache anew in another type; teacher, graph and split stay those of the source.

    The `relative_error` of a tensor bounds its distance from what the teacher said: with e recorded
    in the source and f of this conversion, it is e + f · (1 + e). Raises InputError where a value
    does not fit the type, UsageError where top k and type do not go together.
    """
    plan = plan_conversion(cache_path, settings)
    show = progress or Silent()
    config, inputs = settings.model_dump(mode="json"), plan.inputs
    with Stage(out, "cache", config, inputs, 0, force) as stage:
        if stage.finished:
            show.note(f"{out} is done already")
            return stage.finished
        if plan.widened:
            show.note(
                f"{settings.dtype} takes more room than {', '.join(plan.widened)} do now, and "
                "regains nothing of what they lost"
            )
        writer = CacheWriter(stage.path, plan.cache.rows, plan.cache.manifest.shard_rows)
        with stop_on_signal() as stop:
            manifest = _write(writer, plan, show, stop)
        write_json(stage.path / MANIFEST, manifest.content())
        return stage.commit(figures(manifest), writer.identity)


@dataclass(frozen=True)
class Conversion:
    """A conversion before it starts: an open cache, and every tensor's entry after it."""

    cache: Cache
    wanted: tuple[TensorEntry, ...]

    @property
    def inputs(self) -> dict[str, str]:
        """The digest of the source."""
        return {"cache": self.cache.artifact.digest}

    @property
    def widened(self) -> list[str]:
        """The tensors that take more room than before."""
        return [
            entry.name
            for entry in self.wanted
            if DTYPES[entry.dtype].itemsize > DTYPES[self.cache.entry(entry.name).dtype].itemsize
        ]


def plan_conversion(cache_path: Path, settings: ConvertSettings) -> Conversion:
    """Open the source and find out what becomes of each tensor; raises UsageError if it cannot."""
    cache = open_cache(cache_path)
    if settings.topk is not None:
        cache.entry(LOGITS)  # there must be some
        check_one_choice(cache.manifest.task)
    wanted = tuple(_wanted(cache, entry, settings) for entry in cache.manifest.tensors)
    return Conversion(cache, wanted)


def _wanted(cache: Cache, entry: TensorEntry, settings: ConvertSettings) -> TensorEntry:
    """Return a tensor's entry after the conversion, its error aside; the rules of an export."""
    dtype = settings.dtype
    if entry.name.startswith("tokens-"):
        exact = cache.entry(FEATURES).kind == "dense" or cache.manifest.projection_file is not None
        small = "fp16" if dtype == "int8" else dtype
        return entry if exact else entry.model_copy(update={"dtype": small})
    if not re.fullmatch(r"teacher-([hp]\d+|logits)", entry.name):
        return entry
    topk = entry.topk
    if entry.name == LOGITS and settings.topk is not None:
        topk = settings.topk
    if topk is not None:
        check_topk(entry.width, dtype, topk, entry.topk)
    kind = "dense" if topk is None else "topk"
    return entry.model_copy(update={"dtype": dtype, "topk": topk, "kind": kind})


def _write(writer: CacheWriter, plan: Conversion, progress: Progress, stop: StopSignal) -> Manifest:
    """Write all files but the manifest, and return it."""
    cache, source = plan.cache, plan.cache.manifest
    for alone in (source.graph_file, source.projection_file):
        if alone is not None:
            _copy(writer, cache, alone, alone.file)
    entries: list[TensorEntry] = []
    shards: list[ShardEntry] = []
    total = len(plan.wanted) * writer.shards
    for wanted in plan.wanted:
        kept = wanted == cache.entry(wanted.name)
        rows = None if kept else cache.open(wanted.name)
        for index in range(writer.shards):
            if stop:
                raise Stopped(f"stopped by {stop.name}", "run the same command to go on")
            if rows is None:
                old = cache.shards[wanted.name][index][0]
                shards.append(_copy(writer, cache, old, shard_name(wanted.name, index)))
            elif not writer.is_done(wanted.name, index):
                _recode(writer, rows, wanted, index)
            progress.update("convert", len(entries) * writer.shards + index + 1, total, {})
        entry, new = (wanted, []) if kept else writer.entries(wanted)
        entries.append(entry)
        shards += new
    return source.model_copy(update={"tensors": tuple(entries), "shards": tuple(shards)})


def _recode(writer: CacheWriter, rows: Rows, wanted: TensorEntry, index: int) -> None:
    """Write one shard of a tensor in its new type."""
    name, before = wanted.name, rows.entry
    start, stop = writer.span(index)
    dtype = wanted.dtype
    tensors: dict[str, Tensor]
    if before.kind == "topk":
        stored = rows.read_stored(index, 0, stop - start)
        tensors, error = recode_topk(stored, before, dtype, wanted.topk or 0)
    else:
        tensors, error = encode(name, rows.read(start, stop), dtype, wanted.topk)
    recorded = before.relative_error
    writer.write(name, index, tensors, recorded + error * (1 + recorded))


def _copy(writer: CacheWriter, cache: Cache, file: ShardEntry, name: str) -> ShardEntry:
    """Copy a file of the source as it is, unless that was done before, and describe the copy."""
    known = {"bytes": file.bytes, "xxh3_128": file.xxh3_128}
    if not (writer.folder / name).exists() or writer.identity(name) != known:
        temporary, source = writer.temporary(name), cache.artifact.path / file.file
        shutil.copyfile(source, temporary)
        sync(temporary)
        writer.adopt(temporary, name)
        if writer.identity(name) != known:
            raise IntegrityError(f"{source} changed while it was copied", "run g2t cache verify")
    return file.model_copy(update={"file": name})
