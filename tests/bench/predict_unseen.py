"""Nodes never seen, predicted from a user's files as they stand, against `g2t eval`'s answers.

    python tests/bench/predict_unseen.py --run RUN --nodes T.csv --edges E.csv --features F.json

RUN holds graph/ and teacher/ of the production setting, and one or more student-NAME/.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from g2t.evaluate.answers import Asked
from g2t.graph.bundle import read_graph
from g2t.graph.splits import read_split
from g2t.student.store import read_student
from g2t.task import decide


def predicted(student: Path, options: list[str]) -> dict[str, str]:
    """Return the class of every node, by the command line."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.jsonl"
        command = [sys.executable, "-m", "g2t_cli", "predict", str(student), *options]
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    return {row["id"]: row["class"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "nodes", "edges", "features"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    graph = read_graph(arguments.run / "graph")
    split = read_split(arguments.run / "teacher" / "split.safetensors")
    ids = graph.ids or tuple(map(str, range(graph.nodes)))
    files = [str(arguments.nodes), "--features", str(arguments.features), "--id-column", "id"]
    edges = ["--edges", str(arguments.edges)]
    for folder in sorted(arguments.run.glob("student-*")):
        student = read_student(folder).model
        evaluated = Asked(student, graph, split, None).answers(None)[0]
        assert evaluated.held_UC is not None
        chosen_U = decide(graph.task, evaluated.held_UC)
        asked = predicted(folder, [*files, *(edges if student.hops else [])])
        same = sum(
            asked[ids[node]] == graph.classes[index]
            for node, index in zip(split.held.tolist(), chosen_U.tolist(), strict=True)
        )
        print(f"{folder.name}: {same} of {len(split.held)} unseen nodes as g2t eval answers")


if __name__ == "__main__":
    main()
