"""Adding signals to a finished cache: what it holds stays, byte for byte, and is not rewritten."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from g2t.artifact import RECORD, Artifact, read_json, sync
from g2t.cache.check import open_cache
from g2t.cache.format import FEATURES, LOGITS, SIGNALS, Manifest, Signal, layer_name, tensors_of
from g2t.cache.writer import CacheWriter
from g2t.errors import InputError, IntegrityError, UsageError
from g2t.export.plan import ExportPlan, ExportSettings, Shape, plan_export
from g2t.export.run import finish, leaving_on_signal, work_in
from g2t.export.share import Share
from g2t.export.write import Making, check_memory, write_tensors
from g2t.place import Place
from g2t.runtime import Progress, Silent
from g2t.stage import Stage


@leaving_on_signal()
@torch.inference_mode()
def add(
    cache_path: Path,
    signals: Sequence[str],
    *,
    teacher: Path | None = None,
    graph: Path | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Add signals to a cache; files that it has are linked, not copied, and keep their digests.

    The result is the cache that an export of all of these signals would have made, so students
    that were distilled from it stay valid. Edge scores and codes need nothing but the cache's
    layers; all else needs teacher and graph (UsageError). Raises IntegrityError where teacher or
    graph are not those of the cache, InputError where another g2t writes it, and Stopped after a
    signal.
    """
    show = progress or Silent()
    Place(cache_path.resolve()).mend()
    cache = open_cache(cache_path)
    manifest, artifact = cache.manifest, cache.artifact
    have = signals_in(manifest)
    wanted = tuple(signal for signal in SIGNALS if signal in {*have, *signals})
    if wanted == have:
        show.note(f"{cache_path} holds all of these")
        return artifact
    settings = settings_of(manifest, artifact.config, wanted)
    plan = None
    if teacher is not None and graph is not None:
        plan = plan_export(teacher, graph, settings)
        check_lineage(cache_path, manifest, plan)
    elif {"layers", "logits", "reliability"} & {*wanted} - {*have} or "layers" not in have:
        raise UsageError(
            "only the teacher can say this: edge scores and codes alone come from cached layers",
            "add --teacher TEACHER --graph GRAPH",
        )
    config = {**artifact.config, **settings.model_dump(mode="json")}
    begun = Stage(cache_path, "cache", config, artifact.inputs, 0, grows=True)
    work = work_in(begun.path, manifest.rows, settings, memory, Share(), show)
    shape = _shape(manifest, plan)
    known = {entry.name: entry for entry in manifest.tensors}
    entries = {name: known.get(name, entry) for name, entry in shape.entries(settings).items()}
    making = Making(work, settings, entries, shape, plan)
    check_memory(making)
    with begun as stage:
        if stage.finished:
            return stage.finished
        if read_json(artifact.path / RECORD)["digest"] != artifact.digest:
            raise InputError(f"{cache_path} has just been changed", "run the same command again")
        _link(artifact.path, work.writer, manifest)
        write_tensors(making)
        made = finish(stage, making, _lineage(manifest))
        assert made is not None
        return made


def signals_in(manifest: Manifest) -> tuple[Signal, ...]:
    """Return the signals that a cache holds."""
    names = {entry.name for entry in manifest.tensors}
    asked = {signal: tensors_of(signal, manifest.teacher.layers) for signal in SIGNALS}
    return tuple(s for s, tensors in asked.items() if tensors and names.issuperset(tensors))


def settings_of(
    manifest: Manifest, config: Mapping[str, Any], signals: tuple[Signal, ...]
) -> ExportSettings:
    """Return the settings of an export that makes this cache with other signals.

    A cache that was converted or imported did not say all of them; its tensors do.
    """
    known = {name: config[name] for name in ExportSettings.model_fields if name in config}
    logits = manifest.tensor(LOGITS)
    first = logits or manifest.tensor(layer_name(1))
    found = {
        "dtype": "fp16" if first is None else first.dtype,
        "topk": None if logits is None else logits.topk,
        "hops": manifest.hops,
        "shard_rows": manifest.shard_rows,
    }
    return ExportSettings.model_validate({**known, **found, "signals": signals})


def _shape(manifest: Manifest, plan: ExportPlan | None) -> Shape:
    if plan is not None:
        return plan.shape
    features, first = manifest.tensor(FEATURES), manifest.tensor(layer_name(1))
    assert features is not None
    return Shape(
        features.kind == "csr",
        features.width,
        manifest.teacher.layers,
        1 if first is None else first.width,
        len(manifest.classes),
    )


def _link(source: Path, writer: CacheWriter, manifest: Manifest) -> None:
    """Put a cache's files into the partial folder by hard links (copies where there are none)."""
    errors = {entry.name: entry.relative_error for entry in manifest.tensors}
    for file in manifest.files():
        target = writer.folder / file.file
        if not target.exists():
            try:
                os.link((source / file.file).resolve(), target)
            except OSError:
                temporary = writer.temporary(file.file)
                shutil.copyfile(source / file.file, temporary)
                sync(temporary)
                temporary.replace(target)
        facts = {"bytes": file.bytes, "xxh3_128": file.xxh3_128}
        writer.note(file.file, {**facts, "relative_error": errors.get(file.tensor, 0.0)})


def _lineage(manifest: Manifest) -> dict[str, Any]:
    kept = {"task", "metric", "classes", "graph", "split", "teacher"}
    return manifest.model_dump(include=kept)


def check_lineage(path: Path, manifest: Manifest, plan: ExportPlan) -> None:
    """Raise IntegrityError unless a cache was made from this teacher and graph."""
    for role, known in (("teacher", manifest.teacher.digest), ("graph", manifest.graph.digest)):
        if plan.inputs[role] != known:
            raise IntegrityError(
                f"cache {path} was not made from this {role} ({known[:19]}…, "
                f"given {plan.inputs[role][:19]}…)",
                f"give the {role} that it was exported from",
            )
