"""Time and memory of calls, on a CPU by its clock, on CUDA by events.

Memory on a CPU is by how much the process grows: the peak of its resident memory during calls over
what it held before, freed memory given back first. Less than a page or what an allocator keeps for
itself is not seen. On CUDA it is what torch has allocated at most, over what it held before.
"""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Took(NamedTuple):
    """Milliseconds by the clock, and those that processors worked for this process (None: CUDA)."""

    ms: float
    cpu_ms: float | None


def timed(ask: Callable[[T], R], question: T, device: torch.device) -> tuple[Took, R]:
    """Return how long it takes until an answer is there, and the answer."""
    if device.type == "cuda":
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        with torch.cuda.device(device):
            start.record()
            answer = ask(question)
            end.record()
        end.synchronize()
        return Took(float(start.elapsed_time(end)), None), answer
    worked, began = time.process_time(), time.perf_counter()
    answer = ask(question)
    ended, busy = time.perf_counter(), time.process_time() - worked
    return Took(1000 * (ended - began), 1000 * busy), answer


def grown(ask: Callable[[T], object], question: T, device: torch.device) -> int | None:
    """Return the bytes that a call takes at its peak; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        ask(question)
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    try:
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text("5")  # the peak is the present from here on
        before = _resident("VmRSS:")
    except (OSError, AttributeError):
        return None  # no Linux, no glibc, or not allowed
    ask(question)
    return max(0, _resident("VmHWM:") - before)


def _resident(field: str) -> int:
    text = STATUS.read_text()
    return int(text.partition(field)[2].split()[0]) * 1024
