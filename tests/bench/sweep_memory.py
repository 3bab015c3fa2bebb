"""Many students of one cache at once: memory grows by the student, not by the cache.

Students are distilled by as many processes, which wait for each other after their first epoch; the
sum of their proportional set sizes (PSS: a page that n processes map counts 1/n in each) is taken
while all are there. The cache is read through the system's page cache, which belongs to nobody. A
cache of the same nodes with narrow layers tells what a student takes without a cache to speak of;
a buffer that holds the whole cache tells what `train.buffer` does. Exits with 1 if a student takes
more than a quarter of the cache on top, or if anything in the cache's folder has changed.

    python tests/bench/sweep_memory.py --students 50
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from g2t.cache.outside import OutsideFiles, OutsideSettings, import_cache
from g2t.distill.train import distill
from g2t.graph.importing import import_graph
from g2t.runtime import Silent

LAYERS, WIDE, NARROW, CLASSES = 4, 768, 16, 5
#: Students that start at once: their imports would only stand in each other's way.
WAVE = 2
SPLIT = "random:40/20/40:0"
#: A copy of the cache would be 1; the buffer and batches of wide rows are not nothing.
MOST_SHARE = 0.25


def megabytes(count: float) -> str:
    """Return bytes as text."""
    return f"{count / 1e6:.0f} MB"


class Pause(Silent):
    """Says that the first epoch is over, and waits to be told to go on."""

    waiting = True

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """Wait once."""
        if self.waiting:
            self.waiting = False
            print("ready", flush=True)
            sys.stdin.readline()


def child(cache: Path, out: Path, seed: int, buffer: str) -> int:
    """Distil one student that reads logits and all layers."""
    values = {
        "student": "mlp",
        "size": "tiny",
        "seed": seed,
        "loss": {"align": {"share": 0.1}},
        "train": {"epochs": 2, "buffer": buffer, "block": 128, "batch": 512},
    }
    distill(cache, out, values, device="cpu", progress=Pause())
    return 0


def write_cache(folder: Path, name: str, rows: int, width: int) -> Path:
    """Make a cache with layers of random numbers; their bytes matter, not their meaning."""
    graph = folder / "graph"
    settings = {"nodes": rows, "features": 16, "degree": 2.0, "classes": CLASSES}
    import_graph("synthetic:csbm", graph, settings, None, Silent(), force=False)
    draw, files = np.random.default_rng(0), []
    for layer in range(LAYERS):
        files.append(folder / f"{name}-{layer}.npy")
        np.save(files[-1], draw.standard_normal((rows, width), np.float32))
    logits = folder / f"{name}-logits.npy"
    np.save(logits, draw.standard_normal((rows, CLASSES), np.float32))
    outside = OutsideFiles(graph, logits, files)
    import_cache(outside, folder / name, OutsideSettings(split=SPLIT))
    for file in (logits, *files):
        file.unlink()
    return folder / name


def measure(cache: Path, count: int, buffer: str) -> tuple[int, int, float]:
    """Return PSS of the first student, mean of what each other adds, and seconds until all wait.

    The first then finishes, all others are killed. Raises RuntimeError if one fails.
    """
    started = time.monotonic()
    processes: list[subprocess.Popen[str]] = []
    first = 0
    with tempfile.TemporaryDirectory(dir=cache.parent) as out:
        while len(processes) < count:
            wave = range(len(processes), min(len(processes) + (WAVE if first else 1), count))
            command = [sys.executable, __file__, "--child", str(cache), "--buffer", buffer]
            news = [
                subprocess.Popen(
                    [*command, "--out", f"{out}/{seed}", "--seed", str(seed)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for seed in wave
            ]
            processes += news
            for process in news:
                if _stream(process.stdout).readline() != "ready\n":
                    raise RuntimeError(f"a student ended with {process.wait()}")
            first = first or pss(news)
        seconds, together = time.monotonic() - started, pss(processes)
        for process in processes[1:]:
            process.kill()
        print(file=_stream(processes[0].stdin), flush=True)
        if processes[0].wait():
            raise RuntimeError("the first student failed")
        for process in processes:
            process.wait()
    return first, (together - first) // max(count - 1, 1), seconds


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def pss(processes: Sequence[subprocess.Popen[str]]) -> int:
    """Return the bytes of memory that processes take together."""
    total = 0
    for process in processes:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        total += next(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
    return total * 1024


def files_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and time of change of all that lies in a folder, and of itself."""
    facts = {path: path.stat() for path in (folder, *folder.rglob("*"))}
    return {str(path): (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in facts.items()}


def main() -> int:
    """Print a line per cache and buffer; exit code 1 where the promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--students", type=int, default=50)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--buffer", default="8MiB")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        return child(asked.child, asked.out, asked.seed, asked.buffer)
    with tempfile.TemporaryDirectory(prefix="g2t-sweep-") as name:
        wide = write_cache(Path(name), "wide", asked.rows, WIDE)
        narrow = write_cache(Path(name), "narrow", asked.rows, NARROW)
        before, size = files_of(wide), _bytes(wide)
        print(f"{asked.rows} nodes; cache {megabytes(size)}, narrow {megabytes(_bytes(narrow))}")
        few = min(4, asked.students)
        base = report("narrow", narrow, few, asked.buffer)
        each = report("wide", wide, asked.students, asked.buffer)
        report("wide, held", wide, few, "1GiB")
        unchanged = before == files_of(wide)
    extra = max(each - base, 0)
    print(
        f"the cache adds {megabytes(extra)} to a student, {extra / size:.1%} of its size; "
        f"its folder is {'unchanged' if unchanged else 'CHANGED'}"
    )
    return 0 if unchanged and extra <= MOST_SHARE * size else 1


def report(name: str, cache: Path, count: int, buffer: str) -> int:
    """Measure, print a line, and return what each further student takes."""
    first, each, seconds = measure(cache, count, buffer)
    print(
        f"{name:11} buffer {buffer:5} {count:3} students: the first {megabytes(first)}, "
        f"each other {megabytes(each)}; all there after {seconds:.0f} s",
        flush=True,
    )
    return each


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
