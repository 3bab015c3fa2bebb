"""How fast a student answers for one node, against a 2-layer GCN that fetches its neighbours.

    g2t import amazon:Computers --out runs/computers
    python tests/bench/latency.py --graph runs/computers

Teaches a GCN of 2 layers and distils `landmark` and `hop` for a few epochs, by commands: weights
that have hardly learned take as long as good ones, and their scores mean nothing. Then
`g2t eval --latency` on one thread; the same nodes, in turn. Prints medians for one
node and for batches, and how many times that of the student they are, by the clock and by the
work of the CPU, which a busy machine does not inflate. Exits with 1 where for one node the smaller
ratio of the teacher with all its neighbours to `landmark` is below 20.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LIMIT = 20.0
STUDENTS = ("landmark", "hop")
FEW = {"teach": 5, "distill": 2}


def g2t(*words: object) -> str:
    """Run a command on one thread and return what it prints."""
    command = [sys.executable, "-m", "g2t_cli", *map(str, words)]
    one = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.run(command, env=one, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(graph: Path, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Make teacher, cache and students; return the models of `g2t.latency/1` for each student."""
    teacher, cache = folder / "teacher", folder / "cache"
    few = f"train.epochs={FEW['teach']}"
    g2t("teach", graph, "--teacher", "gcn", "--split", "cpf:0", "--set", few, "--out", teacher)
    g2t("export-features", teacher, "--graph", graph, "--out", cache)
    found = {}
    for name in STUDENTS:
        student, few = folder / name, f"train.epochs={FEW['distill']}"
        g2t("distill", cache, "--student", name, "--set", few, "--out", student)
        given = ("--graph", graph, "--cache", cache, "--teacher", teacher)
        result = json.loads(g2t("eval", student, *given, "--latency", "--json"))
        found[name] = result["latency"]["models"]
    return found


def main() -> int:
    """Measure one graph and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--graph", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(asked.graph, Path(folder))
    ratio = 0.0
    print(
        "| student | model | nodes | p50 ms | p99 ms | CPU p50 ms | nodes read | ÷ student | CPU |"
    )
    for student, models in found.items():
        for model in models:
            name = f"{model['name']}, fetches {model['fetch']}"
            for batch in model["batches"]:
                tail = "" if batch["p99_ms"] is None else f"{batch['p99_ms']:.3f}"
                print(
                    f"| {student} | {name} | {batch['nodes']} | {batch['p50_ms']:.3f} | {tail} "
                    f"| {batch['cpu_p50_ms']:.3f} | {batch['reads']:.0f} "
                    f"| {batch['over_student']:.3g} | {batch['cpu_over_student']:.3g} |"
                )
            if student == "landmark" and (model["role"], model["fetch"]) == ("teacher", "full"):
                one = model["batches"][0]
                ratio = min(one["over_student"], one["cpu_over_student"])
    print(f"one node, teacher with all its neighbours ÷ landmark, the smaller: {ratio:.1f}")
    return 0 if ratio >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
