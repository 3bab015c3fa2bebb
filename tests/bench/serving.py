"""How fast students answer, beside a teacher that fetches the neighbours it needs, in one run.

    python tests/bench/serving.py --graph G --teacher T --student S1 --student S2

Milliseconds per batch at the median and the 99th percentile, and how many times the teacher's
median that is. The teacher and the eager students start from graph and features in memory and fetch
what they need; exported models start from their inputs, made ahead. Then what one answer costs from
a cold start, as a multiple of `import torch`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.sampler import NodeSamplerInput

from g2t import ServedStudent, load_student
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import from_pairs, take_rows
from g2t.graph.scaling import scale_features
from g2t.graph.structure import without_self_loops
from g2t.serve.export import FILES, Format, export_model, open_exported
from g2t.serve.features import no_edges
from g2t.serve.near import Surroundings
from g2t.serve.portable import feeds, input_shapes
from g2t.teacher.frame import Structure
from g2t.teacher.sampling import NeighbourSampler
from g2t.teacher.store import Teacher, read_teacher

BATCHES = (1, 64, 4096)
FORMATS: tuple[Format, ...] = ("torch-export", "onnx")
#: Runs of one measurement: until so many seconds are over, within these bounds.
SECONDS, LEAST, MOST = 3.0, 5, 300
COLD = 5
#: Nodes that an exported model answers at once where its classes are compared.
CHUNK = 256

#: Takes the nodes of a batch, and returns what is measured: to answer for them.
Answer = Callable[[Tensor], Callable[[], object]]


def measured(answer: Answer, nodes: int, batch: int) -> tuple[float, float]:
    """Return the median and the 99th percentile in milliseconds, over batches drawn alike."""
    draw = torch.Generator().manual_seed(0)
    answer(torch.randint(0, nodes, (batch,), generator=draw))()
    taken: list[float] = []
    while len(taken) < LEAST or (sum(taken) < SECONDS and len(taken) < MOST):
        index_B = torch.randint(0, nodes, (batch,), generator=draw)
        run = answer(index_B)
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    taken.sort()
    return 1e3 * statistics.median(taken), 1e3 * taken[int(0.99 * (len(taken) - 1) + 0.5)]


def of_teacher(teacher: Teacher, graph: Graph) -> Answer:
    """Return the teacher over exact neighbourhoods, fetched anew for every batch."""
    features = scale_features(graph.features, teacher.facts["features"]["scaling"])
    degree_N = without_self_loops(graph.edges).counts_N
    whole = [-1] * teacher.model.reach
    sampler = NeighbourSampler(graph.edges, whole, torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def answer(index_B: Tensor) -> Tensor:
        seeds = torch.unique(index_B)
        found = sampler.sample_from_nodes(NodeSamplerInput(None, seeds))
        edges = from_pairs(found.row, found.col, len(found.node))
        structure = Structure(edges, degree_N[found.node], torch.device("cpu"))
        trace = teacher.model(take_rows(features, found.node), structure)
        return trace.logits_NC[torch.searchsorted(seeds, index_B)]  # type: ignore[no-any-return]

    return lambda index_B: partial(answer, index_B)


def eager(student: ServedStudent, graph: Graph) -> Answer:
    """Return the student in plain PyTorch, with the neighbours that it reads."""
    surroundings = Surroundings(graph.features, graph.edges)

    def answer(index_B: Tensor) -> object:
        if not student.hops:
            own = take_rows(graph.features, index_B)
            return list(student.answers(own, no_edges(len(own)), None))
        seeds, place_B = torch.unique(index_B, return_inverse=True)
        near = surroundings.near(seeds, student.hops)
        return list(student.answers_near(near, place_B, torch.full_like(place_B, student.hops)))

    return lambda index_B: partial(answer, index_B)


def exported(student: ServedStudent, graph: Graph, to: Format, folder: Path) -> Answer:
    """Return the exported student on inputs that were made ahead for every node."""
    made = export_model(student, folder / f"{student.name}-{to}", to)
    run = open_exported(made / FILES[to], list(input_shapes(student)))
    inputs = feeds(student, graph.features, graph.edges, hops=student.hops)
    labels = student.predict(graph.features, graph.edges, hops=student.hops).logits_NC.argmax(1)
    chosen = []
    for start in range(0, graph.nodes, CHUNK):
        part = {name: array[start : start + CHUNK] for name, array in inputs.items()}
        chosen += run(part)[0].argmax(1).tolist()
    same = sum(a == b for a, b in zip(chosen, labels.tolist(), strict=True))
    print(f"{student.name}, {to}: {same} of {graph.nodes} nodes get the student's own class")

    def answer(index_B: Tensor) -> Callable[[], object]:
        return partial(run, {name: array[index_B.numpy()] for name, array in inputs.items()})

    return answer


def cold(student: Path, width: int) -> tuple[float, float]:
    """Return the median seconds of one answer from a cold start, and of `import torch`."""
    row = json.dumps({"indices": [0, width - 1]}) + "\n"
    commands = {
        "predict": [sys.executable, "-m", "g2t_cli", "predict", str(student), "-"],
        "torch": [sys.executable, "-c", "import torch"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(COLD):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, input=row, capture_output=True, text=True, check=True)
            taken[name].append(time.perf_counter() - start)
    return statistics.median(taken["predict"]), statistics.median(taken["torch"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, action="append", required=True)
    arguments = parser.parse_args()
    graph, teacher = read_graph(arguments.graph), read_teacher(arguments.teacher)
    with tempfile.TemporaryDirectory() as place:
        rows: dict[str, Any] = {f"teacher {teacher.name}, eager": of_teacher(teacher, graph)}
        for path in arguments.student:
            student = load_student(path)
            rows[f"{student.name}, eager"] = eager(student, graph)
            for to in FORMATS:
                rows[f"{student.name}, {to}"] = exported(student, graph, to, Path(place))
        print(f"{graph.name}: {graph.nodes} nodes, {torch.get_num_threads()} thread(s)")
        heads = [f"{batch}: p50 | p99 | × teacher" for batch in BATCHES]
        print(f"| ms per batch of | {' | '.join(heads)} |")
        print("|---" * (1 + 3 * len(BATCHES)) + "|")
        first: list[float] = []
        for name, answer in rows.items():
            cells = []
            for i, batch in enumerate(BATCHES):
                p50, p99 = measured(answer, graph.nodes, batch)
                first += [p50] if len(first) < len(BATCHES) else []
                cells.append(f"{p50:.2f} | {p99:.2f} | {p50 / first[i]:.3g}")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
        student = load_student(arguments.student[0])
        predict, bare = cold(arguments.student[0], student.width)
        print(
            f"one node from a cold start: g2t predict {predict:.2f} s, import torch {bare:.2f} s, "
            f"{predict / bare:.2f} ×"
        )


if __name__ == "__main__":
    main()
