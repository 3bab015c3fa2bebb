"""What an answer costs: a student beside its teachers and their neighbour fetch, `g2t.latency/1`.

One node, then batches. All models answer for the same nodes, in turn, on the same threads: a turn
is `TURN` calls of one model, each for other nodes, so that a noisy machine hits all and each has
its own caches warm. What comes first is not counted. Fetching, gathering features and the forward
pass count; reading files, and what is done once for the graph (scaled features, degrees, a
teacher's Â), do not. A student of hops fetches by the code that `g2t predict --graph` runs.
On a busy machine long calls lose more of the clock than short ones: trust `cpu_p50_ms` there.

    {"schema": "g2t.latency/1",
     "device": "cpu", "threads": 1, "nodes": 13381,
     "models": [{"role": "student" | "teacher",
                 "name": "landmark", "member": None,    # of several teachers: 1, 2, …
                 "fetch": "none" | "full" | "drawn",    # neighbours: none, all within reach, some
                 "hops": None | int,                    # how far it fetches; None: it never does
                 "fanouts": None | [10, 10],            # of drawn neighbours
                 "parameters": int, "bytes": int,       # of the weights on disk
                 "batches": [{"nodes": 1,               # of a call
                              "calls": 200, "p50_ms": float,
                              "p99_ms": float | None,   # None of fewer than 100 calls
                              "cpu_p50_ms": float | None,   # work of the process; None on CUDA
                              "nodes_per_second": float,    # nodes of all calls / time of all calls
                              "reads": float,           # nodes read by a call, mean
                              "peak_bytes": int | None, # see `g2t.evaluate.clock`
                              "over_student": float,    # p50 / p50 of the first model
                              "cpu_over_student": float | None}]}]}     # the same of cpu_p50

The first model is the student that gives the test score. Several teachers are asked one by one;
their mean takes the sum. Batches are those of `SIZES`, the last of all nodes where there are fewer.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from g2t.evaluate.case import Case
from g2t.evaluate.clock import Took, grown, timed
from g2t.evaluate.ready import Served, served
from g2t.runtime import Progress, choose_device

SCHEMA = "g2t.latency/1"

#: Nodes of a call.
SIZES = (1, 64, 4096)

#: Calls of a model with batches of one size: at most, in a turn, and before, not counted. A last
#: turn begins within so many seconds.
MOST, TURN, WARM, SECONDS = 200, 5, 3, 20.0

#: A 99th percentile of fewer calls is their maximum under another name.
TAIL = 100


def latency_of(
    case: Case, device: str, progress: Progress, beside: Sequence[Served] = ()
) -> dict[str, Any]:
    """Measure a student, its teachers, and models `beside` these, as `g2t.latency/1`.

    Those beside are told last. Raises MissingExtra without the device. Takes about half a minute at
    most for each of three batches, more only where a few calls do. In memory every model has its
    own copy of the features as it reads them.
    """
    where = choose_device(device)
    models, count = [*served(case, where), *beside], len(case.split.whole.nodes)
    sizes = sorted({min(size, count) for size in SIZES})
    rows: list[list[dict[str, Any]]] = [[] for _ in models]
    for done, size in enumerate(sizes, 1):
        found = _measure(models, size, count, where)
        for row, figures in zip(rows, found, strict=True):
            row.append(figures | _over(figures, found[0]))
        progress.update("latency", done, len(sizes), {"nodes": size})
    return {
        "schema": SCHEMA,
        "device": str(where),
        "threads": torch.get_num_threads(),
        "nodes": count,
        "models": [
            {**model.facts, **model.size, "batches": row}
            for model, row in zip(models, rows, strict=True)
        ],
    }


def _measure(
    models: Sequence[Served], size: int, count: int, device: torch.device
) -> list[dict[str, Any]]:
    """Return the figures of every model for batches of one size."""
    batches = Rotation(count, size)
    reads: list[list[int]] = [[] for _ in models]
    took: list[list[Took]] = [[] for _ in models]
    for model in models:
        for _ in range(WARM):
            model.ask(batches.next())
    began = time.perf_counter()
    while not took[0] or (len(took[0]) < MOST and time.perf_counter() - began < SECONDS):
        turn = [batches.next() for _ in range(TURN)]
        for model, times, read in zip(models, took, reads, strict=True):
            for place_B in turn:
                spent, (_, nodes) = timed(model.ask, place_B, device)
                times.append(spent)
                read.append(nodes)
    peaks = [_peak(model, batches, device) for model in models]
    return [
        {**_figures(times, size), "reads": statistics.mean(read), "peak_bytes": peak}
        for times, read, peak in zip(took, reads, peaks, strict=True)
    ]


def _figures(times: Sequence[Took], size: int) -> dict[str, Any]:
    clock = [took.ms for took in times]
    busy = [took.cpu_ms for took in times if took.cpu_ms is not None]
    return {
        "nodes": size,
        "calls": len(times),
        "p50_ms": statistics.median(clock),
        "p99_ms": quantile(clock, 0.99) if len(times) >= TAIL else None,
        "cpu_p50_ms": statistics.median(busy) if busy else None,
        "nodes_per_second": 1000 * size * len(times) / sum(clock),
    }


def _over(figures: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, float | None]:
    """Return how many times as long as the student's a median is."""
    cpu = None
    if figures["cpu_p50_ms"] is not None and student["cpu_p50_ms"]:
        cpu = figures["cpu_p50_ms"] / student["cpu_p50_ms"]
    return {"over_student": figures["p50_ms"] / student["p50_ms"], "cpu_over_student": cpu}


def _peak(model: Served, batches: "Rotation", device: torch.device) -> int | None:
    """Return the most that a call takes, of a few."""
    found = [grown(model.ask, batches.next(), device) for _ in range(3)]
    known = [peak for peak in found if peak is not None]
    return max(known) if known else None


class Rotation:
    """Batches of distinct nodes, drawn without replacement until all have had their turn."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self.generator = torch.Generator().manual_seed(0)
        self.left = torch.empty(0, dtype=torch.int64)

    def next(self) -> Tensor:
        """Return the places of the next nodes, int64 [B]."""
        if len(self.left) < self.size:
            self.left = torch.randperm(self.count, generator=self.generator)
        batch_B, self.left = self.left[: self.size], self.left[self.size :]
        return batch_B


def quantile(values: Sequence[float], share: float) -> float:
    """Return the ⌈share · n⌉-th smallest value."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def answer_p50(latency: Mapping[str, Any]) -> float:
    """Return the median milliseconds of the student's answer for one node."""
    return float(latency["models"][0]["batches"][0]["p50_ms"])
