"""Students by two ranks against one, on the CPU: rows per second, with one thread for each rank.

Makes a graph, a teacher and a cache in a folder (kept for the next time), then lets one rank and
two take turns at the same few epochs. An epoch is timed from one report to the next, validation
included; the first one does not count. Prints a line of JSON for every student: the medians and
their ratio, and by how much the processor time of the first rank falls, which a busy machine does
not change much. Ranks wait for each other: give them idle cores, or the first ratio says nothing.

    python tests/bench/ranks.py --folder /data/scratch
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from g2t.distill.settings import signals_for
from g2t.distill.train import distill
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.ranks import together
from g2t.runtime import Silent

NODES = 20_000
GRAPH = {"nodes": NODES, "degree": 10.0, "classes": 8, "features": 128, "noise": 2.0}
TEACH = {"split": "random:40/20/40:0", "model": {"hidden": 64}, "train": {"epochs": 20}}
#: Enough epochs for landmarks and shares to be past their beginning.
STUDENTS: Mapping[str, Mapping[str, Any]] = {
    "landmark, soft": {"student": "landmark", "preset": "soft", "size": "base"},
    "landmark, paper": {"student": "landmark", "preset": "paper", "size": "base"},
    "hop, soft": {"student": "hop", "preset": "soft", "size": "base"},
}


def make(folder: Path) -> Path:
    """Return a cache, made if it is not there."""
    from g2t.teacher.train import teach

    graph, teacher, cache = (folder / name for name in ("graph", "teacher", "cache"))
    if not cache.exists():
        import_graph("synthetic:csbm", graph, GRAPH, None, Silent(), False)
        teach(graph, teacher, TEACH, device="cpu")
        signals = sorted(signals_for(["soft", "paper"]))
        export(teacher, graph, cache, ExportSettings(hops=3, signals=signals))
    return cache


class Clock(Silent):
    """Takes the time of every epoch."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """Note when an epoch is over."""
        self.times.append((time.perf_counter(), time.process_time()))


def work(cache: Path, out: Path, name: str, epochs: int) -> None:
    """Be one rank; the first one prints the seconds of every epoch but the first.

    Seconds by the clock, and of the processor.
    """
    clock = Clock()
    values = {**STUDENTS[name], "train": {"epochs": epochs, "patience": epochs}}
    with together("cpu") as ranks:
        distill(cache, out, values, device="cpu", force=True, progress=clock, ranks=ranks)
    if ranks.first:
        pairs = zip(clock.times, clock.times[1:], strict=False)
        print(json.dumps([(b[0] - a[0], b[1] - a[1]) for a, b in pairs]))


def measure(cache: Path, name: str, epochs: int, count: int) -> list[tuple[float, float]]:
    """Return the seconds of the epochs of so many ranks."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    command: Sequence[str] = [sys.executable, __file__, "--folder", str(cache.parent)]
    command = [*command, "--work", name, "--epochs", str(epochs)]
    jobs = []
    for rank in range(count):
        places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        env = {**os.environ, **meeting, **places, "OMP_NUM_THREADS": "1"}
        jobs.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    said = [job.communicate()[0] for job in jobs]
    assert all(job.returncode == 0 for job in jobs)
    seconds: list[tuple[float, float]] = json.loads(said[0])
    return seconds


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where to make the cache")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--work", choices=STUDENTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    cache = make(chosen.folder)
    if chosen.work:
        work(cache, chosen.folder / "student", chosen.work, chosen.epochs)
        return
    for name in STUDENTS:
        taken: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for _ in range(chosen.turns):
            for count, seconds in taken.items():
                seconds += measure(cache, name, chosen.epochs, count)
        clock, cpu = (
            [statistics.median(times[kind] for times in seconds) for seconds in taken.values()]
            for kind in range(2)
        )
        rows = [round(NODES / seconds) for seconds in clock]
        ratios = {"ratio": round(rows[1] / rows[0], 2), "cpu_ratio": round(cpu[0] / cpu[1], 2)}
        print(json.dumps({"student": name, "rows_per_second": rows, **ratios}), flush=True)


if __name__ == "__main__":
    main()
