"""Runs `g2t` commands in forked children, which start at once: torch is loaded once, here.

Started by `forks.py`, which says what there is to do in lines of JSON. A child may be told to meet
a fault at its n-th operation on files: to be killed, to find the disk full, or to wait.
"""

import ctypes
import errno
import importlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

#: Operations on files as Python's audit events name them, with the place of a path and of its
#: folder's descriptor among their arguments.
EVENTS = {
    "os.rename": (1, 3),
    "os.remove": (0, 1),
    "os.rmdir": (0, 1),
    "os.mkdir": (0, 2),
    "os.link": (1, 3),
    "os.chmod": (0, 2),
    "os.truncate": (0, None),
}
#: What a full disk refuses.
GROWING = {"open", "write", "sync", "os.rename", "os.mkdir", "os.link"}
#: What every child needs sooner or later.
LOADED = (
    *("g2t_cli.app", "g2t.export.add", "g2t.cache.convert", "g2t.cache.verify"),
    *("g2t.distill.train", "g2t.evaluate", "rich", "shlex"),
)


class Fault:
    """Counts this process's operations on files below a folder and breaks one of them."""

    def __init__(self, root: str, log: str, at: int, do: str, only: str) -> None:
        self.root, self.at, self.do, self.only = root, at, do, re.compile(only)
        self.go = Path(f"{log}.go")
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.count = 0

    def install(self) -> None:
        """Watch from now on; there is no way back."""
        pwrite = os.pwrite

        def watched_fsync(file: int) -> None:
            self.meet("sync", _path_of(file))

        def watched_pwrite(file: int, data: Any, position: int) -> int:
            half = memoryview(data)[: len(data) // 2]
            self.meet("write", _path_of(file), lambda: pwrite(file, half, position))
            return pwrite(file, data, position)

        os.fsync, os.pwrite = watched_fsync, watched_pwrite  # type: ignore[assignment]
        sys.addaudithook(self.hear)

    def hear(self, event: str, values: tuple[Any, ...]) -> None:
        """Take an audit event; what this raises, the operation raises."""
        if event == "open":
            path, _, flags = values
            if isinstance(path, str | bytes | os.PathLike) and flags & (os.O_WRONLY | os.O_RDWR):
                self.meet(event, os.fspath(path))
        elif event in EVENTS:
            place, folder = EVENTS[event]
            path = os.fspath(values[place])
            if folder is not None and isinstance(values[folder], int) and values[folder] >= 0:
                path = os.path.join(_path_of(values[folder]), path)  # noqa: PTH118
            self.meet(event, path)

    def meet(self, event: str, path: Any, half: Callable[[], object] = lambda: None) -> None:
        """Count one operation, and break it if it is its turn."""
        path = os.fsdecode(path)
        if not path.startswith(self.root) or not self.only.search(f"{event} {path}"):
            return
        self.count += 1
        os.write(self.log, f"{self.count}\t{event}\t{path}\n".encode())
        full = self.do == "full" and self.count >= self.at and event in GROWING
        if full:
            named = None if event in ("write", "sync") else path  # as the system calls do
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), named)
        if self.count != self.at:
            return
        if self.do == "kill":
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.do == "wait":
            os.write(self.log, b"0\twaiting\t\n")
            while not self.go.exists():
                time.sleep(0.01)


def _path_of(file: int) -> str:
    return str(Path(f"/proc/self/fd/{file}").readlink())


def patch(target: str, value: Any) -> None:
    """Set `package.module.NAME`; a number for a function is what it shall return."""
    module, _, name = target.rpartition(".")
    place = importlib.import_module(module)
    constant = not callable(getattr(place, name))
    setattr(place, name, value if constant else lambda *given: value)


def obey_permissions() -> None:
    """Give up what lets root read and write everything: DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words first
    done = libc.capget(header, held) == 0
    for word in range(3):
        held[word] &= ~0b1110
    if not done or libc.capset(header, held) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")


def run(job: dict[str, Any]) -> NoReturn:
    """Become one g2t command."""
    for stream in ("stdout", "stderr"):
        file = os.open(job[stream], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, getattr(sys, stream).fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(job["env"])
    os.umask(job["umask"])
    os.fsync = lambda fd: None  # a kill loses nothing that was written, only a loss of power does
    for target, value in job["patches"].items():
        patch(target, value)
    if job["plain"] and os.geteuid() == 0:
        obey_permissions()
    if job["fault"] is not None:
        Fault(**job["fault"]).install()
    code = 1
    try:
        from g2t_cli.app import app

        app(job["arguments"], prog_name="g2t")
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float) -> int | None:
    """Return how a child ended: its code, minus a signal's number, or None where it did not."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.005)


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for module in LOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = {"code": wait(asked["wait"], asked["seconds"])}
        else:
            pid = os.fork()
            if pid == 0:
                run(asked)
            answer = {"pid": pid}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
