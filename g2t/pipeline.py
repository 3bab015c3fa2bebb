"""All arrows of a recipe, over seeds: import, teach, export, distill, eval; finished parts stay.

OUT is an ordinary folder: `OUT/graph`, `OUT/seed-S/{teacher,cache,student-NAME,evaluation-NAME}`,
and `OUT/run.json` with the table.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from g2t.artifact import RECORD, read_json, write_json
from g2t.config import layered, validate
from g2t.distill.settings import distill_settings, signals_of
from g2t.distill.train import distill
from g2t.errors import InputError
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph, resolve_import
from g2t.graph.splits import check_name
from g2t.metrics import mean_std, paired
from g2t.recipe import Recipe
from g2t.runtime import Progress, choose_device
from g2t.teacher.settings import teach_settings
from g2t.teacher.train import teach

SCHEMA = "g2t.run/1"


def check_recipe(recipe: Recipe) -> dict[str, Any]:
    """Resolve every part of a recipe before any work; raises UsageError naming the first fault."""
    check_name(recipe.split)
    teacher = teach_settings({**recipe.protocol, **recipe.teach})
    return {
        "source": recipe.source,
        **recipe.protocol,
        "import": resolve_import(recipe.source, recipe.import_).model_dump(mode="json"),
        "teach": teacher.model_dump(mode="json", exclude={"split", "setting", "seed"}),
        "export": _export_settings(recipe).model_dump(mode="json"),
        "students": {
            name: distill_settings(recipe.student(name)).model_dump(mode="json", exclude={"seed"})
            for name in recipe.students
        },
    }


def run(
    recipe: Recipe,
    seeds: Sequence[int],
    out: Path,
    *,
    root: Path | None,
    device: str,
    force: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Walk a recipe for every seed and return the table as `g2t.run/1`.

    Parts that are finished with the same settings and inputs are not made again.
    """
    check_recipe(recipe)
    choose_device(device)
    _check_out(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error
    graph = import_graph(recipe.source, out / "graph", recipe.import_, root, progress, force).path
    export_settings = _export_settings(recipe)
    evaluations: dict[str, list[dict[str, Any]]] = {name: [] for name in recipe.students}
    for seed in seeds:
        folder = out / f"seed-{seed}"
        teacher, cache = folder / "teacher", folder / "cache"
        progress.note(f"seed {seed}: teacher")
        values = {**recipe.protocol, **recipe.teach, "seed": seed}
        teach(graph, teacher, values, device=device, force=force, progress=progress)
        export(teacher, graph, cache, export_settings, force=force, progress=progress)
        for name in recipe.students:
            progress.note(f"seed {seed}: {name}")
            student = folder / f"student-{name}"
            values = layered(recipe.student(name), {"seed": seed})
            distill(cache, student, values, device=device, force=force, progress=progress)
            sources = Sources(student, graph, cache, teacher)
            result = evaluate(sources, folder / f"evaluation-{name}", force=force)
            evaluations[name].append(result)
    table = tabulate(evaluations, list(seeds), recipe.split)
    write_json(out / RECORD, table)
    return table


def _export_settings(recipe: Recipe) -> ExportSettings:
    """Return the export's settings; where none are named, signals are what the students need."""
    students = [distill_settings(recipe.student(name)) for name in recipe.students]
    needed = frozenset({"layers", "logits"}).union(*map(signals_of, students))
    return validate(ExportSettings, {"signals": sorted(needed), **recipe.export})


def _check_out(out: Path) -> None:
    """Raise InputError unless OUT is free or the folder of another walk."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is no folder", "choose another --out")
    record = out / RECORD
    if record.exists() and read_json(record).get("schema") != SCHEMA:
        raise InputError(f"{out} holds something else: its {RECORD} is none of g2t run")


def tabulate(
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]], seeds: list[int], split: str
) -> dict[str, Any]:
    """Gather evaluations (per student, one per seed) into `g2t.run/1`.

    Test scores are fractions; `minus_teacher` is the mean difference to the teacher of the same
    seed with its standard error. In production `settings` has the parts of the test score too.
    """
    first = next(iter(evaluations.values()))
    teacher, splits = [result["teacher"] for result in first], [result["split"] for result in first]
    setting = {key: value for key, value in splits[0].items() if key == "setting"}
    rows = [_row("teacher", teacher, teacher)]
    for name, results in evaluations.items():
        row = _row(name, [result["student"] for result in results], teacher)
        hops = {
            k: _row(name, [result["student"]["by_hops"][k] for result in results], teacher)
            for k in results[0]["student"]["by_hops"]
        }
        for entry in hops.values():
            del entry["name"]
        rows.append({**row, "by_hops": hops} if hops else row)
    return {
        "schema": SCHEMA,
        "graph": first[0]["graph"],
        "split": {"name": split, "digests": [known["digest"] for known in splits], **setting},
        "metric": first[0]["metric"],
        "seeds": seeds,
        "rows": rows,
    }


def _row(
    name: str, scores: Sequence[Mapping[str, Any]], teacher: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a row of the table from a model's scores, one per seed, and those of its teacher."""
    row: dict[str, Any] = {"name": name, **_spread([seed["test"] for seed in scores])}
    rivals = _spread([seed["test"] for seed in teacher])
    row["minus_teacher"] = None
    if row["mean"] is not None and rivals["mean"] is not None:
        difference, error = paired(row["values"], rivals["values"])
        row["minus_teacher"] = {"mean": difference, "standard_error": error}
    if "settings" in scores[0]:
        row["settings"] = {
            key: _spread([seed["settings"][key] for seed in scores])
            for key in scores[0]["settings"]
        }
    return row


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Return values with mean and deviation; where one has no score, there is neither."""
    known = [value for value in values if value is not None]
    mean, std = mean_std(known) if len(known) == len(values) else (None, None)
    return {"mean": mean, "std": std, "values": list(values)}
