"""Does shuffling by blocks cost accuracy? Students from one cache, read in three ways.

    python tests/bench/block_shuffle.py --root DIR              # nodes in the order of the source
    python tests/bench/block_shuffle.py --root DIR --by-class   # nodes sorted by class: the worst

Rows are drawn fully at random (the cache fits into the buffer), or by blocks through a buffer of 20
batches of 128 rows, of which half is shuffled at a time; blocks are as long as `train.block`, or
shorter, so that a half holds 16. Test accuracy in %, mean ± std over seeds; beside it the paired
difference to random rows ± its standard error. Split `random:60/20/20`, one teacher per seed,
preset `soft`. Nothing is asserted: the table is the result.
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from g2t.cache.check import open_cache
from g2t.cache.format import LOGITS
from g2t.distill.train import distill
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.bundle import Graph, read_graph, write_graph
from g2t.graph.csr import from_pairs, take_rows
from g2t.graph.importing import import_graph
from g2t.metrics import mean_std, paired
from g2t.runtime import Silent
from g2t.stage import Stage
from g2t.teacher.train import teach

BATCH, BATCHES = 128, 20
#: Data sets with the settings that their recipes change, by student.
SETS: dict[str, dict[str, dict[str, Any]]] = {
    "amazon:Photo": {"mlp": {}, "landmark": {"input_dropout": 0.1, "dropout": 0.1}},
    "amazon:Computers": {"mlp": {}, "landmark": {"input_dropout": 0.1, "dropout": 0.1}},
}


def main() -> int:
    """Run all data sets, students and ways over all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=os.environ.get("G2T_ROOT"))
    parser.add_argument("--source", choices=list(SETS), help="one data set only")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--block", type=int, nargs="+", default=[1024])
    parser.add_argument("--epochs", type=int, help="of a student; fewer than usual")
    parser.add_argument("--teacher-epochs", type=int, default=300)
    parser.add_argument("--by-class", action="store_true", help="sort the nodes by class first")
    asked = parser.parse_args()
    order = "sorted by class" if asked.by_class else "in the order of the source"
    print(f"nodes {order}, {asked.seeds} seeds")
    print("| data set | student | rows | test accuracy in % | − random |")
    print("|---|---|---|---|---|")
    for source, students in SETS.items():
        if asked.source not in (None, source):
            continue
        with tempfile.TemporaryDirectory() as name:
            show(source, run(Path(name), source, students, asked))
    return 0


def run(
    folder: Path, source: str, students: dict[str, dict[str, Any]], asked: argparse.Namespace
) -> dict[tuple[str, str], list[float]]:
    """Return the test accuracies of every student and way, one per seed."""
    graph = import_graph(source, folder / "graph", {}, asked.root, Silent(), False).path
    if asked.by_class:
        graph = write_sorted(read_graph(graph), folder / "sorted")
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in range(asked.seeds):
        place = folder / str(seed)
        epochs = {"epochs": asked.teacher_epochs}
        values = {"split": f"random:60/20/20:{seed}", "seed": seed, "train": epochs}
        teacher = teach(graph, place / "teacher", values, device="cpu").path
        settings = ExportSettings(signals=("layers", "logits"))
        export(teacher, graph, place / "cache", settings)
        for student, model in students.items():
            for way, train in ways(place / "cache", asked.block).items():
                out = place / f"{student}-{way}"
                epochs = {} if asked.epochs is None else {"epochs": asked.epochs}
                values = {"student": student, "model": model, "train": train | epochs, "seed": seed}
                distill(place / "cache", out, values, device="cpu")
                result = evaluate(Sources(out, graph, place / "cache", teacher))
                found[student, way].append(100 * result["student"]["test"])
                print(f"{source} {seed} {student} {way}: {found[student, way]}", file=sys.stderr)
    return found


def write_sorted(graph: Graph, out: Path) -> Path:
    """Write a graph whose nodes are sorted by class, so that a block holds one class."""
    order = graph.labels.argsort(stable=True)
    rank = order.argsort()
    edges = from_pairs(rank[graph.edges.column_E.long()], rank[graph.edges.row_E], graph.nodes)
    features, labels = take_rows(graph.features, order), graph.labels[order]
    changed = replace(graph, features=features, edges=edges, labels=labels, splits={}, ids=None)
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(changed, stage.path)
        return stage.commit({}).path


def ways(cache: Path, sizes: list[int]) -> dict[str, dict[str, Any]]:
    """Return the settings of every way to read the cache."""
    logits = open_cache(cache).open(LOGITS)  # all that is read by rows with preset `soft`
    row_bytes = logits.entry.width * torch.finfo(logits.dtype).bits // 8
    buffer = BATCH * BATCHES * (row_bytes + 8)
    assert buffer < len(logits) * row_bytes, "the cache fits into the buffer"
    blocks = {
        f"blocks of {block}": {"batch": BATCH, "buffer": buffer, "block": block} for block in sizes
    }
    return {"random": {"batch": BATCH}, **blocks}


def show(source: str, found: dict[tuple[str, str], list[float]]) -> None:
    """Print the lines of a data set."""
    for (student, way), tests in found.items():
        mean, std = mean_std(tests)
        change, error = paired(tests, found[student, "random"])
        beside = "" if way == "random" else f"{change:+.2f} ± {error:.2f}"
        print(f"| {source} | `{student}` | {way} | {mean:.2f} ± {std:.2f} | {beside} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
