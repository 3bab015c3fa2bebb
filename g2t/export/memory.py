"""How much memory an export may hold, and what fits into it.

The one thing that grows with the graph is the table of the previous layer's messages; it is held in
column panels of `PANEL`, as many at a time as the budget allows. The result does not depend on it.
"""

import os
from pathlib import Path

from g2t.errors import UsageError
from g2t.units import format_size

#: Columns of a panel: 64 bytes of fp16, one cache line.
PANEL = 32

#: Part of the budget for what a process holds itself; the rest is for files being written.
OWN_SHARE = 0.75

#: The sizes that a user is told are multiples of this, which is also the slack between two runs.
GRAIN = 16 * 2**20


def available() -> int:
    """Return the bytes that this process may still take: of the machine, or of its cgroup.

    Ranks that torchrun started on this machine share them.
    """
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
    return min(_free_memory(), *_cgroup_limits()) // (int(ranks) if ranks.isdigit() else 1)


def panels_held(budget: int, panel_bytes: int, panels: int, other_bytes: int) -> int:
    """Return how many panels of a table to hold at a time, at least 1 and at most `panels`.

    `other_bytes` is what the process holds beside them. Raises UsageError, naming the least budget
    that works, where not a single panel fits.
    """
    check_budget(budget, other_bytes + panel_bytes)
    return min(int((budget * OWN_SHARE - other_bytes) // panel_bytes), panels)


def check_budget(budget: int, held: int) -> None:
    """Raise UsageError, naming the least budget that works, where a process must hold more."""
    if budget * OWN_SHARE < held:
        least = (int(held / OWN_SHARE) // GRAIN + 2) * GRAIN
        raise UsageError(
            f"--memory {format_size(budget)} is too small for this graph",
            f"the least that works is --memory {format_size(least)}",
        )


def resident() -> int:
    """Return the anonymous bytes that this process holds now (200 MB where it cannot be told)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 200_000_000


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _cgroup_limits() -> list[int]:
    """Return the memory limits of the cgroups (v1 or v2) that this process is in."""
    limits = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [_free_memory()]
    root = Path("/sys/fs/cgroup")
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        name, base = ("memory.limit_in_bytes", root / "memory") if kinds else ("memory.max", root)
        for folder in (base / path.lstrip("/"), base):
            try:
                limits.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # no such file here, or "max"
                continue
    return limits or [_free_memory()]
