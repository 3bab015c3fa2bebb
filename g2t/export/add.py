"""Adding signals to a finished cache: what it holds stays, byte for byte, and is not rewritten."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from g2t.artifact import RECORD, Artifact, read_json, sync
from g2t.cache.check import open_cache
from g2t.cache.format import (
    FEATURES,
    LOGITS,
    SIGNALS,
    Manifest,
    Signal,
    layer_name,
    pre_layer_name,
    tensors_of,
)
from g2t.cache.reader import Cache
from g2t.cache.writer import CacheWriter
from g2t.errors import InputError, IntegrityError, UsageError
from g2t.export.plan import ExportPlan, ExportSettings, Shape, plan_of
from g2t.export.run import finish, work_in
from g2t.export.share import Share
from g2t.export.write import Making, check_memory, write_tensors
from g2t.place import Place
from g2t.runtime import Progress, Silent, leaving_on_signal
from g2t.stage import Stage
from g2t.teacher.several import arrange
from g2t.teacher.store import open_teacher


@leaving_on_signal()
@torch.inference_mode()
def add(
    cache_path: Path,
    signals: Sequence[str],
    *,
    teacher: Path | Sequence[Path] | None = None,
    graph: Path | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Add signals to a cache; files that it has are linked, not copied, and keep their digests.

    The result is the cache that an export of all of these signals would have made, so students
    that were distilled from it stay valid. Edge scores and codes need nothing but the cache's
    layers, clusters its edges; all else needs teacher and graph (UsageError), of several teachers
    all, in any order.
    Raises IntegrityError where teacher or graph are not those of the cache, InputError where
    another g2t writes it, and Stopped after a signal.
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
        plan = plan_again(cache, teacher, graph, settings)
    elif _asks_teacher({*wanted} - {*have}, "layers" in have):
        raise UsageError(
            "only the teacher can say this: edge scores and codes alone come from cached layers, "
            "clusters from the edges",
            "add --teacher TEACHER --graph GRAPH",
        )
    config = {**artifact.config, **settings.model_dump(mode="json")}
    begun = Stage(cache_path, "cache", config, artifact.inputs, 0, grows=True)
    work = work_in(begun.path, manifest.rows, settings, memory, Share(), show)
    shape = _shape(manifest, plan)
    known = {entry.name: entry for entry in manifest.tensors}
    entries = {name: known.get(name, entry) for name, entry in shape.entries(settings).items()}
    fresh = LOGITS in entries and LOGITS not in known
    making = Making(work, settings, entries, shape, plan, calibrates=fresh)
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


def _asks_teacher(fresh: set[Signal], layers: bool) -> bool:
    """Tell whether new signals need more than a cache holds, with its layers or without."""
    own = {"clusters", "edge_scores", "codes"} if layers else {"clusters"}
    return not fresh <= own


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
    first = logits or manifest.tensor(layer_name(1)) or manifest.tensor(pre_layer_name(1))
    found: dict[str, Any] = {"hops": manifest.hops, "shard_rows": manifest.shard_rows}
    if first is not None:
        found["dtype"] = first.dtype
    if logits is not None:
        found["topk"] = logits.topk
    if manifest.teachers is not None:
        found["logits_from"] = chosen_of(manifest)
    return ExportSettings.model_validate({**known, **found, "signals": signals})


def chosen_of(manifest: Manifest) -> Literal["all"] | tuple[int, ...]:
    """Return which of its teachers gave a cache its logits, as settings name them."""
    if len(manifest.speakers) == len(manifest.members):
        return "all"
    return tuple(position + 1 for position in manifest.speakers)


def plan_again(
    cache: Cache, teacher: Path | Sequence[Path], graph: Path, settings: ExportSettings
) -> ExportPlan:
    """Return the plan of the teachers, in any order, and the graph that a cache was made from.

    Raises IntegrityError, naming which, where one is another or missing.
    """
    path, manifest = cache.artifact.path, cache.manifest
    given = [open_teacher(one) for one in ([teacher] if isinstance(teacher, Path) else teacher)]
    teachers = arrange(given, [member.digest for member in manifest.members], path)
    plan = plan_of(teachers, graph, settings)
    known, found = manifest.graph.digest, plan.inputs["graph"]
    if found != known:
        raise IntegrityError(
            f"cache {path} was not made from this graph ({known[:19]}…, given {found[:19]}…)",
            "give the graph that it was exported from",
        )
    return plan


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
    kept = {"task", "metric", "classes", "feature_names", "graph", "split", "teacher"}
    kept |= {"teachers", "temperature"}
    return manifest.model_dump(include=kept)
