"""A study walked cell by cell: what is done stays, and every call writes the tables of all of it.

OUT/RECIPE/graph, OUT/RECIPE/SETTING/seed-S/{teacher,cache,student-STUDENT-VARIANT,
evaluation-STUDENT-VARIANT}, and OUT/run.json and OUT/STUDY.md with the tables. Graph, teachers and
cache belong to recipe, setting and seed: all variants share them, and so do the tiers.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from g2t.artifact import RECORD, write_json
from g2t.errors import TrainingError
from g2t.graph.importing import import_graph
from g2t.graph.splits import Setting
from g2t.pipeline import Walk, check_recipe, make_out
from g2t.recipe import Recipe
from g2t.runtime import Progress, choose_device
from g2t.study.page import write_page
from g2t.study.plan import Cell, Study, recipes_of
from g2t.study.standing import Standing
from g2t.study.table import SCHEMA, tabulate_study


def check_study(study: Study) -> dict[tuple[str, Setting], Recipe]:
    """Resolve every cell before any work and return the recipe of every place.

    Raises UsageError naming the first fault.
    """
    recipes = recipes_of(study)
    for recipe in recipes.values():
        check_recipe(recipe)
    return recipes


def run_study(
    study: Study,
    chosen: Sequence[Cell],
    out: Path,
    command: str,
    *,
    root: Path | None,
    device: str,
    progress: Progress,
) -> dict[str, Any]:
    """Make the chosen cells that are not done, and return the tables of all that are.

    Seeds come before variants, so that a study that is stopped has whole columns of few seeds.
    `command` is what was typed, for the list of what is not run. A student whose training fails
    is passed by, and named at the end by a TrainingError.
    """
    recipes = check_study(study)
    choose_device(device)
    make_out(out, SCHEMA)
    failed: list[str] = []
    standing = Standing(recipes, out)
    try:
        for place, cells in _by_place(chosen).items():
            todo = _to_do(cells, standing)
            if not todo:
                continue
            recipe, base = recipes[place], out / place[0] / "graph"
            source, values = recipe.source, recipe.import_
            graph = import_graph(source, base, values, root, progress, force=False).path
            for seed, cells_left in todo.items():
                folder = standing.folder(place, seed)
                walk = Walk(recipe, graph, folder, seed, device, False, progress)
                failed += _walk_seed(walk, cells_left)
    finally:
        table = tabulate_study(study, Standing(recipes, out), command)
        write_json(out / RECORD, table)
        write_page(out, table)
    if failed:
        raise TrainingError(
            f"{len(failed)} cells could not be trained: {'; '.join(failed[:3])}",
            "change or leave out their variants; all else is done",
        )
    return table


def _by_place(cells: Sequence[Cell]) -> Mapping[tuple[str, Setting], list[Cell]]:
    """Return the cells of every place, in the order of their tiers."""
    places: dict[tuple[str, Setting], list[Cell]] = {}
    for cell in cells:
        places.setdefault(cell.place, []).append(cell)
    return places


def _to_do(cells: Sequence[Cell], standing: Standing) -> dict[int, list[Cell]]:
    """Return the cells that are not done by seed, without seeds of which all are."""
    seeds = sorted({seed for cell in cells for seed in cell.seeds})
    todo = {
        seed: [c for c in cells if seed in c.seeds and standing.state(c, seed) != "done"]
        for seed in seeds
    }
    return {seed: left for seed, left in todo.items() if left}


def _walk_seed(walk: Walk, cells: Sequence[Cell]) -> Iterator[str]:
    """Make the cells of one place and seed; yield a sentence for each that could not be trained."""
    teachers = walk.teach()
    walk.export(teachers)
    setup = walk.setup(teachers)
    for part, name in {cell.part: cell.name for cell in cells}.items():
        try:
            walk.student(part, setup)
        except TrainingError as error:
            walk.progress.note(f"WARNING: {name}, seed {walk.seed}: {error.message}")
            yield f"{name} with seed {walk.seed} ({error.message})"
