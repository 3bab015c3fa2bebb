"""Many short `g2t` processes: started at once, made to fail at a chosen place, and looked at."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]

#: Column panels of 8, all of which are held. The width of a panel decides how sums are rounded.
PANELS = {"g2t.export.layer.PANEL": 8}
#: The same, held one at a time: a layer of 16 columns then takes two passes over the edges.
SMALL_PANELS = {**PANELS, "g2t.export.walk.panels_held": 1}


@dataclass(frozen=True)
class Fault:
    """What happens at the `at`-th operation on a file below `root`; all are listed in `log`.

    `kill`: SIGKILL, in the middle where it is a write. `full`: no room from then on. `wait`: the
    process says so in the log and sleeps until `let_go`. `at` 0: nothing happens. Operations whose
    "event path" does not match `only` do not count.
    """

    root: Path
    log: Path
    at: int = 0
    do: Literal["kill", "full", "wait"] = "kill"
    only: str = ""

    def heard(self) -> list[tuple[str, str]]:
        """Return every operation so far: its event and its path."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(event, path) for _, event, path in (line.split("\t") for line in lines)]

    def await_it(self) -> None:
        """Return when the process has come to where it waits."""
        until = time.monotonic() + 30
        while ("waiting", "") not in self.heard():
            assert time.monotonic() < until, "the process never came there"
            time.sleep(0.01)

    def let_go(self) -> None:
        """Let the process that waits go on."""
        Path(f"{self.log}.go").touch()


@dataclass(frozen=True)
class How:
    """In which surroundings a command runs.

    `patches` set constants of modules by their names; `plain`: even root has to obey permissions.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    patches: Mapping[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    umask: int = 0o022
    plain: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is minus a signal's number where one killed it."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Job:
    """A command that runs."""

    pid: int
    stdout: Path
    stderr: Path


class Forks:
    """A process that has loaded torch and forks a child for every command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "RANK", "WORLD"))}
        env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"}
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self._count = 0

    def start(self, arguments: list[object], how: How | None = None) -> Job:
        """Start a command."""
        self._count += 1
        files = [self.folder / f"{self._count}.{stream}" for stream in ("out", "err")]
        for file in files:
            file.touch()
        how = how or How()
        told = {**asdict(how), "arguments": [str(argument) for argument in arguments]}
        told |= {"stdout": str(files[0]), "stderr": str(files[1])}
        answer = self._ask(json.dumps(told, default=str))
        return Job(answer["pid"], *files)

    def end(self, job: Job, seconds: float = 60.0) -> Ended:
        """Wait for a command; one that takes too long is killed and fails the test."""
        code = self._ask(json.dumps({"wait": job.pid, "seconds": seconds}))["code"]
        out, err = job.stdout.read_text(), job.stderr.read_text()
        assert code is not None, f"still running after {seconds} s: {err}"
        return Ended(code, out, err)

    def is_running(self, job: Job) -> bool:
        """Tell whether a command has not ended yet."""
        state = Path(f"/proc/{job.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"

    def run(self, arguments: list[object], how: How | None = None) -> Ended:
        """Run a command to its end."""
        return self.end(self.start(arguments, how))

    def close(self) -> None:
        """Let the process go; its children have been waited for."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=20)

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        assert isinstance(answer, dict)
        return answer


def content(folder: Path) -> dict[str, bytes]:
    """Return what must be the same in any two runs: every file but record and log."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("run.json", "metrics.jsonl")
    }


def digest(folder: Path) -> str:
    """Return the identity of an artefact, as its record says."""
    return str(json.loads((folder / "run.json").read_text())["digest"])


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of every (tensor, shard) that stands in a folder or its scratch.

    Sums over some columns count too; they go when they are no longer needed.
    """
    stands = re.compile(r".*-\d{5}(\.safetensors)?")
    found = {}
    for file in (*folder.glob("*"), *folder.glob("scratch/*")):
        with suppress(FileNotFoundError):  # sums go when their shard is written
            facts = file.stat()
            if stands.fullmatch(file.name):
                found[str(file.relative_to(folder))] = (facts.st_ino, facts.st_mtime_ns)
    return found


def names(folder: Path) -> list[str]:
    """Return the names of what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())
