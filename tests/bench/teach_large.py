"""Mini-batch training on a graph that no whole forward would fit: peak memory and seeds a second.

    python tests/bench/teach_large.py                 # 2 million nodes, 20 million edges
    python tests/bench/teach_large.py --nodes 250000  # a quick look

A 2-layer GCN of width 128 trains on 1 % of the nodes and validates on another, in batches of 1,024
with 10 neighbours per hop, in a process of its own on cold files, within 4 GiB. The time of an
epoch is that of 3 epochs less that of 1, halved. Leaves with 1 if the limit is missed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cgroup

FEATURES, DEGREE = 128, 10
LIMIT = 4 << 30


def main() -> int:
    """Make the graph, train within the limit, print the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--teacher", default="gcn")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        os.environ["G2T_HOME"] = str(Path(name) / "home")
        make(Path(name), asked.nodes)
        return measure(Path(name), asked.teacher)


def make(folder: Path, nodes: int) -> None:
    """Write the graph in a process of its own."""
    code = "import sys; from pathlib import Path; from large_graph import make_graph; "
    code += f"make_graph(Path(sys.argv[1]), {nodes}, {DEGREE}, {FEATURES})"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, str(folder / "graph")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    time.sleep(2.5)  # files as young as the clock is coarse are not remembered


def measure(folder: Path, teacher: str) -> int:
    """Train for 1 and for 3 epochs; returns the exit code."""
    reason = cgroup.available()
    if reason is not None:
        print(f"limit skipped: {reason}")
    limit = None if reason else LIMIT
    seconds, seeds = {}, 0
    print("| epochs | exit | seconds | peak RSS |\n|---|---|---|---|")
    for epochs in (1, 3):
        shutil.rmtree(folder / "teacher", ignore_errors=True)
        cgroup.evict(folder)
        ended = cgroup.run(command(folder, teacher, epochs), limit)
        seconds[epochs] = ended.seconds
        print(
            f"| {epochs} | {ended.returncode} | {ended.seconds:.1f} "
            f"| {ended.peak_bytes >> 20} MiB |",
            flush=True,
        )
        if ended.returncode:
            return 1
        graph = json.loads((folder / "graph" / "graph.json").read_text())
        seeds = 2 * (graph["nodes"] // 100)
    epoch = (seconds[3] - seconds[1]) / 2
    print(f"{seeds / epoch:,.0f} seeds a second, training and validation")
    return 0


def command(folder: Path, teacher: str, epochs: int) -> list[str]:
    """Return the command line of a training into FOLDER/teacher."""
    sets = {
        "features": "raw",
        "model.hidden": 128,
        "train.batch": 1024,
        "train.fanouts": [10, 10],
        "train.epochs": epochs,
    }
    return [
        *(sys.executable, "-m", "g2t_cli", "teach", str(folder / "graph"), "--quiet"),
        *("--teacher", teacher, "--split", "random:1/1/98", "--out", str(folder / "teacher")),
        *(f"--set={key}={value}" for key, value in sets.items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
