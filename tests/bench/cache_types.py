"""What the type of a cache costs: bytes, error, and the accuracy of students, on real graphs.

    python tests/bench/cache_types.py --recipe cora --root DIR            # public split
    python tests/bench/cache_types.py --recipe photo-cpf --root DIR
    python tests/bench/cache_types.py --recipe cora --preset paper --root DIR

For every seed one teacher is trained and exported as fp32; `convert` makes the other types, and a
student is distilled from each. Test accuracy in %, mean ± std; beside it the paired difference to
fp32 with its standard error. Bytes are those of layers and logits. Nothing is asserted: the table
in docs/cache.md is this one.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from g2t.cache.check import open_cache
from g2t.cache.convert import ConvertSettings, convert
from g2t.config import read_config
from g2t.distill.train import distill
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.metrics import mean_std, paired
from g2t.recipe import read_recipe
from g2t.runtime import Silent
from g2t.teacher.train import teach

#: Name, type, and how many logits of a row are kept.
TYPES: dict[str, dict[str, Any]] = {
    "fp32": {"dtype": "fp32"},
    "fp16": {"dtype": "fp16"},
    "bf16": {"dtype": "bf16"},
    "int8": {"dtype": "int8"},
    "fp16, top-3": {"dtype": "fp16", "topk": 3},
    "fp16, top-1": {"dtype": "fp16", "topk": 1},
}


def main() -> int:
    """Run all types over all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="cora")
    parser.add_argument("--student", default="landmark")
    parser.add_argument("--preset", default="soft")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--root", type=Path, default=os.environ.get("G2T_ROOT"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = run(Path(name), asked)
    show(asked, rows)
    return 0


def run(folder: Path, asked: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return per type, for every seed, bytes, error and test accuracy."""
    recipe = read_recipe(read_config(f"recipe:{asked.recipe}"))
    quiet = Silent()
    graph = import_graph(
        recipe.source, folder / "graph", recipe.import_, asked.root, quiet, False
    ).path
    signals = ("layers", "logits", "edge_scores")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in TYPES}
    for seed in range(asked.seeds):
        place = folder / str(seed)
        values = {"split": recipe.split, **recipe.teach, "seed": seed}
        teacher = teach(graph, place / "teacher", values, device="cpu").path
        settings = ExportSettings(dtype="fp32", signals=signals)
        export(teacher, graph, place / "fp32", settings)
        for name, kind in TYPES.items():
            cache = place / "fp32"
            if name != "fp32":
                cache = place / name
                convert(place / "fp32", cache, ConvertSettings(**kind))
            student = place / f"student-{name}"
            values = {**recipe.student(asked.student), "preset": asked.preset, "seed": seed}
            distill(cache, student, values, device="cpu")
            result = evaluate(Sources(student, graph, cache, teacher))
            rows[name].append({**size_of(cache), "test": 100 * result["student"]["test"]})
            print(f"seed {seed} {name}: {rows[name][-1]}", file=sys.stderr, flush=True)
    return rows


def size_of(path: Path) -> dict[str, float]:
    """Return the bytes of layers and logits, and the largest relative error among them."""
    manifest = open_cache(path).manifest
    said = [e for e in manifest.tensors if e.name.startswith(("teacher-h", "teacher-logits"))]
    names = {entry.name for entry in said}
    total = sum(shard.bytes for shard in manifest.shards if shard.tensor in names)
    return {"bytes": total, "error": max(entry.relative_error for entry in said)}


def show(asked: argparse.Namespace, rows: dict[str, list[dict[str, float]]]) -> None:
    """Print the table."""
    print(f"`{asked.student}`, preset {asked.preset}, recipe {asked.recipe}, {asked.seeds} seeds")
    print("| type | bytes of layers and logits | error | test accuracy in % | − fp32 |")
    print("|---|---|---|---|---|")
    exact = [row["test"] for row in rows["fp32"]]
    for name, found in rows.items():
        tests = [row["test"] for row in found]
        mean, std = mean_std(tests)
        change, error = paired(tests, exact)
        worst = max(row["error"] for row in found)
        size = f"{found[0]['bytes']:,.0f} ({found[0]['bytes'] / rows['fp32'][0]['bytes']:.2f})"
        print(
            f"| {name} | {size} | {worst:.1e} | {mean:.2f} ± {std:.2f} "
            f"| {change:+.2f} ± {error:.2f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
