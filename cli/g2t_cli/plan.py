"""What `--dry-run` prints: what would be done, and how much of it, as one JSON object."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g2t.artifact import RECORD
from g2t.errors import InputError
from g2t.stage import Stage

if TYPE_CHECKING:
    from g2t.cache.format import TensorEntry
    from g2t.distill.train import DistillPlan
    from g2t.export import ExportSettings
    from g2t.recipe import Recipe
    from g2t.teacher.train import TeachPlan

SCHEMA = "g2t.plan/1"
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int16": 2, "int32": 4, "int8": 1}


def stage_plan(stage: Stage, content: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a stage; raises InputError where the real run would refuse its output."""
    standing, reason = stage.standing()
    if standing in ("refused", "foreign"):
        raise InputError(reason, "choose another --out")
    return {
        "schema": SCHEMA,
        "stage": stage.kind,
        "out": str(stage.given),
        "standing": standing,
        **content,
    }


def graph_plan(
    source: str, out: Path, values: Mapping[str, Any], root: Path | None, force: bool
) -> dict[str, Any]:
    """Describe an import; where files would have to be downloaded, only its settings."""
    from g2t.graph.importing import plan_import, resolve_import
    from g2t.graph.sources import find_source
    from g2t.runtime import Silent

    if find_source(source)[0].downloads and root is None:
        settings = resolve_import(source, values).model_dump(mode="json")
        asked = {"source": source, **settings}
        return {"schema": SCHEMA, "stage": "graph", "out": str(out), "settings": asked}
    plan = plan_import(source, values, root, Silent())
    stage = Stage(out, "graph", plan.asked, plan.inputs, plan.seed, force)
    return stage_plan(stage, {"settings": plan.asked, "inputs": plan.inputs})


def teacher_plan(plan: "TeachPlan", out: Path, force: bool) -> dict[str, Any]:
    """Describe a teacher's training."""
    from g2t.teacher.store import build

    parameters = sum(p.numel() for p in build(plan.facts).parameters())
    stage = Stage(out, "teacher", plan.asked, plan.inputs, plan.settings.seed, force)
    parts = plan.split.parts
    content = {
        "settings": plan.asked,
        "inputs": plan.inputs,
        "nodes": len(plan.split.nodes),
        "edges": len(plan.graph.edges.column_E),
        "split": [len(parts.train), len(parts.val), len(parts.test)],
        "held": len(plan.split.held),
        "parameters": parameters,
        "disk_bytes": 4 * parameters,
    }
    return stage_plan(stage, content)


def cache_plan(
    teachers: Sequence[Path], graph: Path, settings: "ExportSettings", out: Path, force: bool
) -> dict[str, Any]:
    """Describe an export."""
    from g2t.export import plan_export

    plan = plan_export(teachers, graph, settings)
    stage = Stage(out, "cache", settings.model_dump(mode="json"), plan.inputs, 0, force)
    rows, entries = len(plan.nodes), plan.shape.entries(settings)
    content = {
        "settings": settings.model_dump(mode="json"),
        "inputs": plan.inputs,
        "rows": rows,
        "widths": {name: entry.width for name, entry in entries.items()},
        "disk_bytes": sum(_bytes(entry, rows) for entry in entries.values()),
    }
    return stage_plan(stage, content)


def _bytes(entry: "TensorEntry", rows: int) -> int:
    """Return what a tensor takes on disk; sparse features and edge scores are not counted."""
    if entry.kind in ("csr", "edge"):
        return 0
    kept = entry.width if entry.topk is None else entry.topk
    extra = 0 if entry.topk is None else 4 * kept + 4
    return rows * (kept * BYTES[entry.dtype] + extra)


def student_plan(plan: "DistillPlan", out: Path, force: bool) -> dict[str, Any]:
    """Describe a distillation."""
    import torch

    from g2t.distill.lesson import prepare

    # What a second teacher says changes no size, so it is not asked.
    lesson = prepare(plan.cache, plan.settings, plan.needs, None, torch.device("cpu"))
    parameters = sum(p.numel() for p in lesson.student.parameters())
    stage = Stage(out, "student", plan.asked, plan.inputs, plan.settings.seed, force)
    content = {
        "settings": plan.asked,
        "inputs": plan.inputs,
        "rows": plan.cache.rows,
        "model": lesson.facts["model"],
        "parameters": parameters,
        "disk_bytes": 4 * parameters,
    }
    return stage_plan(stage, content)


def run_plan(recipe: "Recipe", seeds: Sequence[int], out: Path) -> dict[str, Any]:
    """Describe a walk: which parts are there already, and which would be made."""
    from g2t.pipeline import check_recipe
    from g2t.teacher.members import members_of

    stages = [str(member.out) for member in members_of(Path("teacher"), recipe.kinds)]
    stages += ["cache"] if recipe.students else ["evaluation-teacher"]
    for name in recipe.students:
        stages += [f"student-{name}", f"evaluation-{name}"]
    parts = ["graph", *(f"seed-{seed}/{stage}" for seed in seeds for stage in stages)]
    there = {part: (out / part / RECORD).is_file() for part in parts}
    return {
        "schema": SCHEMA,
        "stage": "run",
        "out": str(out),
        "settings": check_recipe(recipe),
        "seeds": list(seeds),
        "there": [part for part, found in there.items() if found],
        "to_do": [part for part, found in there.items() if not found],
    }
