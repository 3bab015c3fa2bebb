"""Controls of the report card: what a student inherits from a teacher that never saw the structure.

    g2t run recipe:cora --seeds 0:5 --out runs/cora-seeds
    python tests/bench/controls.py --recipe cora --run runs/cora-seeds --folder runs/controls

The graph of a finished run is rewired (every degree kept, links shuffled) and, apart from that,
permuted (the edges moved to other nodes). Teacher, cache and students are made on it as in the
recipe, and the students are measured against the true graph, between raw features (0) and the true
teacher (1). Rewiring leaves degrees as they are, so it is asked about links alone (`distance` is
printed beside `distance-matched`, which has degrees taken out); permuting is asked about the traits
of nodes. Prints the inheritance of each, mean ± standard error over seeds,
and beside it that of the true student. Exits with 1 where a control inherits more than a tenth and
more than two standard errors.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from g2t.config import read_config
from g2t.pipeline import Walk
from g2t.recipe import Recipe, read_recipe
from g2t.runtime import Silent
from g2t.teacher.members import members_of

ASKED = {
    "rewire": ("edge", "edge-matched", "recall", "distance", "distance-matched"),
    "permute": ("degree", "pagerank", "core"),
}
#: Printed, and bound to nothing: paths to nodes of many links are short in the rewired graph too.
UNBOUND = ("distance",)
STUDENTS = ("landmark", "hop")


def main() -> int:
    """Make the controls of every seed and print what they inherit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    recipe = read_recipe(read_config(f"recipe:{asked.recipe}"))
    recipe = recipe.model_copy(update={"students": {k: recipe.students[k] for k in STUDENTS}})
    print("| control | student | measure | inherits | the true student |\n|---|---|---|---|---|")
    failed = False
    for control, measures in ASKED.items():
        graph = asked.folder / control / "graph"
        g2t("import", f"folder:{asked.run / 'graph'}", f"--{control}", 0, "--out", graph)
        found = [
            cards(recipe, control, graph, asked.folder / control, asked.run, seed)
            for seed in range(asked.seeds)
        ]
        for student in STUDENTS:
            for measure in measures:
                fake = [seed[student][0][measure] for seed in found]
                true = [seed[student][1][measure] for seed in found]
                held = not told(fake) or means(fake)[0] <= max(0.1, 2 * means(fake)[1])
                failed |= not held and measure not in UNBOUND
                print(f"| {control} | {student} | {measure} | {shown(fake)} | {shown(true)} |")
    return int(failed)


def cards(
    recipe: Recipe, control: str, graph: Path, folder: Path, run: Path, seed: int
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return what control and true students of a seed inherit, by student and measure."""
    walk = Walk(recipe, graph, folder / f"seed-{seed}", seed, "cpu", False, Silent())
    taught = walk.teach()
    walk.export(taught)
    setup = walk.setup(taught)
    for name in STUDENTS:
        walk.student(name, setup)
    true = run / f"seed-{seed}"
    ceiling = [member.out for member in members_of(true / "teacher", recipe.kinds)]
    found = {}
    for name in STUDENTS:
        beside = ("--structure-of", run / "graph", "--ceiling", ceiling[0])
        found[name] = (
            card(walk.folder, name, graph, taught, beside),
            card(true, name, run / "graph", ceiling, ()),
        )
    return found


def card(
    folder: Path, name: str, graph: Path, teachers: Sequence[Path], beside: Sequence[object]
) -> dict[str, Any]:
    """Return the inheritance of a student by measure: a number, or None where it is not told."""
    known = [word for teacher in teachers for word in ("--teacher", teacher)]
    words = ["--graph", graph, "--cache", folder / "cache", *known, "--card", *beside, "--json"]
    printed = json.loads(g2t("eval", folder / f"student-{name}", *words))
    rows = printed["card"]["students"]
    own = next(row for row in rows if row["role"] == "student")
    return {measure: told["value"] for measure, told in own["inheritance"].items()}


def g2t(*words: object) -> str:
    """Run a command of g2t and return what it printed."""
    command = [sys.executable, "-m", "g2t_cli", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def told(values: Sequence[float | None]) -> bool:
    """Tell whether every seed has a figure."""
    return None not in values


def means(values: Sequence[Any]) -> tuple[float, float]:
    """Return mean and standard error; of one seed the error is not known, 0."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.mean(values), error


def shown(values: Sequence[float | None]) -> str:
    """Return a cell of the table; `-` where floor and ceiling do not differ enough to tell."""
    if not told(values):
        return "-"
    mean, error = means(values)
    return f"{mean:.2f} ± {error:.2f}"


if __name__ == "__main__":
    sys.exit(main())
