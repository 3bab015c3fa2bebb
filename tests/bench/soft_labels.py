"""What better soft labels give a student: scaling, kind of teacher, mean of seeds, one for layers.

    python tests/bench/soft_labels.py --recipe cora-cpf --root DIR
    python tests/bench/soft_labels.py --recipe citeseer-cpf --root DIR

For every seed a plain GCN is taught with raw and with row-scaled features, three times each where
a mean is asked for, and the recipe's own teacher beside it. Students are distilled from each target
with soft labels alone, and with `paper` from GCN's layers beside either's logits. Test accuracy in
%, mean ± std; beside it the paired difference to one GCN on raw features with its standard error.
Nothing is asserted: the table in docs/ is this one.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from g2t.config import layered, read_config
from g2t.distill.settings import distill_settings, signals_of
from g2t.distill.train import distill
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.metrics import mean_std, paired
from g2t.recipe import Recipe, read_recipe
from g2t.runtime import Silent
from g2t.teacher.members import teach_members

PLAIN = "GCN, raw features"
ROW = "GCN, rows scaled"
GCN3 = "mean of 3 GCNs"
OWN = "the recipe's teacher"
OWN3 = "mean of 3 of it"
BOTH = "layers of GCN, mean of 3 of the recipe's"

#: Students: name, kind, preset, and the targets that they are distilled from.
STUDENTS: dict[str, tuple[str, str, Sequence[str]]] = {
    "mlp": ("mlp", "soft", (PLAIN, ROW, GCN3, OWN, OWN3)),
    "landmark": ("landmark", "soft", (PLAIN, ROW, GCN3, OWN, OWN3)),
    "landmark, paper": ("landmark", "paper", (PLAIN, BOTH)),
}

Scores = dict[tuple[str, str], list[float]]


def main() -> int:
    """Run all targets over all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="cora-cpf")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--root", type=Path, default=os.environ.get("G2T_ROOT"))
    asked = parser.parse_args()
    recipe = read_recipe(read_config(f"recipe:{asked.recipe}"))
    scores: Scores = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = import_graph(
            recipe.source, folder / "graph", recipe.import_, asked.root, Silent(), False
        ).path
        for seed in range(asked.seeds):
            one_seed(recipe, graph, folder / str(seed), seed, scores)
    show(asked, scores)
    return 0


def one_seed(recipe: Recipe, graph: Path, place: Path, seed: int, scores: Scores) -> None:
    """Teach, export and distil every combination of one seed, and add the scores."""
    targets = targets_of(recipe, graph, place, seed)
    for target, teachers in targets.items():
        note(scores, "teacher", target, evaluate_target(teachers, graph, target))
    for name, (kind, preset, used) in STUDENTS.items():
        values = layered(recipe.student(kind), {"preset": preset, "seed": seed})
        signals = sorted({"layers", "logits"} | signals_of(distill_settings(values)))
        for target in used:
            cache = place / f"cache-{preset}-{target}"
            chosen: dict[str, Any] = {"signals": signals}
            if target == BOTH:
                chosen["logits_from"] = [2, 3, 4]
            export(targets[target], graph, cache, ExportSettings.model_validate(chosen))
            student = place / f"student-{name}-{target}"
            distill(cache, student, values, device="cpu")
            found = evaluate(Sources(student, graph, cache))["student"]["test"]
            note(scores, name, target, found)


def targets_of(recipe: Recipe, graph: Path, place: Path, seed: int) -> dict[str, list[Path]]:
    """Train the teachers of one seed and return those of every target."""

    def taught(name: str, values: dict[str, Any]) -> list[Path]:
        values = {**recipe.protocol, **values, "seed": seed, "members": 3}
        made = teach_members(graph, place / name, [values], device="cpu")
        return [teacher.path for teacher in made]

    gcn = taught("gcn", {"teacher": "gcn", "features": "raw"})
    row = taught("row", {"teacher": "gcn", "features": "row"})
    own = taught("own", recipe.teach)
    return {
        PLAIN: gcn[:1],
        ROW: row[:1],
        GCN3: gcn,
        OWN: own[:1],
        OWN3: own,
        BOTH: [gcn[0], *own],
    }


def evaluate_target(teachers: Sequence[Path], graph: Path, target: str) -> float:
    """Return the test accuracy of a target itself."""
    from g2t.evaluate import evaluate_teachers

    speakers = teachers[1:] if target == BOTH else teachers
    test: float = evaluate_teachers(speakers, graph)["teacher"]["test"]
    return test


def note(scores: Scores, who: str, target: str, test: float) -> None:
    """Keep a score, and say it."""
    scores.setdefault((who, target), []).append(100 * test)
    print(f"{who} | {target}: {100 * test:.2f}", file=sys.stderr, flush=True)


def show(asked: argparse.Namespace, scores: Scores) -> None:
    """Print the table."""
    print(f"recipe {asked.recipe}, {asked.seeds} seeds, test accuracy in %")
    print("| who | target | test | − one GCN, raw |")
    print("|---|---|---|---|")
    for (who, target), tests in scores.items():
        mean, std = mean_std(tests)
        change, error = paired(tests, scores[who, PLAIN])
        print(f"| {who} | {target} | {mean:.2f} ± {std:.2f} | {change:+.2f} ± {error:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
