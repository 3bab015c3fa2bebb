"""How fast a student answers for one node, against a 2-layer GCN that fetches its neighbours.

    g2t import amazon:Computers --out runs/computers
    python tests/bench/latency.py --graph runs/computers

Teaches a GCN of 2 layers and distils `landmark` and `hop` for a few epochs, by commands: weights
that have hardly learned take as long as good ones, and their scores mean nothing. Then what
`g2t eval --latency` measures, on one thread; the same nodes, in turn. `landmark` is asked in torch
and, where the extra `onnx` is installed, as `g2t model export --to onnx` writes it. Prints medians
for one node and for batches, and how many times that of the student they are, by the clock and by
the work of the CPU, which a busy machine does not inflate. Exits with 1 where for one node the
smaller ratio of the teacher with all its neighbours to `landmark`, the faster of the two ways, is
below 20.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2t.errors import MissingExtra
from g2t.evaluate.case import Setup, open_case
from g2t.evaluate.latency import latency_of
from g2t.evaluate.ready import Served
from g2t.graph.bundle import Graph
from g2t.runtime import Silent
from g2t.serve.export import FILES, export_model, open_exported
from g2t.serve.portable import feeds, input_shapes
from g2t.serve.student import load_student

LIMIT = 20.0
STUDENTS = ("landmark", "hop")
FEW = {"teach": 5, "distill": 2}


def g2t(*words: object) -> None:
    """Run a command on one thread; what it prints is not of interest."""
    command = [sys.executable, "-m", "g2t_cli", *map(str, words)]
    one = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, env=one, check=True, stdout=subprocess.PIPE)


def measure(path: Path, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Make teacher, cache and students; return the models of `g2t.latency/1` for each student."""
    teacher, cache = folder / "teacher", folder / "cache"
    few = f"train.epochs={FEW['teach']}"
    g2t("teach", path, "--teacher", "gcn", "--split", "cpf:0", "--set", few, "--out", teacher)
    g2t("export-features", teacher, "--graph", path, "--out", cache)
    setup, found = Setup(path, cache, (teacher,)), {}
    for name in STUDENTS:
        student, few = folder / name, f"train.epochs={FEW['distill']}"
        g2t("distill", cache, "--student", name, "--set", few, "--out", student)
        beside = in_onnx(student, setup.graph, folder / "onnx") if name == "landmark" else []
        case = open_case(student, setup)
        found[name] = latency_of(case, "cpu", Silent(), beside)["models"]
    return found


def in_onnx(path: Path, graph: Graph, folder: Path) -> list[Served]:
    """Return an exported student, or none without the packages; it takes its rows from arrays."""
    student = load_student(path)
    try:
        export_model(student, folder, "onnx")
    except MissingExtra as missing:
        print(f"not timed: {missing}", file=sys.stderr)
        return []
    run = open_exported(folder / FILES["onnx"], list(input_shapes(student)))
    inputs = feeds(student, graph.features)

    def ask(place_B: Tensor) -> tuple[Tensor, int]:
        rows = {name: array[place_B.numpy()] for name, array in inputs.items()}
        return torch.from_numpy(run(rows)[0]), len(place_B)

    facts = {"role": "student", "name": f"{student.name} in ONNX Runtime", "fetch": "none"}
    parameters = sum(weight.numel() for weight in student.model.parameters())
    size = {"parameters": parameters, "bytes": (folder / FILES["onnx"]).stat().st_size}
    return [Served(ask, facts, size)]


def print_table(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print every model and batch."""
    print("| with | model | nodes | p50 ms | p99 ms | CPU p50 ms | nodes read | ÷ student | CPU |")
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


def over(teacher: dict[str, Any], student: dict[str, Any]) -> float:
    """Return the smaller ratio, of the clock and of the CPU, for one node."""
    asked, answered = teacher["batches"][0], student["batches"][0]
    return min(float(asked[key] / answered[key]) for key in ("p50_ms", "cpu_p50_ms"))


def main() -> int:
    """Measure one graph and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--graph", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(asked.graph, Path(folder))
    print_table(found)
    models = found["landmark"]
    teacher = next(m for m in models if m["role"] == "teacher" and m["fetch"] == "full")
    ratios = {m["name"]: over(teacher, m) for m in models if m["role"] == "student"}
    for name, ratio in ratios.items():
        print(f"one node, teacher with all its neighbours ÷ {name}, the smaller: {ratio:.1f}")
    return 0 if max(ratios.values()) >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
