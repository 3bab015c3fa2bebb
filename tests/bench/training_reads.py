"""Reading a cache in training: `Stream` by blocks against the same loop over tensors in memory.

Makes shards like those of a cache (3 layers of 128, 40 logits, 128 features, all fp16) and prints
rows per second, in turn, of fully random rows from memory and of the stream with warm files; then
of the stream with cold files inside a memory limit of a quarter of the cache, and the resident
memory of that process. All hand out batches as training takes them, in float32; no student runs.
Exits with 1 where a target is missed: 0.9 and 0.15 of the speed from memory, 400 MB. The stream
reads in a thread beside the loop, so give it two cores that nobody else uses.

    python tests/bench/training_reads.py --folder /data/scratch
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from cgroup import available, evict, run
from torch import Tensor

from g2t.cache.format import TensorEntry, shard_name
from g2t.cache.reader import Rows
from g2t.cache.stream import Stream
from g2t.stored import TensorFile, open_stored
from g2t.units import format_size, parse_size

WIDTHS = {"teacher-h1": 128, "teacher-h2": 128, "teacher-h3": 128, "logits": 40, "features": 128}
SHARD_ROWS = 65_536
BATCH, BLOCK = 4096, 1024
WARM, COLD, RESIDENT = 0.9, 0.15, 400_000_000


def write_cache(folder: Path, rows: int) -> None:
    """Write the shards of every tensor; the content does not matter, its bytes do."""
    for name, width in WIDTHS.items():
        values = torch.randn(SHARD_ROWS, width).half()
        for index, start in enumerate(range(0, rows, SHARD_ROWS)):
            count = min(SHARD_ROWS, rows - start)
            facts = {name: (torch.float16, (count, width))}
            with TensorFile(folder / shard_name(name, index), facts) as file:
                file.write(name, 0, values[:count])


def open_rows(folder: Path, rows: int) -> dict[str, Rows]:
    """Open every tensor as a cache does."""
    count = -(-rows // SHARD_ROWS)
    return {
        name: Rows(
            TensorEntry(name=name, width=width, dtype="fp16"),
            SHARD_ROWS,
            [open_stored(folder / shard_name(name, index)) for index in range(count)],
        )
        for name, width in WIDTHS.items()
    }


def from_memory(tensors: dict[str, Tensor], rows: int) -> Iterator[int]:
    """Walk an epoch of fully random rows over tensors in memory; yields the rows of each batch."""
    for rows_B in torch.split(torch.randperm(rows), BATCH):
        batch = {name: tensor.index_select(0, rows_B) for name, tensor in tensors.items()}
        yield _hand_out(batch)


def from_stream(stream: Stream) -> Iterator[int]:
    """Walk an epoch of a stream; yields the rows of each batch."""
    for _, batch in stream.epoch(BATCH):
        yield _hand_out(batch)


def _hand_out(batch: dict[str, Tensor]) -> int:
    batch = {name: rows.float() for name, rows in batch.items()}
    return len(batch["logits"])


def rate(epoch: Callable[[], Iterator[int]], seconds: float) -> float:
    """Return the rows per second of a window of epochs."""
    rows, start = 0, time.perf_counter()
    while True:
        for count in epoch():
            rows += count
            if (spent := time.perf_counter() - start) >= seconds:
                return rows / spent


def limited_part(options: argparse.Namespace, folder: Path) -> dict[str, float] | None:
    """Run the stream in a process with a memory limit, files cold; None if it was killed."""
    evict(folder)
    command = [sys.executable, __file__, "--child", str(folder)]
    for name in ("rows", "buffer", "seconds"):
        command += [f"--{name}", str(getattr(options, name))]
    limit = sum(path.stat().st_size for path in folder.iterdir()) // 4
    ended = run(command, limit)
    if ended.returncode:
        print(f"the process in a limit of {limit / 1e6:.0f} MB ended with {ended.returncode}")
        return None
    return {**json.loads(ended.stdout), "resident": ended.peak_bytes, "limit": limit}


def child(options: argparse.Namespace) -> int:
    """Measure the stream alone, in a process of its own."""
    tensors = open_rows(options.child, options.rows)
    stream = Stream(tensors, options.rows, parse_size(options.buffer), BLOCK)
    print(json.dumps({"rate": rate(lambda: from_stream(stream), options.seconds)}))
    return 0


def warm_part(options: argparse.Namespace, folder: Path) -> tuple[float, float, float]:
    """Return the rows per second from memory and from the stream, and the ratio of windows."""
    tensors = open_rows(folder, options.rows)
    stream = Stream(tensors, options.rows, parse_size(options.buffer), BLOCK)
    held = {name: rows.read(0, options.rows) for name, rows in tensors.items()}
    pairs = [
        (
            rate(lambda: from_memory(held, options.rows), options.seconds),
            rate(lambda: from_stream(stream), options.seconds),
        )
        for _ in range(options.windows)
    ]
    memory, streamed = (statistics.median(column) for column in zip(*pairs, strict=True))
    return memory, streamed, statistics.median(ours / theirs for theirs, ours in pairs)


def report(name: str, rows_per_second: float, ratio: float, least: float) -> bool:
    """Print a line of the table; return whether its target is met."""
    target = f"at least {least}" if least else ""
    print(f"{name:34} {rows_per_second / 1e3:8.0f} k rows/s   {ratio:5.2f}   {target}")
    return ratio >= least


def main() -> int:
    """Measure and print a table; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=3_600_000)
    parser.add_argument("--buffer", default="64MiB", help="train.buffer of the stream")
    parser.add_argument("--seconds", type=float, default=6, help="length of a window")
    parser.add_argument("--windows", type=int, default=3, help="pairs of windows with warm files")
    parser.add_argument("--folder", type=Path, help="where to put the shards for a while")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.child:
        return child(options)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="g2t-reads-") as name:
        folder = Path(name)
        write_cache(folder, options.rows)
        size = options.rows * 2 * sum(WIDTHS.values())
        print(
            f"{options.rows} rows, {size / 1e9:.2f} GB; batches of {BATCH}, blocks of {BLOCK}, "
            f"a buffer of {format_size(parse_size(options.buffer))}, {torch.get_num_threads()} "
            f"threads, windows of {options.seconds:g} s"
        )
        memory, streamed, ratio = warm_part(options, folder)
        report("memory, random rows", memory, 1, 0)
        met = report("stream, warm", streamed, ratio, WARM)
        if reason := available():
            print(f"stream, cold in a quarter of the memory: skipped, {reason}")
            return 0 if met else 1
        found = limited_part(options, folder)
    if found is None:
        return 1
    met &= report("stream, cold, limited to 1/4", found["rate"], found["rate"] / memory, COLD)
    print(
        f"limit {found['limit'] / 1e6:.0f} MB, resident {found['resident'] / 1e6:.0f} MB, "
        f"at most {RESIDENT / 1e6:.0f} MB"
    )
    return 0 if met and found["resident"] <= RESIDENT else 1


if __name__ == "__main__":
    sys.exit(main())
