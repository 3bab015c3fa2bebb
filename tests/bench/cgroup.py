"""A command inside a memory limit of its own: cgroup v1 or v2, where this process may make one.

Page cache counts towards the limit too, but only pages that the command itself brings in: call
`evict` on its files first, so that they are cold.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MOUNTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
#: Enters the group, then becomes the command: it is never outside the limit.
ENTER = 'echo $$ > "$0" && exec "$@"'


class Ended(NamedTuple):
    """How a command ended: -9 where the limit killed it; peak is of resident memory (VmHWM)."""

    returncode: int
    peak_bytes: int
    seconds: float
    stdout: str


def available() -> str | None:
    """Return why no limit can be set here, or None where one can."""
    try:
        with limited(1 << 30):
            return None
    except OSError as error:
        return f"no memory cgroup is writable: {error}"


@contextlib.contextmanager
def limited(limit: int) -> Iterator[list[str]]:
    """Make a group with a limit in bytes, swap included; a command after the prefix runs in it.

    Raises OSError where that is not allowed.
    """
    group = _make()
    try:
        if (group / "memory.max").exists():
            (group / "memory.max").write_text(str(limit))
            _set_if_there(group / "memory.swap.max", 0)
        else:
            (group / "memory.limit_in_bytes").write_text(str(limit))
            _set_if_there(group / "memory.memsw.limit_in_bytes", limit)
        yield ["sh", "-c", ENTER, str(group / "cgroup.procs")]
    finally:
        _remove(group)


def run(command: list[str], limit: int | None = None) -> Ended:
    """Run a command, inside a limit of bytes if one is given; its stderr passes through."""
    none: list[str] = []
    group = contextlib.nullcontext(none) if limit is None else limited(limit)
    with group as prefix, tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen([*prefix, *command], stdout=said)
        try:
            peak = 0
            while process.poll() is None:
                peak = max(peak, _resident_peak(process.pid))
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
        seconds = time.perf_counter() - start
        said.seek(0)
        return Ended(process.returncode, peak, seconds, said.read())


def evict(folder: Path) -> None:
    """Drop the files below a folder from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)  # dirty pages stay
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


def _make() -> Path:
    """Make a group at the top of the hierarchy, else below the one of this process."""
    reasons = []
    for parent in _parents():
        group = parent / f"g2t-bench-{os.getpid()}-{time.monotonic_ns()}"
        try:
            group.mkdir()
        except OSError as error:
            reasons.append(str(error))
            continue
        if any((group / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            return group
        group.rmdir()
        reasons.append(f"{parent} has no memory controller for its children")
    raise OSError("; ".join(reasons) or "there is no cgroup file system")


def _parents() -> Iterator[Path]:
    for mount in MOUNTS:
        if (mount / "cgroup.procs").exists():
            yield mount
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            yield MOUNTS[controllers == ""] / path.lstrip("/")


def _set_if_there(path: Path, value: int) -> None:
    """Kernels that do not account for swap lack the file."""
    if path.exists():
        path.write_text(str(value))


def _remove(group: Path) -> None:
    for _ in range(100):  # the kernel may take a moment to let the last process go
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)
    print(f"{group} could not be removed", file=sys.stderr)


def _resident_peak(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
