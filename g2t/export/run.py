"""Teacher + graph → cache: every layer and the logits, once, so that the GNN never runs again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from g2t.artifact import Artifact, write_json
from g2t.cache.assemble import assemble
from g2t.cache.describe import figures
from g2t.cache.format import (
    GRAPH,
    LOGITS,
    MANIFEST,
    MemberEntry,
    NamedDigest,
    Role,
    SplitEntry,
    TeacherEntry,
)
from g2t.cache.writer import CacheWriter
from g2t.errors import G2TError
from g2t.export.edges import observed_edges
from g2t.export.graph_file import write_graph_file
from g2t.export.memory import OWN_SHARE, available, resident
from g2t.export.plan import ExportPlan, ExportSettings, plan_export
from g2t.export.share import Share, wait_for
from g2t.export.walk import Work
from g2t.export.write import Making, check_memory, write_tensors
from g2t.runtime import Progress, Silent, leaving_on_signal
from g2t.stage import Stage
from g2t.teacher.several import laggards


@leaving_on_signal()
@torch.inference_mode()
def export(
    teacher_paths: Path | Sequence[Path],
    graph_path: Path,
    out: Path,
    settings: ExportSettings,
    *,
    memory: int | None = None,
    share: Share | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact | None:
    """Write the cache of a teacher, layer by layer, in at most `memory` bytes (None: what is free).

    Of several teachers, the first gives the layers and all that derives from them; the logits are
    the log of the mean of the probabilities of those that `logits_from` names. They must have
    learned on one split (IntegrityError), and none may be given twice (UsageError).

    With a share of several workers, the last one commits and returns the cache, the others return
    None; of a cache that stood before, only the first. Raises InputError and IntegrityError where
    teacher or graph is missing, damaged, or not of each other, InputError where a value does not
    fit the type, UsageError, naming the least that works, where `memory` is too small, and Stopped
    after a signal.
    """
    plan = plan_export(teacher_paths, graph_path, settings)
    show, share = progress or Silent(), share or Share()
    config = settings.model_dump(mode="json")
    begun = Stage(out, "cache", config, plan.inputs, 0, force, workers=share.workers)
    work = work_in(begun.path, len(plan.nodes), settings, memory, share, show)
    entries = plan.shape.entries(settings)
    making = Making(work, settings, entries, plan.shape, plan, calibrates=LOGITS in entries)
    if not begun.is_done():
        check_memory(making)  # before anything is touched: what an earlier run wrote stays
    with begun as stage:
        if stage.finished:
            show.note(f"{out} is done already")
            return stage.finished if share.worker == 0 else None
        _tell_of_laggards(plan, show)
        try:
            _write_graph(making, plan)
            write_tensors(making)
            return finish(stage, making, _lineage(plan))
        except (G2TError, OSError):
            if stage.overtaken():
                return None  # the last one was faster than our look at what is left
            raise


def _tell_of_laggards(plan: ExportPlan, progress: Progress) -> None:
    """Say which teacher rather harms the mean; it is for the user to leave it out."""
    speakers = [plan.teachers[position] for position in plan.speakers]
    for teacher, val, best in laggards(speakers):
        progress.note(
            f"WARNING: teacher {teacher.artifact.path} scores {100 * val:.1f} on validation nodes, "
            f"the best of the others {100 * best:.1f}: a mean with it may be worse than without; "
            "leave it out"
        )


def _write_graph(making: Making, plan: ExportPlan) -> None:
    """Write the graph part, if it is not there; only one worker does."""
    work, path = making.work, making.work.writer.folder / GRAPH
    if work.share.worker > 0:
        wait_for([path], path.parent)
    elif not path.exists():
        observed = observed_edges(plan.graph, plan.nodes, path.parent)
        write_graph_file(work.writer, plan.graph, plan.teacher.split, observed)


def work_in(
    folder: Path,
    rows: int,
    settings: ExportSettings,
    memory: int | None,
    share: Share,
    progress: Progress,
) -> Work:
    """Return what all walks share, for a cache of some rows in the partial folder."""
    budget = int(available() * OWN_SHARE) if memory is None else memory
    writer = CacheWriter(folder, rows, settings.shard_rows)
    return Work(writer, settings.precision, budget, resident(), share, progress)


def finish(stage: Stage, making: Making, lineage: Mapping[str, Any]) -> Artifact | None:
    """Commit a cache that is whole; returns None where other workers still write."""
    writer, settings = making.work.writer, making.settings
    if not making.work.share.alone:
        if making.lacks([*making.entries, *(entry.name for entry in making.calibration)]):
            making.work.progress.note("this part is done; the last worker commits the cache")
            return None
        stage.lock()
        if stage.is_done():
            return None
    projected = None if settings.project is None else making.shape.features
    if making.calibrates:
        lineage = {**lineage, "temperature": making.validation.temperature()}
    manifest = assemble(writer, making.entries.values(), lineage, settings.hops, projected)
    write_json(stage.path / MANIFEST, manifest.content())
    for entry in manifest.tensors:
        making.work.progress.note(
            f"{entry.name}: {entry.dtype}, largest relative error {entry.relative_error:.1e}"
        )
    return stage.commit(figures(manifest), writer.identity)


def _lineage(plan: ExportPlan) -> dict[str, Any]:
    """Return what a manifest says of task, graph, split and teacher."""
    graph, split, teacher = plan.graph, plan.teacher.split, plan.teacher
    return {
        "task": graph.facts["task"],
        "metric": graph.facts["metric"],
        "classes": tuple(graph.facts["classes"]),
        "feature_names": graph.facts["features"].get("names"),
        "graph": NamedDigest(name=graph.facts["name"], digest=plan.inputs["graph"]),
        "split": SplitEntry.model_validate(split.facts),
        "teacher": TeacherEntry(
            name=teacher.name,
            digest=teacher.artifact.digest,
            layers=teacher.hidden,
            scaling=teacher.facts["features"]["scaling"],
        ),
        "teachers": _members(plan) if len(plan.teachers) > 1 else None,
    }


def _members(plan: ExportPlan) -> tuple[MemberEntry, ...]:
    """Return what a manifest says of several teachers."""
    members = []
    for position, teacher in enumerate(plan.teachers):
        parts: dict[Role, bool] = {"layers": position == 0, "logits": position in plan.speakers}
        roles = tuple(role for role, has in parts.items() if has)
        digest = teacher.artifact.digest
        members.append(MemberEntry(name=teacher.name, digest=digest, roles=roles))
    return tuple(members)
