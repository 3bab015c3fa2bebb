"""Does multiscale transfer hold on large graphs? Block models of 10,000 to 1,000,000 nodes.

    python tests/bench/scale.py                                # all sizes
    python tests/bench/scale.py --nodes 10000 --folder DIR     # one, whose parts stay in DIR

For every size: import, teach, export, then `landmark` and `hop` under `soft` and `paper`, each a
command of its own, scored beside its teacher with a report card. Classes, degree, homophily and
noise stay the same, and so do the steps of training, so that only the size changes; labels are 1 %
of the nodes for training and 1 % for validation. Prints a table of the stages (seconds, peak memory
of the process) and one of the students: test accuracy, agreement with the teacher, and what is
inherited of the teacher's structure (0: what the features know, 1: what the teacher knows; `-`:
where they do not differ by two standard errors). One seed: differences of a point rank nothing.

`features %` is what the features hold of a node that nobody has seen: the score of linear
discriminants, which no rule beats on such features, fitted to the true labels of one half of the
nodes and asked about the other. An edge-free student that scores higher remembers nodes.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cgroup
import torch

from g2t.graph.bundle import Graph, read_graph

SIZES = (10_000, 100_000, 1_000_000)
GRAPH = {"classes": 10, "degree": 10, "homophily": 0.6, "features": 32, "noise": 4}
SPLIT = "random:1/1/98:0"
STUDENTS = [(kind, preset) for kind in ("landmark", "hop") for preset in ("soft", "paper")]
#: Steps of a student, and most rows of a step.
STEPS, ROWS = 600, 2048
#: Nodes above which the teacher trains on sampled neighbourhoods.
WHOLE = 200_000
MEASURES = ("degree", "edge", "edge-matched", "recall", "distance", "cka")


def main() -> int:
    """Measure every size and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    lines = []
    for nodes in asked.nodes:
        with tempfile.TemporaryDirectory() as temporary:
            lines += measure((asked.folder or Path(temporary)) / str(nodes), nodes)
    heads = (
        "nodes",
        "student",
        "losses",
        "features %",
        "teacher %",
        "test %",
        "agreement %",
        *MEASURES,
    )
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    print("\n".join(lines))
    return 0


def measure(folder: Path, nodes: int) -> list[str]:
    """Walk one size; returns the lines of its students."""
    folder.mkdir(parents=True, exist_ok=True)
    graph, teacher, cache = folder / "graph", folder / "teacher", folder / "cache"
    sets = [f"--set={key}={value}" for key, value in {**GRAPH, "nodes": nodes}.items()]
    run("import", nodes, "import", "synthetic:csbm", *sets, "--out", graph)
    steps = ["--set=train.epochs=100", "--set=train.patience=30"]
    if nodes > WHOLE:
        steps = ["--set=train.batch=1024", "--set=train.epochs=5", "--set=train.fanouts=[10,10]"]
    run("teach", nodes, "teach", graph, "--split", SPLIT, *steps, "--out", teacher)
    wanted = ("--for", "soft,paper", "--out", cache)
    run("export", nodes, "export-features", teacher, "--graph", graph, *wanted)
    held = features_hold(read_graph(graph))
    lines = []
    for kind, preset in STUDENTS:
        student, epochs = (
            folder / f"{kind}-{preset}",
            max(2, STEPS * min(ROWS, nodes // 4) // nodes),
        )
        often = [f"--set=train.epochs={epochs}", f"--set=train.patience={epochs}"]
        often += [f"--set=train.batch={ROWS}", "--set=train.buffer=2GiB"]
        words = ("--student", kind, "--preset", preset, *often, "--out", student)
        run(f"distill {kind} {preset}", nodes, "distill", cache, *words)
        known = ("--graph", graph, "--cache", cache, "--teacher", teacher)
        printed = run("eval --card", nodes, "eval", student, *known, "--card", "--json")
        lines.append(line(nodes, kind, preset, held, json.loads(printed)))
    return lines


def run(stage: str, nodes: int, *words: object) -> str:
    """Run a command of g2t, print its cost, return what it printed; ends where it fails."""
    quiet = () if words[0] == "eval" else ("--quiet",)
    command = [sys.executable, "-m", "g2t_cli", *map(str, words), *quiet]
    ended = cgroup.run(command)
    if ended.returncode:
        raise SystemExit(f"{stage} at {nodes} nodes left with {ended.returncode}")
    print(
        f"| {nodes} | {stage} | {ended.seconds:.1f} s | {ended.peak_bytes >> 20} MiB |", flush=True
    )
    return ended.stdout


def features_hold(graph: Graph) -> float:
    """Return how many of the nodes linear discriminants of the features get right, 0 to 1."""
    assert isinstance(graph.features, torch.Tensor)
    x_NF, label_N = graph.features.double(), graph.labels
    order_N = torch.randperm(len(x_NF), generator=torch.Generator().manual_seed(0))
    own_A, other_B = order_N.tensor_split(2)
    groups = [x_NF[own_A[label_N[own_A] == label]] for label in range(len(graph.classes))]
    mean_CF = torch.stack([group.mean(0) for group in groups])
    spread_FF = torch.cat([g - m for g, m in zip(groups, mean_CF, strict=True)]).T.cov()
    weight_FC = torch.linalg.solve(spread_FF, mean_CF.T)
    score_BC = x_NF[other_B] @ weight_FC - (mean_CF.T * weight_FC).sum(0) / 2
    return float((score_BC.argmax(1) == label_N[other_B]).double().mean())


def line(nodes: int, kind: str, preset: str, held: float, found: Mapping[str, Any]) -> str:
    """Return a student's line of the table."""
    row = next(row for row in found["card"]["students"] if row["role"] == "student")
    scores = [held, found["teacher"]["test"], found["student"]["test"], found["agreement"]]
    cells = [f"{100 * score:.2f}" for score in scores]
    cells += [_inherited(row["inheritance"][name]) for name in MEASURES]
    return f"| {nodes} | {kind} | {preset} | {' | '.join(cells)} |"


def _inherited(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "-"
    return f"{found['value']:.2f} ± {found['standard_error']:.2f}"


if __name__ == "__main__":
    sys.exit(main())
